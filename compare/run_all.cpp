#include "run_all.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>

#include "lock_file.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Pace {
  double seconds = 0;
  Index steps = 0;
  void add(const PlannedRun& run) {
    seconds += run.seconds;
    steps += run.timed_steps;
  }
  double seconds_per_step() const { return steps > 0 ? seconds / static_cast<double>(steps) : kNotDefined; }
};

bool ended(const PlannedRun& run) {
  return run.state == RunState::finished || run.state == RunState::diverged;
}

trainer::TrainConfig config_of(const Design& design, std::span<const PlannedRun> runs,
                               const PlannedRun& run) {
  trainer::TrainConfig config = design.contenders[run.contender].config;
  config.seed = run.seed;
  const double factor = run.factor.value_or(best_factor(runs, run.contender));
  if (config.optim) {
    set_hyperparameter_value(*config.optim, "lr", lr_of(*config.optim) * factor);
  } else {
    config.adamw.lr *= factor;
  }
  return config;
}

/// The text that all runs read, and the newest run that says so.
struct CommonText {
  std::string text, run;

  void require_same(const std::string& here, const std::string& place) {
    if (here.empty()) return;
    if (!text.empty() && text != here)
      throw std::invalid_argument(place + " is not the text of " + run + ": " + here + ", there " + text +
                                  "; runs on different text cannot be compared: name another --out");
    text = here;
    run = place;
  }
};

/// What the folder already says of the run, if it is this run.
void look_up(PlannedRun& run, const trainer::TrainConfig& config, CommonText& text) {
  if (!fs::exists(run.folder / "config.toml")) return;
  require_equal(config, run.folder);
  if (!fs::exists(run.folder / "log.jsonl")) return;
  const RunData data = read_run(run.folder);
  text.require_same(text_of(data), run.folder.string());
  if (data.state == RunState::running) return;
  run.state = data.state;
  run.found = true;
  run.step = run.timed_steps = data.result.step;
  run.validation_loss = data.result.validation_loss;
  run.seconds = data.result.seconds;
}

/// Runs of the sweep, or of the result, that are there already.
void look_up_all(const Design& design, std::vector<PlannedRun>& runs, bool sweep, CommonText& text) {
  for (PlannedRun& run : runs) {
    if (run.factor.has_value() == sweep) look_up(run, config_of(design, runs, run), text);
  }
}

/// The text of a configuration in words.
std::string named(const trainer::TrainConfig& config) {
  if (config.data.empty()) return "no text";
  return config.data.front() + (config.data.size() > 1 ? " and others" : "");
}

bool sweep_has_ended(std::span<const PlannedRun> runs) {
  return std::ranges::all_of(runs, [](const PlannedRun& run) { return !run.factor || ended(run); });
}

}  // namespace

std::vector<PlannedRun> planned_runs(const Design& design, const fs::path& folder) {
  std::vector<PlannedRun> runs;
  const auto add = [&](std::size_t contender, std::optional<double> factor, std::uint64_t seed,
                       const fs::path& run_folder) {
    runs.push_back({.contender = contender,
                    .factor = factor,
                    .seed = seed,
                    .folder = run_folder,
                    .loss = kNotDefined,
                    .validation_loss = kNotDefined});
  };
  for (std::size_t i = 0; i < design.contenders.size(); ++i) {
    for (const double factor : design.factors) {
      for (int k = 0; k < design.sweep_seeds; ++k) {
        const auto seed = kFirstSweepSeed + static_cast<std::uint64_t>(k);
        add(i, factor, seed, sweep_folder(folder, design.contenders[i].name, factor, seed));
      }
    }
  }
  for (int k = 0; k < design.seeds; ++k) {
    const auto seed = design.first_seed + static_cast<std::uint64_t>(k);
    for (std::size_t i = 0; i < design.contenders.size(); ++i)
      add(i, {}, seed, result_folder(folder, design.contenders[i].name, seed));
  }
  return runs;
}

double seconds_left(std::span<const PlannedRun> runs, Index steps) {
  std::map<std::size_t, Pace> paces;
  Pace all;
  for (const PlannedRun& run : runs) {
    paces[run.contender].add(run);
    all.add(run);
  }
  double seconds = 0;
  for (const PlannedRun& run : runs) {
    if (ended(run)) continue;
    const double own = paces[run.contender].seconds_per_step();
    seconds += static_cast<double>(steps - run.step) * (std::isfinite(own) ? own : all.seconds_per_step());
  }
  return seconds;
}

double best_factor(std::span<const PlannedRun> runs, std::size_t contender) {
  std::map<double, double> sums;
  for (const PlannedRun& run : runs) {
    if (run.contender != contender || !run.factor) continue;
    const bool lost = run.state == RunState::diverged || !std::isfinite(run.validation_loss);
    sums[*run.factor] += lost ? kInfinity : run.validation_loss;
  }
  if (sums.empty()) return 1;
  return std::ranges::min_element(sums, {}, [](const auto& entry) { return entry.second; })->first;
}

Outcome run_all(const Design& design, const fs::path& folder, const Train& train, const RunAllHooks& hooks) {
  validate(design);
  for (const Contender& contender : design.contenders) trainer::validate(contender.config);
  const std::optional<Design> before = read_design(folder);
  if (before) require_extension(*before, design, folder);
  Outcome outcome{.runs = planned_runs(design, folder)};
  std::vector<PlannedRun>& runs = outcome.runs;
  CommonText text;
  look_up_all(design, runs, /*sweep=*/true, text);
  bool results_known = sweep_has_ended(runs);
  if (results_known) look_up_all(design, runs, /*sweep=*/false, text);

  fs::create_directories(folder);
  const trainer::LockFile lock(folder);
  bool written = false;
  const auto write_once = [&] {
    if (!written) write_design(design, folder);
    written = true;
  };
  for (PlannedRun& run : runs) {
    if (!run.factor && !results_known) {
      look_up_all(design, runs, /*sweep=*/false, text);
      results_known = true;
    }
    if (hooks.stop != nullptr && hooks.stop->load()) {
      outcome.interrupted = true;
      return outcome;
    }
    if (ended(run)) {
      write_once();
      continue;
    }
    const trainer::TrainConfig config = config_of(design, runs, run);
    if (hooks.text) text.require_same(hooks.text(config), named(config));
    const auto start = std::chrono::steady_clock::now();
    Index first_step = -1;
    const auto on_step = [&](const trainer::Progress& progress) {
      write_once();
      if (first_step < 0) first_step = progress.step - 1;
      run.state = RunState::running;
      run.step = progress.step;
      run.loss = progress.loss;
      run.validation_loss = progress.validation_loss;
      run.timed_steps = progress.step - first_step;
      run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (hooks.progress) hooks.progress(runs, run);
    };
    const auto mode = fs::is_directory(run.folder) ? trainer::FolderMode::resume : trainer::FolderMode::fresh;
    const trainer::RunResult result =
        train(config, run.folder, mode, {.progress = on_step, .notice = hooks.notice, .stop = hooks.stop});
    write_once();
    run.step = result.step;
    run.validation_loss = result.validation_loss;
    if (result.end == trainer::RunEnd::interrupted) {
      outcome.interrupted = true;
      return outcome;
    }
    run.state = result.end == trainer::RunEnd::diverged ? RunState::diverged : RunState::finished;
    if (hooks.progress) hooks.progress(runs, run);
  }
  return outcome;
}

}  // namespace aurora::compare
