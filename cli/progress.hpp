#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "train.hpp"

namespace aurora::cli {

/// Progress of long work: one moving line on a terminal, else a line every few seconds and at the end.
class ProgressLine {
 public:
  ProgressLine(std::FILE* stream, bool quiet);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  void show(const trainer::Progress& progress);
  /// `text` with a bar for `share`, in [0, 1]; 1 is shown whatever the time since the line before.
  void show(double share, const std::string& text);
  /// A line of its own, above the moving one.
  void notice(const std::string& text);

 private:
  void clear();

  std::FILE* stream_;
  bool quiet_;
  bool moving_;
  bool color_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point next_;
};

/// "120/500  loss 2.1034  val 2.0891  25,300 tokens/s  ...", what is not yet known left out.
std::string progress_text(const trainer::Progress& progress);

/// "[======      ]" of `width` columns in all; empty where that is too little.
std::string progress_bar(double share, int width);

}  // namespace aurora::cli
