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

constexpr std::size_t kAnyWidth = 1000;

}  // namespace

ComparisonBoard::ComparisonBoard(std::FILE* stream, bool quiet, const compare::Design& design,
                                 std::string title, int jobs)
    : stream_(stream),
      quiet_(quiet),
      moving_(is_terminal(stream)),
      design_(design),
      steps_(design.contenders.front().config.steps),
      title_(std::move(title)),
      jobs_(jobs),
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
  std::string name = design_.contenders[run.contender].name + " " + compare::label(run, design_);
  const bool names_seed = run.purpose != compare::Purpose::sweep || design_.sweep.seeds > 1;
  return names_seed ? name : name + fmt::format(" seed {}", run.seed);
}

std::string ComparisonBoard::status(std::span<const PlannedRun> runs, const PlannedRun& current,
                                    std::size_t columns) const {
  const auto done = std::ranges::count_if(runs, compare::ended);
  const std::string head =
      title_ + fmt::format("run {}/{}  ", std::min(done + 1, std::ssize(runs)), runs.size());
  const std::string name = name_of(current);
  std::string place, detail;
  if (current.state == RunState::running) {
    place = fmt::format("  {}/{}", current.step, steps_);
    if (std::isfinite(current.loss)) detail = fmt::format("  loss {:.4f}", current.loss);
  } else if (current.state == RunState::diverged) {
    place = fmt::format("  diverged at step {}", current.step);
  } else {
    detail = fmt::format("  validation loss {:.4f}", current.validation_loss);
  }
  const std::string left = fmt::format("  left {}", duration(compare::seconds_left(runs, steps_, jobs_)));
  const auto width = [&](std::size_t of_name) {
    return head.size() + of_name + place.size() + detail.size() + left.size();
  };
  if (width(display_width(name)) > columns) detail.clear();
  const std::size_t others = width(0);
  const std::size_t room = others + 5 < columns ? columns - others : 5;
  return head + shortened(name, room) + place + detail + left;
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
  Table table{.heads = {"validation loss"}, .rows = {}, .left = {0}};
  for (const compare::Contender& contender : design_.contenders) table.rows.push_back({contender.name});
  for (const PlannedRun& run : runs) {
    const std::string head = compare::label(run, design_);
    auto column = static_cast<std::size_t>(std::ranges::find(table.heads, head) - table.heads.begin());
    if (column == table.heads.size()) {
      table.heads.push_back(head);
      for (auto& row : table.rows) row.emplace_back();
    }
    table.rows[run.contender][column] = cell(run);
  }
  return lines_of(table);
}

void ComparisonBoard::show(std::span<const PlannedRun> runs, const PlannedRun& current) {
  if (quiet_) return;
  const auto now = Clock::now();
  if (now < next_ && !compare::ended(current)) return;
  if (!moving_) {
    next_ = now + kLineInterval;
    cli::show(stream_, status(runs, current, kAnyWidth) + "\n");
    return;
  }
  next_ = now + kMovingInterval;
  const auto columns = static_cast<std::size_t>(std::max(terminal_columns(stream_) - 1, 1));
  std::vector<std::string> lines = table(runs);
  const auto too_wide = [&](const std::string& line) { return display_width(line) > columns; };
  if (std::ranges::any_of(lines, too_wide) || std::ssize(lines) + 2 > terminal_rows(stream_)) lines.clear();
  lines.push_back(status(runs, current, columns));
  draw(lines);
}

void ComparisonBoard::notice(const std::string& text) {
  if (quiet_) return;
  clear();
  cli::show(stream_, wrapped(printable(text), stream_) + "\n");
}

}  // namespace aurora::cli
