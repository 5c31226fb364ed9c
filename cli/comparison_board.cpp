#include "comparison_board.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "command.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {

using compare::PlannedRun;
using compare::RunState;
using Clock = std::chrono::steady_clock;
constexpr auto kMovingInterval = std::chrono::milliseconds(200);
constexpr auto kLineInterval = std::chrono::seconds(5);

bool ended(const PlannedRun& run) {
  return run.state == RunState::finished || run.state == RunState::diverged;
}

}  // namespace

ComparisonBoard::ComparisonBoard(std::FILE* stream, bool quiet, const compare::Design& design,
                                 std::string title)
    : stream_(stream),
      quiet_(quiet),
      moving_(is_terminal(stream)),
      design_(design),
      steps_(design.contenders.front().config.steps),
      title_(std::move(title)),
      next_(Clock::now()) {
  if (!moving_) next_ += kLineInterval;
}

ComparisonBoard::~ComparisonBoard() {
  if (drawn_lines_ > 0) cli::show(stream_, "\n");
}

void ComparisonBoard::clear() {
  if (drawn_lines_ > 1) cli::show(stream_, fmt::format("\x1b[{}A", drawn_lines_ - 1));
  if (drawn_lines_ > 0) cli::show(stream_, "\r\x1b[J");
  drawn_lines_ = 0;
}

void ComparisonBoard::draw(const std::vector<std::string>& lines) {
  clear();
  cli::show(stream_, fmt::format("{}", fmt::join(lines, "\n")));
  drawn_lines_ = static_cast<int>(lines.size());
}

std::string ComparisonBoard::name_of(const PlannedRun& run) const {
  const std::string& name = design_.contenders[run.contender].name;
  return run.factor ? fmt::format("{} lr x {} seed {}", name, compare::number_text(*run.factor), run.seed)
                    : fmt::format("{} seed {}", name, run.seed);
}

std::string ComparisonBoard::status(std::span<const PlannedRun> runs, const PlannedRun& current) const {
  const auto done = std::ranges::count_if(runs, ended);
  std::string text = title_ + fmt::format("run {}/{}  {}", std::min(done + 1, std::ssize(runs)), runs.size(),
                                          name_of(current));
  if (current.state == RunState::running) {
    text += fmt::format("  {}/{}", current.step, steps_);
    if (std::isfinite(current.loss)) text += fmt::format("  loss {:.4f}", current.loss);
  } else if (current.state == RunState::diverged) {
    text += fmt::format("  diverged at step {}", current.step);
  } else {
    text += fmt::format("  validation loss {:.4f}", current.validation_loss);
  }
  return text + fmt::format("  left {}", duration(compare::seconds_left(runs, steps_)));
}

std::string ComparisonBoard::cell(const PlannedRun& run) const {
  switch (run.state) {
    case RunState::waiting:
      return "waiting";
    case RunState::running:
      return fmt::format("{}/{}", run.step, steps_);
    case RunState::finished:
      return fmt::format("{:.4f}", run.validation_loss);
    case RunState::diverged:
      return fmt::format("diverged {}", run.step);
  }
  return {};
}

std::vector<std::string> ComparisonBoard::table(std::span<const PlannedRun> runs) const {
  // Rows and columns of text; the first row names the columns.
  std::vector<std::vector<std::string>> rows(design_.contenders.size() + 1);
  rows[0].emplace_back("validation loss");
  for (std::size_t i = 0; i < design_.contenders.size(); ++i)
    rows[i + 1].push_back(design_.contenders[i].name);
  for (const PlannedRun& run : runs) {
    if (run.contender == 0) {
      rows[0].push_back(run.factor ? "lr x " + compare::number_text(*run.factor)
                                   : fmt::format("seed {}", run.seed));
    }
    rows[run.contender + 1].push_back(cell(run));
  }
  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::vector<std::string> lines;
  for (const auto& row : rows) {
    std::string line = fmt::format("{:<{}}", row[0], widths[0]);
    for (std::size_t i = 1; i < row.size(); ++i) line += fmt::format("  {:>{}}", row[i], widths[i]);
    lines.push_back(std::move(line));
  }
  return lines;
}

void ComparisonBoard::show(std::span<const PlannedRun> runs, const PlannedRun& current) {
  if (quiet_) return;
  const auto now = Clock::now();
  if (now < next_ && !ended(current)) return;
  if (!moving_) {
    next_ = now + kLineInterval;
    cli::show(stream_, status(runs, current) + "\n");
    return;
  }
  next_ = now + kMovingInterval;
  const auto columns = static_cast<std::size_t>(std::max(terminal_columns(stream_) - 1, 1));
  std::vector<std::string> lines = table(runs);
  const auto too_wide = [&](const std::string& line) { return line.size() > columns; };
  if (std::ranges::any_of(lines, too_wide) || std::ssize(lines) + 2 > terminal_rows(stream_)) lines.clear();
  lines.push_back(status(runs, current).substr(0, columns));
  draw(lines);
}

void ComparisonBoard::notice(const std::string& text) {
  if (quiet_) return;
  clear();
  cli::show(stream_, printable(text) + "\n");
}

}  // namespace aurora::cli
