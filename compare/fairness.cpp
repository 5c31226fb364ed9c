#include "fairness.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "aurora/value_text.hpp"
#include "report_figures.hpp"

namespace aurora::compare {
namespace {

/// Above this quotient of the times that one fixed product took, times of steps are not of one machine.
constexpr double kSpeedVaries = 1.3;

std::vector<const RunData*> result_runs(const std::vector<Group>& groups) {
  std::vector<const RunData*> runs;
  for (const Group& group : groups)
    for (const RunData& run : group.runs) runs.push_back(&run);
  return runs;
}

/// Of all runs, also those that only chose the rates, the first two that read other text, as a reason.
std::vector<std::string> other_text(const std::vector<Group>& groups) {
  std::vector<const RunData*> runs = result_runs(groups);
  for (const Group& group : groups) {
    for (const auto& [point, swept] : group.sweep)
      for (const RunData& run : swept) runs.push_back(&run);
    for (const RunData& run : group.configured) runs.push_back(&run);
  }
  std::erase_if(runs, [](const RunData* run) { return text_of(*run).empty(); });
  const auto other =
      std::ranges::find_if(runs, [&](const RunData* run) { return text_of(*run) != text_of(*runs.front()); });
  if (other == runs.end()) return {};
  return {fmt::format("the text differs between {} and {}", runs.front()->folder.string(),
                      (*other)->folder.string())};
}

std::string shown(const std::string& value) { return value.empty() ? "not set" : value; }

/// A warning where `text_of` of two runs differs.
template <class TextOf>
void warn_where_unequal(const std::vector<const RunData*>& runs, const char* what, const TextOf& text_of,
                        std::vector<std::string>& warnings) {
  const auto other =
      std::ranges::find_if(runs, [&](const RunData* run) { return text_of(*run) != text_of(*runs.front()); });
  if (other == runs.end()) return;
  warnings.push_back(fmt::format("times are not comparable: {} is {} in {}, {} in {}", what,
                                 shown(text_of(*runs.front())), runs.front()->folder.string(),
                                 shown(text_of(**other)), (*other)->folder.string()));
}

}  // namespace

std::string agreed(const std::vector<Group>& groups, std::uint64_t seed, const char* key, const char* what,
                   std::vector<std::string>& warnings) {
  std::optional<std::string> text;
  const RunData* first = nullptr;
  for (const Group& group : groups) {
    for (const RunData& run : group.runs) {
      if (run.config.seed != seed) continue;
      const auto here = header_value<std::string>(run.header, key, "");
      if (here.empty()) {
        warnings.push_back("the " + std::string(what) + " of " + run.folder.string() + " are not recorded");
        return {};
      }
      if (text && here != *text) {
        warnings.push_back("seed " + std::to_string(seed) + ": the " + what + " differ between " +
                           first->folder.string() + " and " + run.folder.string() +
                           ", so the runs are not comparable");
        return {};
      }
      text = here;
      if (first == nullptr) first = &run;
    }
  }
  return text.value_or("");
}

std::vector<std::string> why_incomparable(const std::vector<Group>& groups) {
  const auto runs = result_runs(groups);
  std::vector<std::string> reasons = other_text(groups);
  std::set<std::string> named;
  for (const RunData* run : runs) {
    const auto here = trainer::settings(run->config), first = trainer::settings(runs.front()->config);
    for (const trainer::Setting& setting : here) {
      if (!makes_another_experiment(setting.key)) continue;
      const auto other = std::ranges::find(first, setting.key, &trainer::Setting::key);
      if (other == first.end() || other->value == setting.value || !named.insert(setting.key).second)
        continue;
      reasons.push_back(fmt::format("{} is {} in {} and {} in {}", setting.key, other->value,
                                    runs.front()->folder.string(), setting.value, run->folder.string()));
    }
  }
  return reasons;
}

void warn_of_settings(const std::vector<Group>& groups, std::vector<std::string>& warnings) {
  std::set<std::string> named;  // one warning of a kind is enough
  // Not adamw if there is another: its settings [adamw] are its own.
  const RunData* reference = nullptr;
  for (const Group& group : groups) {
    for (const RunData& run : group.runs) {
      const bool is_adamw = !run.config.optim;
      const bool has_adamw = reference && !reference->config.optim;
      if (reference == nullptr || (has_adamw && !is_adamw)) reference = &run;
    }
  }
  for (const Group& group : groups) {
    for (const RunData& run : group.runs) {
      const RunData& first = group.runs.front();
      // These are for why_incomparable() to say.
      std::vector<std::string> experiment = {"train.seed"};
      for (const trainer::Setting& setting : trainer::settings(run.config))
        if (makes_another_experiment(setting.key)) experiment.push_back(setting.key);
      auto besides = own_keys(run.config);
      const auto others = own_keys(reference->config);
      besides.insert(besides.end(), others.begin(), others.end());
      besides.insert(besides.end(), experiment.begin(), experiment.end());
      auto differs = setting_difference(reference->config, run.config, besides);
      const RunData* other = reference;
      std::string place;
      if (!differs) {
        differs = setting_difference(first.config, run.config, experiment);
        other = &first;
        place = group.name;
      }
      if (!differs || !named.insert(place + differs->key).second) continue;
      warnings.push_back(differs->key + " differs: " + shown(differs->a) + " in " + other->folder.string() +
                         ", " + shown(differs->b) + " in " + run.folder.string());
    }
  }
}

void warn_of_rates(const std::vector<Group>& groups, std::vector<std::string>& warnings) {
  const Group* first = nullptr;
  for (const Group& group : groups) {
    if (group.runs.empty() || !group.sweep.empty()) continue;
    const trainer::TrainConfig& config = group.runs.front().config;
    const bool asked_for = group.name.find("lr=") != std::string::npos;
    if (asked_for || !config.optim) continue;
    if (first == nullptr) first = &group;
    const double lr = swept_lr(config), other = swept_lr(first->runs.front().config);
    if (lr == other) continue;
    warnings.push_back(fmt::format("optim.lr is {} of {} and {} of {}, and no sweep chose them",
                                   number_text(other), first->name, number_text(lr), group.name));
    return;
  }
}

void warn_of_times(const std::vector<Group>& groups, std::vector<std::string>& warnings) {
  const auto runs = result_runs(groups);
  if (runs.empty()) return;
  const auto header_text = [](const char* key) {
    return [key](const RunData& run) { return header_value<std::string>(run.header, key, ""); };
  };
  warn_where_unequal(runs, "the machine", header_text("device_name"), warnings);
  warn_where_unequal(runs, "the way threads wait", header_text("wait_policy"), warnings);
  warn_where_unequal(
      runs, "the number of threads",
      [](const RunData& run) { return std::to_string(header_value<int>(run.header, "threads", 0)); },
      warnings);
  const RunData *fastest = nullptr, *slowest = nullptr;
  for (const RunData* run : runs) {
    if (!std::isfinite(run->product_ms)) continue;
    if (fastest == nullptr || run->product_ms < fastest->product_ms) fastest = run;
    if (slowest == nullptr || run->product_ms > slowest->product_ms) slowest = run;
  }
  if (fastest == nullptr || slowest->product_ms <= kSpeedVaries * fastest->product_ms) return;
  warnings.push_back(fmt::format(
      "times are not comparable: the machine's speed varied, a fixed product took {:.3f} ms in {} and {:.3f} "
      "ms in {}",
      fastest->product_ms, fastest->folder.string(), slowest->product_ms, slowest->folder.string()));
}

void warn_of_results(const Comparison& comparison, std::vector<std::string>& warnings) {
  for (const OptimizerResult& result : comparison.optimizers) {
    if (result.neuron_steps.empty() && !(result.validation.empty() && result.seeds.empty()))
      warnings.push_back(result.name + " has no neuron records: starved and dead are not known");
    if (best_is_at_edge(result))
      warnings.push_back(result.name + ": the best learning rate, " + number_text(best_rate(result)->lr) +
                         ", lies at the edge of the sweep; a wider one may find a better");
  }
}

std::string sweep_progress(const Comparison& comparison) {
  int ended = 0, running = 0;
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const SweptRate& rate : result.swept) {
      ended += rate.finished + rate.diverged;
      running += rate.running;
    }
  }
  if (running == 0) return {};
  return fmt::format(
      "the sweep is not at its end: {} of its runs ended, {} not at the last step yet, which do not count",
      ended, running);
}

}  // namespace aurora::compare
