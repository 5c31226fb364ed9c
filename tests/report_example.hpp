#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "comparison.hpp"

namespace aurora::compare::test {

inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// `seeds` values about `mean`; `which` shifts their pattern, so that differences by seed vary too.
inline Estimate example_estimate(double mean, double spread, std::size_t seeds, std::size_t which = 0) {
  static constexpr std::array<double, 5> kPattern = {-1, 0.5, 1.2, -0.9, 0.2};
  std::vector<double> values;
  for (std::size_t i = 0; i < seeds; ++i)
    values.push_back(seeds == 1 ? mean : mean + spread * kPattern.at((i + which) % kPattern.size()));
  return estimate(values);
}

/// An optimizer whose loss ends at `loss` and whose starved share comes to `starved`.
inline OptimizerResult example_optimizer(const std::string& name, double loss, double starved,
                                         double milliseconds, std::size_t seeds) {
  OptimizerResult result{};
  result.name = name;
  result.lr = name == "adamw" ? 3e-3 : 0.02;
  for (std::size_t seed = 0; seed < seeds; ++seed) result.seeds.push_back(seed);
  result.validation_loss = example_estimate(loss, 0.004, seeds, name.size());
  result.bits_per_byte = example_estimate(loss / std::log(2.0), 0.004 / std::log(2.0), seeds);
  result.starved = example_estimate(starved, 0.1 * starved, seeds);
  result.dead = example_estimate(starved / 5, starved / 50, seeds);
  result.update_row_norm_cv = example_estimate(name == "adamw" ? kNaN : starved * 2.5, 0, seeds);
  result.step_ms = milliseconds;
  result.optimizer_ms = 0.2 * milliseconds;
  result.optimizer_share = 0.2;
  result.tokens_per_second = 2048e3 / milliseconds;
  for (const double factor : {0.5, 1.0, 2.0})
    result.swept.push_back({factor, factor * result.lr, loss + 0.02 * std::pow(std::log2(factor), 2)});

  result.persistence = {.ever = example_estimate(1.5 * starved, 0.1 * starved, seeds),
                        .at_end = result.starved,
                        .lasting = example_estimate(0.5 * starved, 0.1 * starved, seeds),
                        .revived = example_estimate(0.5 * starved, 0.1 * starved, seeds)};
  result.fates = {{0, 1, "gate", 17, 100, 250, 6, 0}, {0, 1, "up", 3, 100, -1, 2, 1}};
  result.hyperparameters = {{name == "adamw" ? "adamw.lr" : "optim.lr", name == "adamw" ? "0.003" : "0.02"}};
  result.starved_by_layer.resize(4);
  for (Index step = 50; step <= 500; step += 50) {
    const double done = static_cast<double>(step) / 500;
    const double mean = loss + 2 * std::exp(-6 * done) + 0.03 * (1 - done);
    const double half = seeds > 1 ? 0.004 + 0.01 * (1 - done) : kNaN;
    const double seconds = milliseconds * static_cast<double>(step) / 1000;
    result.validation.push_back({step, seconds, mean, mean - half, mean + half});
    const double share = starved * std::sqrt(done);
    result.starved_share.push_back({step, seconds, share, share - half, share + half});
    result.dead_share.push_back({step, seconds, share / 5, share / 5 - half / 5, share / 5 + half / 5});
    result.neuron_steps.push_back(step);
    for (std::size_t layer = 0; layer < 4; ++layer)
      result.starved_by_layer[layer].push_back(share * (0.4 + 0.4 * static_cast<double>(layer)));
  }
  result.dead_by_layer = result.starved_by_layer;
  const double skew = 0.5 + 4 * starved;
  for (const double z : {-3.0, -2.0, -1.2, 0.0, 0.8, 1.3, 1.8}) {
    result.leverage_gate_up.push_back(std::exp(skew * z));
    result.leverage_down.push_back(std::exp(0.8 * skew * z));
  }
  return result;
}

inline void add_differences(Comparison& comparison) {
  comparison.differences.clear();
  const OptimizerResult* baseline = nullptr;
  for (const OptimizerResult& result : comparison.optimizers) {
    if (result.name == comparison.baseline) baseline = &result;
  }
  for (const OptimizerResult& result : comparison.optimizers) {
    if (baseline == nullptr || &result == baseline || result.seeds.size() != baseline->seeds.size()) continue;
    comparison.differences.push_back(difference(result, *baseline));
  }
  adjust(comparison.differences);
}

/// A finished comparison of six optimizers.
inline Comparison example_comparison(std::size_t seeds = 5) {
  Comparison comparison;
  comparison.optimizers = {example_optimizer("adamw", 1.8688, 0.061, 132, seeds),
                           example_optimizer("muon", 1.6492, 0.216, 141, seeds),
                           example_optimizer("normuon", 1.6401, 0.184, 143, seeds),
                           example_optimizer("u-normuon", 1.6279, 0.059, 142, seeds),
                           example_optimizer("aurora", 1.6231, 0.058, 149, seeds),
                           example_optimizer("riemannian-aurora", 1.6262, 0.073, 171, seeds)};
  comparison.baseline = "muon";
  add_differences(comparison);
  comparison.steps = 500;
  comparison.tokens_per_step = 2048;
  comparison.parameters = 1115264;
  comparison.data_files = 1;
  comparison.data_bytes = 1115394;
  comparison.data_sha256 = std::string(64, 'd');
  for (std::size_t seed = 0; seed < seeds; ++seed) {
    comparison.seeds.push_back(seed);
    comparison.initial_weights_sha256.push_back(std::string(64, 'a'));
    comparison.data_order_sha256.push_back(std::string(64, 'b'));
  }
  comparison.command =
      "aurora compare --data tinyshakespeare.txt --optimizers adamw,muon,normuon,u-normuon,aurora,"
      "riemannian-aurora --seeds 5 --steps 500 --sweep-lr 0.5,1,2 --out runs/shakespeare";
  comparison.config = {{"model", {{"width", 128}, {"layers", 4}}}, {"train", {{"steps", 500}}}};
  comparison.version = "0.1.0";
  comparison.device = "cpu";
  comparison.device_name = "AMD EPYC";
  comparison.commit = "0123456789ab";
  comparison.eval_tokens = 32768;
  comparison.validation_bytes = 111540;
  comparison.blas = "oneMKL 2024.2 (AVX-512)";
  comparison.torch = "2.13.0";
  comparison.started = "2026-01-01T00:00:00Z";
  comparison.threads = 2;
  comparison.complete = true;
  return comparison;
}

}  // namespace aurora::compare::test
