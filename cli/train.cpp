#include "train.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <utility>
#include <variant>
#include <vector>

#include "command.hpp"
#include "config.hpp"
#include "progress.hpp"
#include "run_summary.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {

/// Flags that set one key each.
struct KeyFlag {
  const char* flag;
  const char* key;
};
constexpr std::array kKeyFlags = {
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
    KeyFlag{"--keep", "train.keep"},
    KeyFlag{"--threads", "train.threads"},
    KeyFlag{"--dtype", "train.dtype"},
    KeyFlag{"--device", "train.device"},
};

struct Flags {
  std::vector<std::string> data, validation, settings;
  std::optional<std::string> optimizer, out, config, preset, lr;
  std::array<std::optional<std::string>, kKeyFlags.size()> values;
  bool resume = false, overwrite = false, dry_run = false, quiet = false, json = false;
};

std::atomic<bool> stop_requested{false};
std::string_view stop_notice = "\nfinishing this step and saving (once more stops at once)\n";

void request_stop(int) {
  stop_requested.store(true);
  [[maybe_unused]] const auto written = write(STDERR_FILENO, stop_notice.data(), stop_notice.size());
}

/// The first SIGINT or SIGTERM asks the run to stop, the second of its kind kills.
void catch_signals() {
  if (!is_terminal(stderr)) stop_notice.remove_prefix(1);  // there is no moving line to leave
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void set_by_flag(trainer::TrainConfig& config, std::string_view flag, std::string_view key,
                 const std::string& value) {
  try {
    trainer::set(config, key, value);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(fmt::format("{}: {}", flag, error.what()));
  }
}

std::pair<std::string, std::string> key_and_value(const std::string& setting) {
  const auto equals = setting.find('=');
  if (equals == std::string::npos)
    throw std::invalid_argument(fmt::format("--set wants KEY=VALUE: {}", setting));
  return {setting.substr(0, equals), setting.substr(equals + 1)};
}

/// The flags given to `train`, later ones over earlier ones: configuration file, preset, flags, --set.
trainer::TrainConfig resolved_config(const Flags& flags) {
  trainer::TrainConfig config;
  if (flags.config) {
    config = trainer::from_toml(*flags.config);
  } else if (flags.resume && flags.out) {
    const auto file = std::filesystem::path(*flags.out) / "config.toml";
    if (std::filesystem::exists(file)) {
      config = trainer::from_toml(file);
    } else if (flags.data.empty()) {
      throw std::invalid_argument(fmt::format(
          "--resume: {} holds no run (no config.toml): leave out --resume and give --data to start one",
          *flags.out));
    }
  }
  if (flags.preset) trainer::apply_preset(config, *flags.preset);
  if (!flags.data.empty()) config.data = trainer::absolute_paths(flags.data);
  if (!flags.validation.empty()) config.validation = trainer::absolute_paths(flags.validation);
  if (flags.optimizer) set_by_flag(config, "--optimizer", "optim.optimizer", *flags.optimizer);

  bool heads = false, kv_heads = false;
  for (std::size_t i = 0; i < kKeyFlags.size(); ++i) {
    if (!flags.values[i]) continue;
    const std::string_view key = kKeyFlags[i].key;
    heads = heads || key == "model.heads";
    kv_heads = kv_heads || key == "model.kv_heads";
    set_by_flag(config, kKeyFlags[i].flag, key, *flags.values[i]);
  }
  if (heads && !kv_heads) config.model.kv_heads = config.model.heads;
  if (flags.lr) {
    const bool adamw = std::holds_alternative<AdamWOptions>(config.optim);
    set_by_flag(config, "--lr", adamw ? "adamw.lr" : "optim.lr", *flags.lr);
  }
  for (const auto& setting : flags.settings) {
    const auto [key, value] = key_and_value(setting);
    set_by_flag(config, "--set", key, value);
  }
  if (config.data.empty())
    throw std::invalid_argument("--data is missing: name files or folders of text to train on");
  trainer::validate(config);
  return config;
}

std::string resume_command(const std::filesystem::path& out) {
  return "aurora train --resume --out " + shell_word(out.string());
}

std::string_view name(trainer::RunEnd end) {
  switch (end) {
    case trainer::RunEnd::finished:
      return "finished";
    case trainer::RunEnd::already_finished:
      return "already finished";
    case trainer::RunEnd::interrupted:
      return "interrupted";
    case trainer::RunEnd::diverged:
      return "diverged";
  }
  return "unknown";
}

void print_json(const trainer::RunResult& result, const std::filesystem::path& out) {
  nlohmann::ordered_json object = {{"end", name(result.end)}};
  object.update(trainer::summary_record(result));
  object.erase("kind");
  object.update({{"out", out.string()},
                 {"checkpoint", result.checkpoint.string()},
                 {"log", (out / "log.jsonl").string()}});
  fmt::print("{}\n", object.dump());
}

void print_table(const trainer::TrainConfig& config, const trainer::RunResult& result,
                 const std::filesystem::path& out) {
  const auto value = [](double number) {
    return std::isfinite(number) ? fmt::format("{:.4f}", number) : "-";
  };
  const auto row = [](std::string_view label, const std::string& text) {
    fmt::print("  {:<22}{}\n", label, text);
  };
  fmt::print("{}\n", bold(fmt::format("{}: {} steps in {}", aurora::name(config.optim), result.step,
                                      duration(result.seconds)),
                          stdout));
  row("validation loss", value(result.validation_loss) + " nats per token");
  row("bits per byte", value(result.bits_per_byte));
  row("dead neurons", percent(result.dead));
  row("starved neurons", percent(result.starved));
  row("update row-norm CV", value(result.update_row_norm_cv));
  row("tokens per second", grouped(result.tokens_per_second));
  row("optimizer share", percent(result.optimizer_share));
  row("checkpoint", result.checkpoint.string());
  row("log", (out / "log.jsonl").string());
}

int train(const Flags& flags) {
  if (flags.resume && flags.overwrite)
    throw std::invalid_argument("--resume and --overwrite exclude each other");
  const trainer::TrainConfig config = resolved_config(flags);
  if (flags.dry_run) {
    const std::string plan = trainer::dry_run(config, flags.json);
    fmt::print("{}{}", plan, plan.ends_with('\n') ? "" : "\n");
    return kGood;
  }
  if (!flags.out || flags.out->empty()) {
    throw std::invalid_argument("--out is missing: name the folder of the run, as in --out runs/first");
  }
  const std::filesystem::path out = *flags.out;
  const auto mode = flags.resume      ? trainer::FolderMode::resume
                    : flags.overwrite ? trainer::FolderMode::overwrite
                                      : trainer::FolderMode::fresh;
  catch_signals();
  trainer::RunResult result;
  {
    ProgressLine line(stderr, flags.quiet);
    result = trainer::train(config, out, mode,
                            {.progress = [&](const trainer::Progress& progress) { line.show(progress); },
                             .notice = [&](const std::string& text) { line.notice(text); },
                             .stop = &stop_requested});
  }
  if (flags.json) print_json(result, out);
  switch (result.end) {
    case trainer::RunEnd::finished:
      if (!flags.json) print_table(config, result, out);
      return kGood;
    case trainer::RunEnd::already_finished:
      if (!flags.json) {
        print_table(config, result, out);
        fmt::print("this run was already finished: more steps with {} --steps N\n", resume_command(out));
      }
      return kGood;
    case trainer::RunEnd::interrupted:
      fmt::print(stderr, "stopped after step {}, saved in {}; go on with: {}\n", result.step,
                 result.checkpoint.string(), resume_command(out));
      return kStopped;
    case trainer::RunEnd::diverged:
      fmt::print(stderr, "aurora train: {}; {}; a smaller --lr may help\n", first_line(result.message),
                 result.checkpoint.empty() ? std::string("no checkpoint was saved before")
                                           : "last good checkpoint: " + result.checkpoint.string());
      return kDiverged;
  }
  return kFailed;
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

void add_train(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("train", "train a decoder on text, and watch its neurons");
  const auto flags = std::make_shared<Flags>();
  const auto settings = trainer::settings({});
  command->add_option("--data", flags->data, "files and folders of text; - is standard input");
  command->add_option("--validation", flags->validation,
                      "other text for evaluation (default: a part of --data)");
  command->add_option("--out", flags->out, "folder of the run, made here");
  std::string names;
  for (const auto optimizer : kOptimizerNames) names += (names.empty() ? "" : ", ") + std::string(optimizer);
  command->add_option("--optimizer", flags->optimizer,
                      fmt::format("one of {}; with options: aurora:pp_iterations=3+balance=carried", names));
  command->add_option("--lr", flags->lr, "optim.lr; with --optimizer adamw, adamw.lr");
  std::string presets;
  for (const auto& preset : trainer::preset_names()) presets += (presets.empty() ? "" : ", ") + preset;
  command->add_option("--preset", flags->preset, fmt::format("shape of the model: {}", presets));
  for (std::size_t i = 0; i < kKeyFlags.size(); ++i) {
    command->add_option(kKeyFlags[i].flag, flags->values[i], help_of(settings, kKeyFlags[i].key));
  }
  command->add_option("--set", flags->settings, "any setting, KEY=VALUE, as in optim.momentum=0.9")
      ->allow_extra_args(false);
  command->add_option("--config", flags->config, "configuration file to start from, as a run writes it");
  command->add_flag("--resume", flags->resume, "go on with the run in --out");
  command->add_flag("--overwrite", flags->overwrite, "replace the run in --out");
  command->add_flag("--dry-run", flags->dry_run, "print routing, parameters, memory and FLOPs, and stop");
  command->add_flag("--quiet", flags->quiet, "no progress");
  command->add_flag("--json", flags->json, "results as one JSON object");
  command->callback([flags, &chosen] { chosen = [flags] { return train(*flags); }; });
}

}  // namespace aurora::cli
