#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config.hpp"

namespace aurora::cli {

// The groups of help.
inline constexpr const char *kTextGroup = "Text", *kModelGroup = "Model", *kTrainingGroup = "Training",
                            *kOptimizerGroup = "Optimizer", *kRecordsGroup = "Records and checkpoints",
                            *kMachineGroup = "Machine", *kConfigurationGroup = "Configuration";

/// Flags that set one key each.
struct KeyFlag {
  const char* flag;
  const char* key;
  const char* group;
};
inline constexpr std::array kKeyFlags = {
    KeyFlag{"--steps", "train.steps", kTrainingGroup},
    KeyFlag{"--seed", "train.seed", kTrainingGroup},
    KeyFlag{"--batch", "train.batch", kTrainingGroup},
    KeyFlag{"--accumulate", "train.accumulate", kTrainingGroup},
    KeyFlag{"--reduction", "train.reduction", kTrainingGroup},
    KeyFlag{"--warmup", "train.warmup", kTrainingGroup},
    KeyFlag{"--cooldown", "train.cooldown", kTrainingGroup},
    KeyFlag{"--clip", "train.clip", kTrainingGroup},
    KeyFlag{"--width", "model.width", kModelGroup},
    KeyFlag{"--layers", "model.layers", kModelGroup},
    KeyFlag{"--heads", "model.heads", kModelGroup},
    KeyFlag{"--kv-heads", "model.kv_heads", kModelGroup},
    KeyFlag{"--context", "model.context", kModelGroup},
    KeyFlag{"--expansion", "model.expansion", kModelGroup},
    KeyFlag{"--adamw-lr", "adamw.lr", kOptimizerGroup},
    KeyFlag{"--eval-every", "train.eval_every", kRecordsGroup},
    KeyFlag{"--eval-tokens", "train.eval_tokens", kRecordsGroup},
    KeyFlag{"--diagnose-every", "train.diagnose_every", kRecordsGroup},
    KeyFlag{"--save-every", "train.save_every", kRecordsGroup},
    KeyFlag{"--save-momentum", "train.save_momentum", kRecordsGroup},
    KeyFlag{"--keep", "train.keep", kRecordsGroup},
    KeyFlag{"--threads", "train.threads", kMachineGroup},
    KeyFlag{"--dtype", "train.dtype", kMachineGroup},
    KeyFlag{"--device", "train.device", kMachineGroup},
};

/// The flags that describe runs, the same for every command that trains.
struct TrainFlags {
  std::vector<std::string> data, validation, settings;
  std::optional<std::string> config, preset, lr;
  std::array<std::optional<std::string>, kKeyFlags.size()> values;  // of kKeyFlags
};

/// Declares them; help of those that set a key comes from the list of settings.
void add_train_flags(CLI::App& command, TrainFlags& flags, const std::string& lr_help);

/// Over `config`: preset, --data, --validation.
void apply_shape_and_text(const TrainFlags& flags, trainer::TrainConfig& config);

/// Over `config`: the flags that set a key, --lr as `lr_key`, --set. Throws where there is then no text to
/// train on.
void apply_settings(const TrainFlags& flags, trainer::TrainConfig& config, std::string_view lr_key);

/// trainer::set, with the flag in the message.
void set_by_flag(trainer::TrainConfig& config, std::string_view flag, std::string_view key,
                 const std::string& value);

/// "adamw, muon, ..."
std::string optimizer_names();

}  // namespace aurora::cli
