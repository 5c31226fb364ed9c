#include "compare_plan.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "model_size.hpp"
#include "run_all.hpp"
#include "run_log.hpp"
#include "terminal.hpp"
#include "train.hpp"

namespace aurora::cli {

namespace {

namespace fs = std::filesystem;
using compare::PlannedRun;

/// What was measured of one optimizer, in seconds.
struct Cost {
  double step, look;  // look: an evaluation and a neuron record
};

/// A folder that is gone afterwards.
class MeasuringFolder {
 public:
  MeasuringFolder() : path_(fs::temp_directory_path() / fmt::format("aurora-dry-run-{}", getpid())) {
    fs::remove_all(path_);
  }
  MeasuringFolder(const MeasuringFolder&) = delete;
  MeasuringFolder& operator=(const MeasuringFolder&) = delete;
  ~MeasuringFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Two steps: the first also makes ready what later ones have.
Cost measured(trainer::TrainConfig config) {
  const MeasuringFolder folder;
  config.steps = 2;
  const auto result = trainer::train(config, folder.path(), trainer::FolderMode::fresh, {});
  std::vector<double> steps;
  for (const auto& record : trainer::read_log(folder.path() / "log.jsonl").records)
    if (record["kind"] == "train") steps.push_back(record["step_ms"].get<double>() / 1000);
  return {.step = steps.back(), .look = std::max(0.0, result.seconds - steps[0] - steps[1])};
}

double seconds_of(const trainer::TrainConfig& config, const Cost& cost, Index steps_done) {
  const auto times = [&](Index every) { return (config.steps + every - 1) / every; };
  const Index looks = std::max(times(config.eval_every), times(trainer::diagnose_interval(config)));
  const double whole = static_cast<double>(config.steps) * cost.step + static_cast<double>(looks) * cost.look;
  return whole * static_cast<double>(config.steps - steps_done) / static_cast<double>(config.steps);
}

std::string state_of(const PlannedRun& run) {
  switch (run.state) {
    case compare::RunState::waiting:
    case compare::RunState::running:
      return fs::exists(run.folder / "log.jsonl") ? "begun" : "to do";
    case compare::RunState::finished:
      return "done";
    case compare::RunState::diverged:
      return "diverged";
  }
  return {};
}

void print_part(const ComparisonPart& part, int jobs, const std::map<std::string, Cost>& costs,
                double& seconds) {
  const std::vector<PlannedRun> runs = compare::look_up(part.design, part.folder);
  Table table{.heads = {"optimizer", "sweep", "result", "done", "ms/step", "a run", "to do"},
              .rows = {},
              .left = {0}};
  double all = 0;
  for (std::size_t i = 0; i < part.design.contenders.size(); ++i) {
    const compare::Contender& contender = part.design.contenders[i];
    const Cost& cost = costs.at(contender.name);
    int sweep = 0, result = 0, done = 0;
    double left = 0;
    for (const PlannedRun& run : runs) {
      if (run.contender != i) continue;
      (run.purpose == compare::Purpose::sweep ? sweep : result) += 1;
      if (compare::ended(run)) {
        ++done;
      } else {
        left += seconds_of(contender.config, cost, 0);
      }
    }
    all += left;
    table.rows.push_back({contender.name, std::to_string(sweep), std::to_string(result), std::to_string(done),
                          fmt::format("{:.1f}", 1000 * cost.step),
                          duration(seconds_of(contender.config, cost, 0)), duration(left)});
  }
  if (!part.title.empty()) fmt::print("{}\n", bold(part.title, stdout));
  print(table, stdout);
  fmt::print("\n");
  Table list{.heads = {"run", "optimizer", "of", "folder", "state"}, .rows = {}, .left = {1, 2, 3}};
  for (const PlannedRun& run : runs) {
    list.rows.push_back({std::to_string(list.rows.size() + 1), part.design.contenders[run.contender].name,
                         compare::label(run, part.design), run.folder.string(), state_of(run)});
  }
  for (const std::string& line : lines_of(list)) fmt::print("{}\n", line);
  fmt::print("\n");
  seconds += all / jobs;
}

}  // namespace

void print_plan(const std::vector<ComparisonPart>& parts, int jobs) {
  double seconds = 0;
  for (const ComparisonPart& part : parts) {
    std::map<std::string, Cost> costs;
    for (const compare::Contender& contender : part.design.contenders)
      costs[contender.name] = measured(contender.config);
    print_part(part, jobs, costs, seconds);
  }
  const auto& design = parts.front().design;
  std::string text = fmt::format("about {}, from one measured step of each optimizer", duration(seconds));
  if (jobs > 1) text += fmt::format(" with its part of the threads, {} runs at a time", jobs);
  if (design.sweep.automatic) text += "; --sweep-lr auto may add runs";
  if (design.sweep.equal_rates)
    text += "; --equal-rates adds runs where the best rate is not the configured one";
  fmt::print("{}\n", wrapped(text, stdout));
}

}  // namespace aurora::cli
