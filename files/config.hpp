#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aurora/rules.hpp"

namespace aurora::trainer {

/// A Llama-shaped decoder; see model.hpp.
struct ModelConfig {
  Index vocabulary = 256;
  Index width = 128;
  Index layers = 4;
  Index heads = 4;
  Index kv_heads = 4;
  Index context = 128;
  double expansion = 4;  // neurons of an MLP = expansion * width
  double rope_theta = 10000;
  double norm_eps = 1e-5;
  Index neurons() const;
  bool operator==(const ModelConfig&) const = default;
};

/// Everything that decides a run. Two equal configurations give equal runs on one machine and build.
struct TrainConfig {
  ModelConfig model;
  std::vector<std::string> data;                // files and folders, "-" for standard input
  std::vector<std::string> validation;          // other text for evaluation; empty: a part of data
  std::optional<Rule> optim = AuroraOptions{};  // of the hidden matrices; none: AdamW steps everything
  AdamWOptions adamw;                           // of everything else
  Index steps = 500;
  Index batch = 16;
  Index accumulate = 1;  // micro-batches of a step, of all ranks together
  double warmup = 0.04;  // shares of the steps
  double cooldown = 0.4;
  double clip = 1.0;  // global gradient norm; 0: none
  std::uint64_t seed = 0;
  int threads = 0;  // 0: as many as torch takes
  Index eval_every = 50;
  Index eval_tokens = 32768;  // of each evaluation at most; 0: all
  Index diagnose_every = 0;   // 0: ten records over the run
  Index save_every = 500;
  Index save_momentum = 0;        // steps from momentum file to momentum file; 0: none
  Index keep = 0;                 // newest checkpoints kept; 0: all
  std::string reduction = "any";  // order in which ranks' gradients are added: any, or ordered
  std::string dtype = "f32";      // of the forward pass: f32 or bf16
  std::string device = "cpu";
  /// The rule that the run is named after: that of the hidden matrices, else AdamW.
  Rule rule() const { return optim ? *optim : Rule(adamw); }
  bool operator==(const TrainConfig&) const = default;
};

/// Steps from neuron record to neuron record: train.diagnose_every, or for 0 a tenth of the steps, rounded
/// up.
Index diagnose_interval(const TrainConfig& config);

/// Paths that mean the same from every folder, so that a run can be resumed from any; "-" and "" stay.
std::vector<std::string> absolute_paths(std::vector<std::string> paths);

/// Sets model width, layers, heads, kv_heads, context, expansion, and the batch. Throws std::invalid_argument
/// for a name that is not one of preset_names().
void apply_preset(TrainConfig& config, std::string_view name);
std::vector<std::string> preset_names();

/// One setting of the one list that files, --set, validation and resume walk.
struct Setting {
  std::string key;      // "train.steps", "model.width", "optim.lr", "adamw.beta1", "data.paths"
  std::string value;    // text that reads back to the same value; lists as TOML arrays
  std::string rule;     // "an integer from 1 to 1024"
  std::string meaning;  // one phrase
};
/// All of them, grouped by section. With adamw there is no "optim." key but the optimizer: [adamw] is for
/// everything.
std::vector<Setting> settings(const TrainConfig& config);

/// The setting that says which other settings there are.
constexpr std::string_view kOptimizerSetting = "optim.optimizer";

/// Sets one setting from text. Another "optim.optimizer" (a name or a variant, "aurora:pp_iterations=3")
/// resets "optim." to its defaults; the same name without options changes nothing. Paths are one path or a
/// TOML array; relative ones become absolute. Also takes "adamw.betas" = "0.9, 0.95". Throws
/// std::invalid_argument: key, rule and value; for an unknown key the nearest one. The configuration is then
/// unchanged.
void set(TrainConfig& config, std::string_view key, std::string_view value);

/// Every rule of the list, and those that join several settings: width divisible by heads, an even head
/// dimension, heads divisible by kv_heads, whole neurons, warm-up and cool-down that fit, a token count below
/// 2^62, learning rates > 0. Throws std::invalid_argument.
void validate(const TrainConfig& config);

/// The whole configuration as TOML, sections [model] [data] [train] [optim] [adamw]; numbers read back
/// exactly.
std::string to_toml(const TrainConfig& config);

/// Reads what to_toml writes, or a part of it over the defaults. Not yet validated. Throws std::runtime_error
/// for a file that cannot be read or is no TOML, std::invalid_argument as set() does, both naming file and
/// line. At most 1 MiB, with keys of at most 1024 bytes and 8 parts.
TrainConfig from_toml(const std::filesystem::path& file);
/// The same of the text itself; `file` is for messages.
TrainConfig from_toml_text(std::string_view text, const std::string& file);

}  // namespace aurora::trainer
