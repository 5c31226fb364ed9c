#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "design.hpp"
#include "run_data.hpp"
#include "train.hpp"

namespace aurora::compare {

/// One run of a comparison, and how far it is.
struct PlannedRun {
  std::size_t contender;         // index into Design::contenders
  std::optional<double> factor;  // of a sweep's run
  std::uint64_t seed;
  std::filesystem::path folder;
  RunState state = RunState::waiting;
  bool found = false;  // it had ended before this call
  Index step = 0;
  double loss = 0, validation_loss = 0;  // the newest; NaN for none
  double seconds = 0;                    // that `timed_steps` of its steps took
  Index timed_steps = 0;
};

/// The sweep of every optimizer first, then seed by seed, optimizer by optimizer.
std::vector<PlannedRun> planned_runs(const Design& design, const std::filesystem::path& folder);

/// From the time per step of the runs so far: of the same optimizer where there is one, else of all. NaN
/// before the first step.
double seconds_left(std::span<const PlannedRun> runs, Index steps);

/// The factor of the least mean validation loss over a contender's sweep runs, a diverged one being infinite;
/// the least of equal ones. 1 without a sweep.
double best_factor(std::span<const PlannedRun> runs, std::size_t contender);

struct RunAllHooks {
  /// After every step, with the run it belongs to, and after a run's end.
  std::function<void(std::span<const PlannedRun>, const PlannedRun&)> progress;
  std::function<void(const std::string&)> notice;
  const std::atomic<bool>* stop = nullptr;
  /// text_of() the text of a configuration as it is now; null where nobody can say.
  std::function<std::string(const trainer::TrainConfig&)> text;
};
using Train = std::function<trainer::RunResult(const trainer::TrainConfig&, const std::filesystem::path&,
                                               trainer::FolderMode, const trainer::TrainHooks&)>;

struct Outcome {
  bool interrupted = false;
  std::vector<PlannedRun> runs;
};

/// Makes all runs of the design that FOLDER does not hold yet, one after the other; goes on inside a run that
/// was stopped. A run that diverges is kept as one. The design is written down when the first step is made,
/// and a lock file keeps a second writer out. Throws std::invalid_argument, before any training, for a folder
/// of another comparison or with other runs in the places of these; before the next run, where the text is not
/// that of the runs before.
Outcome run_all(const Design& design, const std::filesystem::path& folder, const Train& train,
                const RunAllHooks& hooks);

}  // namespace aurora::compare
