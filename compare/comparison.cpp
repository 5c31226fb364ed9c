#include "comparison.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "design.hpp"
#include "fairness.hpp"
#include "optimizer_result.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;

/// What the header of the first run says of all of them.
void read_header(const RunData& first, Comparison& comparison) {
  const auto& header = first.header;
  const auto text = [&](const char* key) { return header_value<std::string>(header, key, ""); };
  comparison.steps = first.config.steps;
  comparison.tokens_per_step = header_value<Index>(header, "tokens_per_step", 0);
  comparison.parameters = header_value<Index>(header, "parameters", 0);
  comparison.threads = header_value<int>(header, "threads", 0);
  comparison.version = text("version");
  comparison.commit = text("commit");
  comparison.device = text("device");
  comparison.device_name = text("device_name");
  comparison.blas = text("blas");
  comparison.torch = text("torch");
  comparison.started = text("started");
  comparison.wait_policy = text("wait_policy");
  comparison.eval_tokens = first.eval_tokens;
  if (const auto config = header.find("config"); config != header.end()) comparison.config = *config;
  if (const auto data = header.find("data"); data != header.end() && data->is_object()) {
    comparison.data_files = header_value<Index>(*data, "files", 0);
    comparison.data_bytes = header_value<Index>(*data, "bytes", 0);
    comparison.validation_bytes = header_value<Index>(*data, "validation_bytes", 0);
    comparison.data_sha256 = header_value<std::string>(*data, "sha256", "");
  }
}

const RunData* first_run(const std::vector<Group>& groups) {
  for (const Group& group : groups)
    if (!group.runs.empty()) return &group.runs.front();
  for (const Group& group : groups)
    for (const auto& [point, runs] : group.sweep)
      if (!runs.empty()) return &runs.front();
  return nullptr;
}

std::vector<Difference> differences_to(const std::string& baseline,
                                       const std::vector<OptimizerResult>& optimizers) {
  std::vector<Difference> differences;
  const auto other = std::ranges::find(optimizers, baseline, &OptimizerResult::name);
  for (const OptimizerResult& result : optimizers)
    if (other != optimizers.end() && result.name != baseline)
      differences.push_back(difference(result, *other));
  adjust(differences);
  return differences;
}

bool at_configured_rates(const Contender& contender, const Runs& runs) {
  return !runs.empty() && !setting_difference(contender.config, runs.front().config, {"train.seed"});
}

/// By the result's seeds where all optimizers have them, else by those of the sweep; nothing without a sweep,
/// or where the result itself is at the configured rates.
std::optional<EqualRates> equal_rates(const std::vector<Group>& groups, const Design& design,
                                      const std::string& baseline) {
  EqualRates by_result{.of_the_sweep = false, .optimizers = {}, .differences = {}};
  EqualRates by_sweep{.of_the_sweep = true, .optimizers = {}, .differences = {}};
  bool same_as_result = true;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Group& group = groups[i];
    const bool configured = at_configured_rates(design.contenders[i], group.runs);
    same_as_result = same_as_result && configured;
    const Runs& runs = configured ? group.runs : group.configured;
    if (OptimizerResult losses = losses_of(group.name, runs); !losses.seeds.empty())
      by_result.optimizers.push_back(std::move(losses));
    const auto swept = group.sweep.find({});
    if (swept == group.sweep.end()) continue;
    if (OptimizerResult losses = losses_of(group.name, swept->second); !losses.seeds.empty())
      by_sweep.optimizers.push_back(std::move(losses));
  }
  if (design.sweep.axes.empty() || same_as_result) return {};
  for (EqualRates* rates : {&by_result, &by_sweep}) {
    if (rates->optimizers.size() != groups.size()) continue;
    rates->differences = differences_to(baseline, rates->optimizers);
    return std::move(*rates);
  }
  return {};
}

void read_seeds(const std::vector<Group>& groups, Comparison& comparison) {
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const auto* seeds : {&result.seeds, &result.running})
      comparison.seeds.insert(comparison.seeds.end(), seeds->begin(), seeds->end());
    for (const Divergence& end : result.diverged) comparison.seeds.push_back(end.seed);
  }
  std::ranges::sort(comparison.seeds);
  comparison.seeds.erase(std::unique(comparison.seeds.begin(), comparison.seeds.end()),
                         comparison.seeds.end());
  for (const std::uint64_t seed : comparison.seeds) {
    comparison.initial_weights_sha256.push_back(
        agreed(groups, seed, "initial_weights_sha256", "initial weights", comparison.warnings));
    comparison.data_order_sha256.push_back(
        agreed(groups, seed, "data_order_sha256", "order of the data", comparison.warnings));
  }
}

