#include "optimizer_result.hpp"

#include <algorithm>
#include <cmath>

#include "model_size.hpp"

namespace aurora::compare {
namespace {

constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();

/// Sorted, without repetitions.
template <class Value>
void keep_each_once(std::vector<Value>& values) {
  std::ranges::sort(values);
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

/// The mean over runs at every step that one of them has, and its interval.
template <class PointsOf>
Band band(const Runs& runs, double step_ms, const PointsOf& points_of) {
  std::map<Index, std::vector<double>> at;
  for (const RunData& run : runs) {
    for (const LoggedValue& point : points_of(run))
      if (std::isfinite(point.value)) at[point.step].push_back(point.value);
  }
  Band result;
  for (const auto& [step, values] : at) {
    const Estimate value = estimate(values);
    result.push_back({step, static_cast<double>(step) * step_ms / 1000, value.mean, value.low, value.high});
  }
  return result;
}

/// Mean of what is defined; NaN for none.
class Mean {
 public:
  void add(double value) {
    if (!std::isfinite(value)) return;
    sum_ += value;
    ++count_;
  }
  double value() const { return count_ > 0 ? sum_ / count_ : kNotDefined; }

 private:
  double sum_ = 0;
  int count_ = 0;
};

template <class ValueOf>
std::vector<LoggedValue> over_layers(const RunData& run, const ValueOf& value_of) {
  std::vector<LoggedValue> points;
  for (const NeuronSnapshot& snapshot : run.neurons) {
    Mean mean;
    for (const LayerRecord& layer : snapshot.layers) mean.add(value_of(layer));
    points.push_back({snapshot.step, mean.value()});
  }
  return points;
}

/// [layer][record] of `result.neuron_steps`.
template <class ValueOf>
std::vector<std::vector<double>> by_layer(const Runs& runs, const std::vector<Index>& steps,
                                          const ValueOf& value_of) {
  std::size_t layers = 0;
  for (const RunData& run : runs)
    for (const NeuronSnapshot& snapshot : run.neurons) layers = std::max(layers, snapshot.layers.size());
  std::vector<std::vector<Mean>> means(layers, std::vector<Mean>(steps.size()));
  for (const RunData& run : runs) {
    for (const NeuronSnapshot& snapshot : run.neurons) {
      const auto record = static_cast<std::size_t>(std::ranges::find(steps, snapshot.step) - steps.begin());
      for (std::size_t layer = 0; layer < snapshot.layers.size(); ++layer)
        means[layer][record].add(value_of(snapshot.layers[layer]));
    }
  }
  std::vector<std::vector<double>> values(layers);
  for (std::size_t layer = 0; layer < layers; ++layer)
    for (const Mean& mean : means[layer]) values[layer].push_back(mean.value());
  return values;
}

template <class QuantilesOf>
std::vector<double> last_leverage(const Runs& runs, const QuantilesOf& quantiles_of) {
  std::vector<Mean> means;
  for (const RunData& run : runs) {
    if (run.neurons.empty()) continue;
    for (const LayerRecord& layer : run.neurons.back().layers) {
      const std::vector<double>& quantiles = quantiles_of(layer);
      if (means.size() < quantiles.size()) means.resize(quantiles.size());
      for (std::size_t i = 0; i < quantiles.size(); ++i) means[i].add(quantiles[i]);
    }
  }
  std::vector<double> values;
  for (const Mean& mean : means) values.push_back(mean.value());
  return values;
}

/// Mean over the runs of a point, defined where all of them finished.
template <class ValueOf>
double mean_of_finished(const Runs& runs, const ValueOf& value_of) {
  std::vector<double> values;
  for (const RunData& run : runs)
    values.push_back(run.state == RunState::finished ? value_of(run) : kNotDefined);
  return estimate(values).mean;
}

std::vector<SweptRate> swept_rates(const Group& group) {
  std::vector<SweptRate> rates;
  for (const auto& [point, runs] : group.sweep) {
    if (runs.empty()) continue;
    const trainer::TrainConfig& config = runs.front().config;
    SweptRate rate{.factor = factor_of(point, kRateKey),
                   .lr = swept_lr(config),
                   .validation_loss =
                       mean_of_finished(runs, [](const RunData& run) { return run.result.validation_loss; }),
                   .others = {}};
    for (const auto& [key, factor] : point)
      if (key != kRateKey) rate.others[key] = value_of(config, key);
    for (const RunData& run : runs) {
      (run.state == RunState::finished   ? rate.finished
       : run.state == RunState::diverged ? rate.diverged
                                         : rate.running) += 1;
    }
    rate.starved = mean_of_finished(runs, [](const RunData& run) { return run.result.starved; });
    rate.dead = mean_of_finished(runs, [](const RunData& run) { return run.result.dead; });
    rates.push_back(std::move(rate));
  }
  std::ranges::stable_sort(rates, [](const SweptRate& a, const SweptRate& b) {
    return std::tie(a.others, a.factor) < std::tie(b.others, b.factor);
  });
  return rates;
}

std::vector<std::pair<std::string, std::string>> hyperparameters_of(const Group& group) {
  const RunData* run = group.runs.empty() ? nullptr : &group.runs.front();
  for (const auto& [point, runs] : group.sweep)
    if (run == nullptr && !runs.empty()) run = &runs.front();
  std::vector<std::pair<std::string, std::string>> list;
  if (run == nullptr) return list;
  for (trainer::Setting& setting : trainer::settings(run->config)) {
    const bool optimizers = setting.key.starts_with("optim.") || setting.key.starts_with("adamw.");
    if (optimizers && setting.key != "optim.optimizer")
      list.emplace_back(std::move(setting.key), std::move(setting.value));
  }
  return list;
}

}  // namespace

OptimizerResult result_of(const Group& group) {
  OptimizerResult result{};
  result.name = group.name;
  result.lr = group.runs.empty() ? kNotDefined : swept_lr(group.runs.front().config);
  std::vector<const RunData*> finished, measured;
  for (const RunData& run : group.runs) {
    if (run.state == RunState::finished) {
      result.seeds.push_back(run.config.seed);
      finished.push_back(&run);
    } else if (run.state == RunState::diverged) {
      result.diverged.push_back({run.config.seed, run.result.step});
    } else {
      result.running.push_back(run.config.seed);
    }
    if (std::isfinite(run.step_ms)) measured.push_back(&run);
  }
  const auto over_seeds = [&](const auto& value_of) {
    std::vector<double> values;
    for (const RunData* run : finished) values.push_back(value_of(*run));
    return estimate(values);
  };
  result.validation_loss = over_seeds([](const RunData& run) { return run.result.validation_loss; });
  result.bits_per_byte = over_seeds([](const RunData& run) { return run.result.bits_per_byte; });
  result.dead = over_seeds([](const RunData& run) { return run.result.dead; });
  result.starved = over_seeds([](const RunData& run) { return run.result.starved; });
  result.update_row_norm_cv = over_seeds([](const RunData& run) { return run.result.update_row_norm_cv; });
  const auto mean_over = [&](const auto& value_of) {
    Mean mean;
    for (const RunData* run : finished.empty() ? measured : finished) mean.add(value_of(*run));
    return mean.value();
  };
  result.step_ms = mean_over([](const RunData& run) { return run.step_ms; });
  result.optimizer_ms = mean_over([](const RunData& run) { return run.optimizer_ms; });
  result.optimizer_share = result.optimizer_ms / result.step_ms;
  const auto tokens = [](const RunData& run) {
    return static_cast<double>(trainer::tokens_per_step(run.config));
  };
  result.tokens_per_second = 1000 * mean_over(tokens) / result.step_ms;
  result.swept = swept_rates(group);
  result.hyperparameters = hyperparameters_of(group);

  result.validation = band(group.runs, result.step_ms, [](const RunData& run) { return run.validation; });
  const auto dead = [](const LayerRecord& layer) { return layer.dead; };
  const auto starved = [](const LayerRecord& layer) { return layer.starved; };
  result.dead_share =
      band(group.runs, result.step_ms, [&](const RunData& run) { return over_layers(run, dead); });
  result.starved_share =
      band(group.runs, result.step_ms, [&](const RunData& run) { return over_layers(run, starved); });
  for (const RunData& run : group.runs)
    for (const NeuronSnapshot& snapshot : run.neurons) result.neuron_steps.push_back(snapshot.step);
  keep_each_once(result.neuron_steps);
  result.starved_by_layer = by_layer(group.runs, result.neuron_steps, starved);
  result.dead_by_layer = by_layer(group.runs, result.neuron_steps, dead);
  result.leverage_gate_up = last_leverage(
      group.runs, [](const LayerRecord& layer) -> const auto& { return layer.leverage_gate_up; });
  result.leverage_down = last_leverage(
      group.runs, [](const LayerRecord& layer) -> const auto& { return layer.leverage_down; });

  std::vector<Persistence> shares;
  for (const RunData* run : finished) {
    const auto fates = neuron_fates(*run);
    shares.push_back(persistence(*run, fates));
    result.fates.insert(result.fates.end(), fates.begin(), fates.end());
  }
  const auto over_runs = [&](double Persistence::*share) {
    std::vector<double> values;
    for (const Persistence& one : shares) values.push_back(one.*share);
    return estimate(values);
  };
  result.persistence = {.ever = over_runs(&Persistence::ever),
                        .at_end = over_runs(&Persistence::at_end),
                        .lasting = over_runs(&Persistence::lasting),
                        .revived = over_runs(&Persistence::revived)};
  return result;
}

OptimizerResult losses_of(const std::string& name, const Runs& runs) {
  OptimizerResult result{};
  result.name = name;
  result.lr = runs.empty() ? kNotDefined : swept_lr(runs.front().config);
  std::vector<double> losses;
  for (const RunData& run : runs) {
    if (run.state != RunState::finished) continue;
    result.seeds.push_back(run.config.seed);
    losses.push_back(run.result.validation_loss);
  }
  result.validation_loss = estimate(losses);
  return result;
}

}  // namespace aurora::compare
