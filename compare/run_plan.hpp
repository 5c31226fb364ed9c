#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "design.hpp"
#include "run_data.hpp"

namespace aurora::compare {

/// What a run is for: to choose a point of the sweep, as the result, or as the result at the configured
/// rates.
enum class Purpose : std::uint8_t { sweep, result, equal_rates };

/// One run of a comparison, and how far it is.
struct PlannedRun {
  std::size_t contender;  // index into Design::contenders
  Purpose purpose;
  SweepPoint point;  // of a result: the best
  std::uint64_t seed;
  std::filesystem::path folder;
  RunState state = RunState::waiting;
  bool found = false;  // it had ended before this call
  Index step = 0;
  double loss = 0, validation_loss = 0;  // the newest; NaN for none
  double seconds = 0;                    // that `timed_steps` of its steps took
  Index timed_steps = 0;
};

bool ended(const PlannedRun& run);

/// "lr x 2", "adamw.lr x 0.5", "seed 0", "equal rates, seed 0"; of a sweep of several seeds with the seed.
std::string label(const PlannedRun& run, const Design& design);

/// The runs of the sweep, the baseline's first, then those of the result, seed by seed and in each the
/// baseline first. Results are taken at {} until place_results() says otherwise.
std::vector<PlannedRun> planned_runs(const Design& design, const std::filesystem::path& folder);

/// The runs, one for each seed of the sweep, of one more point.
std::vector<PlannedRun> planned_runs(const Design& design, const std::filesystem::path& folder,
                                     std::size_t contender, const SweepPoint& point);

/// The points whose runs have all ended.
std::vector<TriedPoint> tried_points(std::span<const PlannedRun> runs, std::size_t contender);

/// The configuration of a run.
trainer::TrainConfig config_of(const Design& design, const PlannedRun& run);

/// Gives the runs of the result their best points, adds those at equal rates, and moves folders: a run in
/// DIR/runs that is at another point goes to DIR/rates, one that waits there at the best comes back.
void place_results(const Design& design, const std::filesystem::path& folder, std::vector<PlannedRun>& runs);

/// From the time per step of the runs so far, `jobs` at a time: of the same optimizer where there is one,
/// else of all. NaN before the first step.
double seconds_left(std::span<const PlannedRun> runs, Index steps, int jobs = 1);

}  // namespace aurora::compare
