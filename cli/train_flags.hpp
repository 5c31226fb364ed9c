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

/// Flags that set one key each.
struct KeyFlag {
  const char* flag;
  const char* key;
};
inline constexpr std::array kKeyFlags = {
    KeyFlag{"--steps", "train.steps"},
    KeyFlag{"--seed", "train.seed"},
    KeyFlag{"--batch", "train.batch"},
    KeyFlag{"--accumulate", "train.accumulate"},
    KeyFlag{"--warmup", "train.warmup"},
    KeyFlag{"--cooldown", "train.cooldown"},
    KeyFlag{"--clip", "train.clip"},
    KeyFlag{"--width", "model.width"},
    KeyFlag{"--layers", "model.layers"},
    KeyFlag{"--heads", "model.heads"},
    KeyFlag{"--kv-heads", "model.kv_heads"},
    KeyFlag{"--context", "model.context"},
    KeyFlag{"--expansion", "model.expansion"},
    KeyFlag{"--adamw-lr", "adamw.lr"},
    KeyFlag{"--eval-every", "train.eval_every"},
    KeyFlag{"--diagnose-every", "train.diagnose_every"},
    KeyFlag{"--save-every", "train.save_every"},
    KeyFlag{"--save-momentum", "train.save_momentum"},
    KeyFlag{"--keep", "train.keep"},
    KeyFlag{"--threads", "train.threads"},
    KeyFlag{"--dtype", "train.dtype"},
    KeyFlag{"--device", "train.device"},
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
