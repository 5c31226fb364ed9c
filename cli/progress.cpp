#include "progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "command.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {
using Clock = std::chrono::steady_clock;
constexpr auto kMovingInterval = std::chrono::milliseconds(100);
constexpr auto kLineInterval = std::chrono::seconds(5);
constexpr int kLongestBar = 24;
}  // namespace

std::string progress_text(const trainer::Progress& progress) {
  std::string text = fmt::format("{}/{}  loss {:.4f}", progress.step, progress.steps, progress.loss);
  if (std::isfinite(progress.validation_loss)) text += fmt::format("  val {:.4f}", progress.validation_loss);
  text += fmt::format("  {} tokens/s  left {}  optimizer {}", grouped(progress.tokens_per_second),
                      duration(progress.seconds_left), percent(progress.optimizer_share));
  if (std::isfinite(progress.dead) || std::isfinite(progress.starved)) {
    text += fmt::format("  dead {}  starved {}", percent(progress.dead), percent(progress.starved));
  }
  return text;
}

std::string progress_bar(double share, int width) {
  const int inside = std::min(width, kLongestBar) - 2;
  if (inside < 4) return {};
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * inside);
  return fmt::format("[{:=<{}}{: <{}}]", "", full, "", inside - full);
}

ProgressLine::ProgressLine(std::FILE* stream, bool quiet)
    : stream_(stream),
      quiet_(quiet),
      moving_(is_terminal(stream)),
      color_(wants_color(stream)),
      next_(Clock::now()) {
  if (!moving_) next_ += kLineInterval;
}

ProgressLine::~ProgressLine() {
  if (drawn_) cli::show(stream_, "\n");
}

void ProgressLine::clear() {
  if (drawn_) cli::show(stream_, "\r\x1b[K");
  drawn_ = false;
}

void ProgressLine::show(const trainer::Progress& progress) {
  const double share =
      static_cast<double>(progress.step) / static_cast<double>(std::max<Index>(progress.steps, 1));
  show(share, progress_text(progress));
}

void ProgressLine::show(double share, const std::string& text) {
  if (quiet_) return;
  const auto now = Clock::now();
  if (now < next_ && share < 1) return;
  if (!moving_) {
    next_ = now + kLineInterval;
    cli::show(stream_, text + "\n");
    return;
  }
  next_ = now + kMovingInterval;
  const int columns = terminal_columns(stream_) - 1;
  std::string bar = progress_bar(share, columns - static_cast<int>(text.size()) - 1);
  clear();
  if (!bar.empty()) bar = fmt::format("{}{}{} ", color_ ? "\x1b[36m" : "", bar, color_ ? "\x1b[0m" : "");
  cli::show(stream_, bar + text.substr(0, static_cast<std::size_t>(std::max(columns, 1))));
  drawn_ = true;
}

void ProgressLine::notice(const std::string& text) {
  if (quiet_) return;
  clear();
  cli::show(stream_, printable(text) + "\n");
}

}  // namespace aurora::cli
