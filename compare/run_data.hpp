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
  double seconds;  // since the run's start
  double value;
};

/// The neuron record of one layer, in parts.
struct LayerRecord {
  double dead, starved;                                 // at 0.1; starved of gate and up together
  std::vector<double> leverage_gate_up, leverage_down;  // quantiles; of gate and up the mean
};
struct NeuronSnapshot {
  Index step;
  double seconds;
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
  std::vector<LoggedValue> validation;
  std::vector<NeuronSnapshot> neurons;
  std::vector<std::string> warnings;  // a cut-off last line, lines that are no record
};

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