void read_progress(const std::optional<Design>& design, Comparison& comparison) {
  std::size_t ended = 0;
  for (const OptimizerResult& result : comparison.optimizers)
    ended += result.seeds.size() + result.diverged.size();
  const std::size_t wanted = design ? design->contenders.size() * static_cast<std::size_t>(design->seeds)
                                    : comparison.optimizers.size() * comparison.seeds.size();
  comparison.complete = ended >= wanted;
  if (!comparison.complete) {
    comparison.warnings.push_back(std::to_string(wanted - ended) + " of " + std::to_string(wanted) +
                                  " runs are missing or not finished");
  }
  if (const std::string sweep = sweep_progress(comparison); !sweep.empty()) {
    comparison.complete = false;
    comparison.warnings.push_back(sweep);
  }
}

void warn_of_few_seeds(Comparison& comparison) {
  std::size_t most = 0;
  for (const OptimizerResult& result : comparison.optimizers) most = std::max(most, result.seeds.size());
  if (most == 1)
    comparison.warnings.emplace_back("one seed has no interval: nothing can be concluded from a difference");
  if (most == 2 && comparison.optimizers.size() > 1)
    comparison.warnings.emplace_back(
        "two seeds leave one degree of freedom: nothing can be concluded from a difference");
}

}  // namespace

Difference difference(const OptimizerResult& a, const OptimizerResult& b) {
  std::vector<double> values;
  for (std::size_t i = 0; i < a.seeds.size(); ++i) {
    const auto found = std::ranges::find(b.seeds, a.seeds[i]);
    if (found == b.seeds.end()) continue;
    values.push_back(a.validation_loss.values[i] -
                     b.validation_loss.values[static_cast<std::size_t>(found - b.seeds.begin())]);
  }
  const Estimate loss = estimate(values);
  return {.a = a.name,
          .b = b.name,
          .validation_loss = loss,
          .seeds = static_cast<int>(values.size()),
          .adjusted = holm(std::span(&loss, 1)).front()};
}

void adjust(std::vector<Difference>& differences) {
  std::vector<Estimate> losses;
  for (const Difference& difference : differences) losses.push_back(difference.validation_loss);
  const auto adjusted = holm(losses);
  for (std::size_t i = 0; i < differences.size(); ++i) differences[i].adjusted = adjusted[i];
}

std::vector<std::string> unequal_hyperparameters(const Comparison& comparison) {
  std::map<std::string, std::string> values;
  std::vector<std::string> unequal;
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const auto& [key, value] : result.hyperparameters) {
      const auto [first, is_new] = values.emplace(key, value);
      if (!is_new && first->second != value && std::ranges::find(unequal, key) == unequal.end())
        unequal.push_back(key);
    }
  }
  return unequal;
}

Comparison read_comparison(const fs::path& folder) {
  if (!fs::is_directory(folder))
    throw std::invalid_argument(folder.string() + ": no such folder; name one with runs in it");
  Comparison comparison;
  std::optional<Design> design;
  try {
    design = read_design(folder);
  } catch (const std::exception& error) {
    comparison.warnings.emplace_back(error.what());
  }
  const bool ours = design || fs::is_directory(folder / "runs") || fs::is_directory(folder / "sweep");
  const std::vector<Group> groups =
      ours ? groups_of(folder, design, comparison.warnings) : groups_below(folder, comparison.warnings);
  const RunData* first = first_run(groups);
  if (first == nullptr) {
    throw std::invalid_argument(folder.string() + ": no run here (no folder with config.toml and log.jsonl)" +
                                (comparison.warnings.empty() ? "" : "; " + comparison.warnings.front()));
  }
  std::vector<std::string> names;
  for (const Group& group : groups) {
    comparison.optimizers.push_back(result_of(group));
    names.push_back(group.name);
  }
  comparison.baseline = names[baseline_of(names)];
  comparison.incomparable = why_incomparable(groups);
  if (comparison.incomparable.empty()) {
    comparison.differences = differences_to(comparison.baseline, comparison.optimizers);
    if (design) comparison.equal_rates = equal_rates(groups, *design, comparison.baseline);
  }
  read_header(*first, comparison);
  if (design) comparison.command = design->command;
  read_seeds(groups, comparison);
  read_progress(design, comparison);
  for (const std::string& reason : comparison.incomparable)
    comparison.warnings.push_back("the runs are not comparable: " + reason);
  warn_of_settings(groups, comparison.warnings);
  warn_of_rates(groups, comparison.warnings);
  warn_of_times(groups, comparison.warnings);
  warn_of_results(comparison, comparison.warnings);
  warn_of_few_seeds(comparison);
  return comparison;
}

}  // namespace aurora::compare
