#pragma once

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "config.hpp"
#include "run_summary.hpp"

namespace aurora::compare {

using Index = std::int64_t;

enum class RunState : std::uint8_t { waiting, running, finished, diverged };

/// A value at a step.
struct LoggedValue {
  Index step;
  double value;
};

/// The neuron record of one layer, in parts.
struct LayerRecord {
  Index neurons;                                              // -1 where they are not listed by number
  double dead, starved;                                       // at 0.1; starved of gate and up together
  std::vector<double> leverage_gate_up, leverage_down;        // quantiles; of gate and up the mean
  std::vector<Index> starved_gate, starved_up, dead_neurons;  // by number, at 0.1
};
struct NeuronSnapshot {
  Index step;
  std::vector<LayerRecord> layers;
};

/// What a run folder says.
struct RunData {
  std::filesystem::path folder;
  trainer::TrainConfig config;
  nlohmann::ordered_json header;  // an empty object where the log has none
  RunState state = RunState::running;
  trainer::RunResult result;     // of the records so far; `step` is the last one taken
  double step_ms, optimizer_ms;  // medians over the steps; NaN for none
  double product_ms;             // median of the machine's fixed product; NaN with fewer than kLeastProducts
  Index eval_tokens = 0;         // of an evaluation; 0 where that is not known
  std::vector<LoggedValue> validation;
  std::vector<NeuronSnapshot> neurons;
  std::vector<std::string> warnings;  // a cut-off last line, lines that are no record
};

/// So many products say how fast the machine was.
inline constexpr std::size_t kLeastProducts = 4;

/// The learning rate that a sweep multiplies: adamw.lr for adamw, else optim.lr.
double swept_lr(const trainer::TrainConfig& config);

/// What says which text the run read: checksum of training and validation text, and bytes of each. Empty where
/// the header does not say.
std::string text_of(const RunData& run);
std::string text_of(std::string_view sha256, Index training_bytes, Index validation_bytes);

/// Reads FOLDER/config.toml and FOLDER/log.jsonl. Numbers that are missing or of another kind are NaN. Throws
/// std::runtime_error or std::invalid_argument, naming the file, where one of them is missing or cannot be
/// read.
RunData read_run(const std::filesystem::path& folder);

}  // namespace aurora::compare
