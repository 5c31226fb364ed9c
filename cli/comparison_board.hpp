#pragma once

#include <chrono>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "run_all.hpp"

namespace aurora::cli {

/// Progress of a comparison. On a terminal a table that is drawn in place, an optimizer a row, a run a
/// column; where it does not fit, one moving line. Elsewhere a line per ended run and one every few seconds.
class ComparisonBoard {
 public:
  ComparisonBoard(std::FILE* stream, bool quiet, const compare::Design& design, std::string title, int jobs);
  ComparisonBoard(const ComparisonBoard&) = delete;
  ComparisonBoard& operator=(const ComparisonBoard&) = delete;
  ~ComparisonBoard();

  void show(std::span<const compare::PlannedRun> runs, const compare::PlannedRun& current);
  void notice(const std::string& text);

 private:
  void clear();
  void draw(const std::vector<std::string>& lines);
  std::string name_of(const compare::PlannedRun& run) const;
  /// "run 3/36  muon seed 0  120/500  loss 2.1034  left 14 min 02 s", within `columns` without its loss or
  /// the middle of its name: the time left is what people wait for.
  std::string status(std::span<const compare::PlannedRun> runs, const compare::PlannedRun& current,
                     std::size_t columns) const;
  std::string cell(const compare::PlannedRun& run) const;
  std::vector<std::string> table(std::span<const compare::PlannedRun> runs) const;

  std::FILE* stream_;
  bool quiet_;
  bool moving_;
  const compare::Design& design_;
  Index steps_;
  std::string title_;
  int jobs_;
  int drawn_lines_ = 0;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace aurora::cli
