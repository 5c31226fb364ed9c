#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "neuron_fates.hpp"
#include "statistics.hpp"

namespace aurora::compare {

/// Mean over seeds at one step, with the interval of Estimate.
struct BandPoint {
  Index step;
  double seconds;  // step times the median time of a step: what the machine did meanwhile plays no part
  double mean, low, high;
};
using Band = std::vector<BandPoint>;

/// One point of the sweep that was tried. Means over the sweep's seeds; NaN while one still runs or where one
/// diverged.
struct SweptRate {
  double factor, lr;
  double validation_loss;
  /// Swept settings besides the learning rate, where they are not as configured.
  std::map<std::string, double> others = {};
  int finished = 0, running = 0, diverged = 0;
  double starved = std::numeric_limits<double>::quiet_NaN();
  double dead = std::numeric_limits<double>::quiet_NaN();
};

struct Divergence {
  std::uint64_t seed;
  Index step;
};

/// Persistence, with intervals over seeds.
struct PersistenceEstimate {
  Estimate ever, at_end, lasting, revived;
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
  /// Medians over the steps of a run, mean over seeds; optimizer_share is their quotient, tokens_per_second
  /// the tokens of a step over step_ms.
  double step_ms, optimizer_ms;
  double tokens_per_second, optimizer_share;
  std::vector<SweptRate> swept;  // rates alone first, each by factor
  /// All settings of the optimizer and of the auxiliary AdamW, as its runs had them.
  std::vector<std::pair<std::string, std::string>> hyperparameters;

  Band validation;  // of all runs, running and diverged ones as far as they came
  Band dead_share, starved_share;
  /// Starved share (0.1, gate and up) by neuron record and layer, mean over seeds.
  std::vector<Index> neuron_steps;
  std::vector<std::vector<double>> starved_by_layer;  // [layer][record]
  std::vector<std::vector<double>> dead_by_layer;     // [layer][record]
  /// Last record: quantiles (trainer's kLeverageQuantiles) of leverage / balanced value, mean over seeds and
  /// layers, of gate and up rows together and of down columns. Empty without neuron records.
  std::vector<double> leverage_gate_up, leverage_down;
  std::vector<NeuronFate> fates;  // of all finished runs
  PersistenceEstimate persistence{};
};

/// Validation loss of a minus that of b, paired by seed.
struct Difference {
  std::string a, b;
  Estimate validation_loss;
  int seeds;
  Adjusted adjusted;  // within the family that it was looked at with
};

/// The comparison with every rate as configured, where the sweep chose others for some.
struct EqualRates {
  bool of_the_sweep;                        // its seeds, not those of the result
  std::vector<OptimizerResult> optimizers;  // name, lr, seeds and validation_loss alone
  std::vector<Difference> differences;      // against the baseline
};

/// A folder of runs, read.
struct Comparison {
  std::vector<OptimizerResult> optimizers;  // in the order they were asked for, else by name
  std::string baseline;                     // "muon" where present, else the first
  std::vector<Difference> differences;  // of every other optimizer against the baseline; adjusted together
  std::optional<EqualRates> equal_rates;
  Index steps = 0, tokens_per_step = 0, parameters = 0;
  Index data_files = 0, data_bytes = 0;
  Index eval_tokens = 0, validation_bytes = 0;  // of an evaluation; of the text it is taken from
  std::string data_sha256;
  /// Per seed; empty text where runs of one seed disagree or do not say.
  std::vector<std::uint64_t> seeds;
  std::vector<std::string> initial_weights_sha256, data_order_sha256;
  /// Why the runs are no comparison, a sentence each: other models, other training. No optimizer is then
  /// named best and there are no differences.
  std::vector<std::string> incomparable;
  /// What speaks against the comparison or limits it, a sentence each: hashes or settings that differ, one
  /// seed, a best rate at the sweep's edge, a log that was cut off, runs without neuron records.
  std::vector<std::string> warnings;
  std::string command;            // command line; empty for runs trained separately
  nlohmann::ordered_json config;  // of the first run, as in its header
  // Of the first run's header.
  std::string version, commit, device, device_name, blas, torch, started, wait_policy;
  int threads = 0;
  bool complete = false;  // no run is missing or still running
};

/// Reads DIR/runs and DIR/sweep, or, where there is no DIR/runs, every run folder below DIR (grouped by the
/// settings of their configurations). Throws std::invalid_argument where there is no run.
Comparison read_comparison(const std::filesystem::path& folder);

/// Who is best and how sure that is, in one sentence; with fewer than kLeastForAConclusion seeds, that
/// nothing can be concluded. Its intervals are those of Holm: of the best against the baseline as in
/// `differences`, of the best against the second among all pairs.
std::string answer(const Comparison& comparison);

/// Validation loss of a minus that of b over the seeds that both have finished; not adjusted.
Difference difference(const OptimizerResult& a, const OptimizerResult& b);
/// Adjusts them together.
void adjust(std::vector<Difference>& differences);

/// The keys of OptimizerResult::hyperparameters that not all optimizers which have them hold at one value.
std::vector<std::string> unequal_hyperparameters(const Comparison& comparison);

/// The text of a comparison: files, bytes, what was evaluated, checksum.
nlohmann::ordered_json data_json(const Comparison& comparison);

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
