#include "train_flags.hpp"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace aurora::cli {

namespace {

std::pair<std::string, std::string> key_and_value(const std::string& setting) {
  const auto equals = setting.find('=');
  if (equals == std::string::npos)
    throw std::invalid_argument(fmt::format("--set wants KEY=VALUE: {}", setting));
  return {setting.substr(0, equals), setting.substr(equals + 1)};
}

/// Help of a flag from the one list of settings: key, meaning, rule, default.
std::string help_of(const std::vector<trainer::Setting>& settings, std::string_view key) {
  for (const auto& setting : settings) {
    if (setting.key == key)
      return fmt::format("{}: {} ({}; default {})", key, setting.meaning, setting.rule, setting.value);
  }
  throw std::logic_error(fmt::format("no setting {}", key));
}

}  // namespace

void set_by_flag(trainer::TrainConfig& config, std::string_view flag, std::string_view key,
                 const std::string& value) {
  try {
    trainer::set(config, key, value);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(fmt::format("{}: {}", flag, error.what()));
  }
}

std::string optimizer_names() {
  std::string names;
  for (const std::string& name : rule_names()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

void add_train_flags(CLI::App& command, TrainFlags& flags, const std::string& lr_help) {
  const auto settings = trainer::settings({});
  command.add_option("--data", flags.data, "files and folders of text; - is standard input")
      ->group(kTextGroup);
  command
      .add_option("--validation", flags.validation, "other text for evaluation (default: a part of --data)")
      ->group(kTextGroup);
  command.add_option("--lr", flags.lr, lr_help)->group(kOptimizerGroup);
  std::string presets;
  for (const auto& preset : trainer::preset_names()) presets += (presets.empty() ? "" : ", ") + preset;
  command.add_option("--preset", flags.preset, fmt::format("shape of the model: {}", presets))
      ->group(kModelGroup);
  for (std::size_t i = 0; i < kKeyFlags.size(); ++i)
    command.add_option(kKeyFlags[i].flag, flags.values[i], help_of(settings, kKeyFlags[i].key))
        ->group(kKeyFlags[i].group);
  command.add_option("--set", flags.settings, "any setting, KEY=VALUE, as in optim.momentum=0.9")
      ->allow_extra_args(false)
      ->group(kConfigurationGroup);
  command.add_option("--config", flags.config, "configuration file to start from, as a run writes it")
      ->group(kConfigurationGroup);
}

void apply_shape_and_text(const TrainFlags& flags, trainer::TrainConfig& config) {
  if (flags.preset) trainer::apply_preset(config, *flags.preset);
  if (!flags.data.empty()) config.data = trainer::absolute_paths(flags.data);
  if (!flags.validation.empty()) config.validation = trainer::absolute_paths(flags.validation);
}

void apply_settings(const TrainFlags& flags, trainer::TrainConfig& config, std::string_view lr_key) {
  bool heads = false, kv_heads = false;
  for (std::size_t i = 0; i < kKeyFlags.size(); ++i) {
    if (!flags.values[i]) continue;
    const std::string_view key = kKeyFlags[i].key;
    heads = heads || key == "model.heads";
    kv_heads = kv_heads || key == "model.kv_heads";
    const bool all = key == "train.eval_tokens" && *flags.values[i] == "all";
    set_by_flag(config, kKeyFlags[i].flag, key, all ? "0" : *flags.values[i]);
  }
  if (heads && !kv_heads) config.model.kv_heads = config.model.heads;
  if (flags.lr) set_by_flag(config, "--lr", lr_key, *flags.lr);
  for (const auto& setting : flags.settings) {
    const auto [key, value] = key_and_value(setting);
    set_by_flag(config, "--set", key, value);
  }
  if (config.data.empty())
    throw std::invalid_argument("--data is missing: name files or folders of text to train on");
}

}  // namespace aurora::cli
