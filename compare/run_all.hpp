#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "run_plan.hpp"
#include "side_by_side.hpp"

namespace aurora::compare {

struct RunAllHooks {
  /// After every step, with the run it belongs to, and after a run's end.
  std::function<void(std::span<const PlannedRun>, const PlannedRun&)> progress;
  std::function<void(const std::string&)> notice;
  const std::atomic<bool>* stop = nullptr;
  /// text_of() the text of a configuration as it is now; null where nobody can say.
  std::function<std::string(const trainer::TrainConfig&)> text;
};

struct Outcome {
  bool interrupted = false;
  std::vector<PlannedRun> runs;
};

/// Makes all runs of the design that FOLDER does not hold yet, one after the other, or `jobs` at a time in
/// processes of their own; goes on inside a run that was stopped. A run that diverges is kept as one. The
/// design is written down when the first step is made, and a lock file keeps a second writer out. Throws
/// std::invalid_argument, before any training, for a folder of another comparison or with other runs in the
/// places of these; before the next run, where the text is not that of the runs before.
Outcome run_all(const Design& design, const std::filesystem::path& folder, const Train& train,
                const RunAllHooks& hooks, int jobs = 1);

/// What the folder holds of the design, without training or writing.
std::vector<PlannedRun> look_up(const Design& design, const std::filesystem::path& folder);

}  // namespace aurora::compare
