#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "statistics.hpp"

namespace aurora::compare {

using Index = std::int64_t;

/// Mean over seeds at one step, with the interval of Estimate.
struct BandPoint {
  Index step;
  double seconds;  // since the run's start, mean over seeds
  double mean, low, high;
};
using Band = std::vector<BandPoint>;

/// One learning rate that was tried.
struct SweptRate {
  double factor, lr;
  double validation_loss;  // mean over the sweep's seeds; NaN where one diverged
};

struct Divergence {
  std::uint64_t seed;
  Index step;
};

/// What one optimizer (a variant) came to over its seeds. Losses in nats per token, times in ms, shares in
/// [0, 1]; NaN is "not defined" or "not there yet".
struct OptimizerResult {
  std::string name;                  // variant: "aurora:balance=release"
  double lr;                         // of the matrix optimizer; AdamW's own for adamw
  std::vector<std::uint64_t> seeds;  // of the finished runs, in the order of every `values`
  std::vector<std::uint64_t> running;
  std::vector<Divergence> diverged;
  Estimate validation_loss, bits_per_byte, dead, starved, update_row_norm_cv;
  double step_ms, optimizer_ms;  // medians over the steps of a run, mean over seeds
  double tokens_per_second, optimizer_share;
  std::vector<SweptRate> swept;

  Band validation;  // of all runs, running and diverged ones as far as they came
  Band dead_share, starved_share;
  /// Starved share (0.1, gate and up) by neuron record and layer, mean over seeds.
  std::vector<Index> neuron_steps;
  std::vector<std::vector<double>> starved_by_layer;  // [layer][record]
  std::vector<std::vector<double>> dead_by_layer;     // [layer][record]
  /// Last record: quantiles (trainer's kLeverageQuantiles) of leverage / balanced value, mean over seeds and
  /// layers, of gate and up rows together and of down columns. Empty without neuron records.
  std::vector<double> leverage_gate_up, leverage_down;
};

/// Validation loss of a minus that of b, paired by seed.
struct Difference {
  std::string a, b;
  Estimate validation_loss;
  int seeds;
};

/// A folder of runs, read.
struct Comparison {
  std::vector<OptimizerResult> optimizers;  // in the order they were asked for, else by name
  std::string baseline;                     // "muon" where present, else the first
  std::vector<Difference> differences;      // of every other optimizer against the baseline
  Index steps = 0, tokens_per_step = 0, parameters = 0;
  Index data_files = 0, data_bytes = 0;
  std::string data_sha256;
  /// Per seed; empty text where runs of one seed disagree or do not say.
  std::vector<std::uint64_t> seeds;
  std::vector<std::string> initial_weights_sha256, data_order_sha256;
  /// What speaks against the comparison or limits it, a sentence each: hashes or settings that differ, one
  /// seed, a best rate at the sweep's edge, a log that was cut off, runs without neuron records.
  std::vector<std::string> warnings;
  std::string command;                                // command line; empty for runs trained separately
  nlohmann::ordered_json config;                      // of the first run, as in its header
  std::string version, device, blas, torch, started;  // of the first run's header
  int threads = 0;
  bool complete = false;  // no run is missing or still running
};

/// Reads DIR/runs and DIR/sweep, or, where there is no DIR/runs, every run folder below DIR (grouped by the
/// optimizer settings of their configurations). Throws std::invalid_argument where there is no run.
Comparison read_comparison(const std::filesystem::path& folder);

/// Who is best and how sure that is, in one sentence; with one seed, that nothing can be concluded.
std::string answer(const Comparison& comparison);

/// Validation loss of a minus that of b over the seeds that both have finished.
Difference difference(const OptimizerResult& a, const OptimizerResult& b);

/// summary.json.
nlohmann::ordered_json summary(const Comparison& comparison);

/// report.html: one self-contained file.
std::string report_html(const Comparison& comparison);

/// One comparison per MLP expansion factor.
struct ExpansionResult {
  double expansion;
  Comparison comparison;
};
std::string report_html(const std::vector<ExpansionResult>& expansions);

/// Writes summary.json and report.html of DIR (of DIR/expansion-<e> too, where there are any), atomically.
/// Returns what it read; a folder without expansions as the one of its runs.
std::vector<ExpansionResult> write_report(const std::filesystem::path& folder);

}  // namespace aurora::compare
