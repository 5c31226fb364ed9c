#include "run_plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "aurora/value_text.hpp"

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

PlannedRun planned(std::size_t contender, Purpose purpose, SweepPoint point, std::uint64_t seed,
                   fs::path folder) {
  return {.contender = contender,
          .purpose = purpose,
          .point = std::move(point),
          .seed = seed,
          .folder = std::move(folder),
          .loss = kNotDefined,
          .validation_loss = kNotDefined};
}

/// The baseline first, because everything is compared with it.
std::vector<std::size_t> running_order(const Design& design) {
  std::vector<std::string> names;
  for (const Contender& contender : design.contenders) names.push_back(contender.name);
  std::vector<std::size_t> order = {baseline_of(names)};
  for (std::size_t i = 0; i < names.size(); ++i)
    if (i != order.front()) order.push_back(i);
  return order;
}

/// All that the factors of the axes can be combined to, and {}.
std::vector<SweepPoint> combinations(const std::vector<TriedPoint>& tried) {
  std::map<std::string, std::vector<double>> factors;
  for (const TriedPoint& entry : tried)
    for (const auto& [key, factor] : entry.point) factors[key].push_back(factor);
  std::vector<SweepPoint> points = {{}};
  for (const auto& [key, list] : factors) {
    const std::size_t before = points.size();
    for (std::size_t i = 0; i < before; ++i) {
      for (const double factor : list) {
        SweepPoint point = points[i];
        point[key] = factor;
        points.push_back(std::move(point));
      }
    }
  }
  return points;
}

bool holds(const fs::path& folder, const trainer::TrainConfig& config) {
  return !setting_difference(trainer::from_toml(folder / "config.toml"), config);
}

void move_folder(const fs::path& from, const fs::path& to) {
  if (fs::exists(to)) return;
  fs::create_directories(to.parent_path());
  fs::rename(from, to);
}

/// Makes the place of a result's run free for the point it is wanted at.
void make_way(const Design& design, const fs::path& folder, const PlannedRun& run,
              const std::vector<SweepPoint>& others) {
  const std::string& name = design.contenders[run.contender].name;
  if (fs::exists(run.folder / "config.toml") && !holds(run.folder, config_of(design, run))) {
    for (const SweepPoint& point : others) {
      PlannedRun other = run;
      other.point = point;
      if (!holds(run.folder, config_of(design, other))) continue;
      move_folder(run.folder, rate_folder(folder, name, point, run.seed));
      break;
    }
  }
  const fs::path waiting = rate_folder(folder, name, run.point, run.seed);
  if (fs::exists(waiting) && !fs::exists(run.folder)) move_folder(waiting, run.folder);
}

}  // namespace

bool ended(const PlannedRun& run) {
  return run.state == RunState::finished || run.state == RunState::diverged;
}

std::string label(const PlannedRun& run, const Design& design) {
  std::string seed = "seed " + std::to_string(run.seed);
  if (run.purpose == Purpose::result) return seed;
  if (run.purpose == Purpose::equal_rates) return "equal rates, " + seed;
  std::string text;
  for (const auto& [key, factor] : run.point)
    text += (text.empty() ? "" : ", ") + (key == kRateKey ? "lr" : key) + " x " + number_text(factor);
  if (text.empty()) text = "lr x 1";
  return design.sweep.seeds > 1 ? text + ", " + seed : text;
}

std::vector<PlannedRun> planned_runs(const Design& design, const fs::path& folder, std::size_t contender,
                                     const SweepPoint& point) {
  std::vector<PlannedRun> runs;
  for (int k = 0; k < design.sweep.seeds; ++k) {
    const auto seed = kFirstSweepSeed + static_cast<std::uint64_t>(k);
    runs.push_back(planned(contender, Purpose::sweep, point, seed,
                           sweep_folder(folder, design.contenders[contender].name, point, seed)));
  }
  return runs;
}

std::vector<PlannedRun> planned_runs(const Design& design, const fs::path& folder) {
  std::vector<PlannedRun> runs;
  const auto order = running_order(design);
  for (const std::size_t i : order) {
    for (const SweepPoint& point : points_of(design.sweep, design.contenders[i].config)) {
      for (PlannedRun& run : planned_runs(design, folder, i, point)) runs.push_back(std::move(run));
    }
  }
  for (int k = 0; k < design.seeds; ++k) {
    const auto seed = design.first_seed + static_cast<std::uint64_t>(k);
    for (const std::size_t i : order) {
      runs.push_back(
          planned(i, Purpose::result, {}, seed, result_folder(folder, design.contenders[i].name, seed)));
    }
  }
  return runs;
}

std::vector<TriedPoint> tried_points(std::span<const PlannedRun> runs, std::size_t contender) {
  struct Sum {
    double losses = 0;
    int seeds = 0;
    bool whole = true;
  };
  std::map<SweepPoint, Sum> sums;
  for (const PlannedRun& run : runs) {
    if (run.contender != contender || run.purpose != Purpose::sweep) continue;
    Sum& sum = sums[run.point];
    const bool lost = run.state == RunState::diverged || !std::isfinite(run.validation_loss);
    sum.losses += lost ? kInfinity : run.validation_loss;
    ++sum.seeds;
    sum.whole = sum.whole && ended(run);
  }
  std::vector<TriedPoint> tried;
  for (const auto& [point, sum] : sums)
    if (sum.whole) tried.push_back({point, sum.losses / sum.seeds});
  return tried;
}

trainer::TrainConfig config_of(const Design& design, const PlannedRun& run) {
  trainer::TrainConfig config = design.contenders[run.contender].config;
  config.seed = run.seed;
  apply(run.point, config);
  return config;
}

void place_results(const Design& design, const fs::path& folder, std::vector<PlannedRun>& runs) {
  std::vector<PlannedRun> equal;
  for (PlannedRun& run : runs) {
    if (run.purpose != Purpose::result) continue;
    const Contender& contender = design.contenders[run.contender];
    const auto tried = tried_points(runs, run.contender);
    run.point = best_point(design.sweep, contender.config, tried);
    make_way(design, folder, run, combinations(tried));
    if (design.sweep.equal_rates && !run.point.empty()) {
      equal.push_back(planned(run.contender, Purpose::equal_rates, {}, run.seed,
                              rate_folder(folder, contender.name, {}, run.seed)));
    }
  }
  std::ranges::move(equal, std::back_inserter(runs));
}

double seconds_left(std::span<const PlannedRun> runs, Index steps, int jobs) {
  std::map<std::size_t, Pace> paces;
  Pace all;
  Index waiting = 0;
  for (const PlannedRun& run : runs) {
    paces[run.contender].add(run);
    all.add(run);
    waiting += ended(run) ? 0 : 1;
  }
  double seconds = 0;
  for (const PlannedRun& run : runs) {
    if (ended(run)) continue;
    const double own = paces[run.contender].seconds_per_step();
    seconds += static_cast<double>(steps - run.step) * (std::isfinite(own) ? own : all.seconds_per_step());
  }
  return seconds / static_cast<double>(std::clamp<Index>(waiting, 1, jobs));
}

}  // namespace aurora::compare
