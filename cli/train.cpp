#include "train.hpp"

#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <variant>

#include "command.hpp"
#include "config.hpp"
#include "json_line.hpp"
#include "progress.hpp"
#include "run_summary.hpp"
#include "stop.hpp"
#include "terminal.hpp"
#include "train_flags.hpp"

namespace aurora::cli {

namespace {

struct Flags {
  TrainFlags run;
  std::optional<std::string> optimizer, out;
  bool resume = false, overwrite = false, dry_run = false, quiet = false, json = false;
};

/// The flags given to `train`, later ones over earlier ones: configuration file, preset, flags, --set.
trainer::TrainConfig resolved_config(const Flags& flags) {
  trainer::TrainConfig config;
  if (flags.run.config) {
    config = trainer::from_toml(*flags.run.config);
  } else if (flags.resume && flags.out) {
    const auto file = std::filesystem::path(*flags.out) / "config.toml";
    if (std::filesystem::exists(file)) {
      config = trainer::from_toml(file);
    } else if (flags.run.data.empty()) {
      throw std::invalid_argument(fmt::format(
          "--resume: {} holds no run (no config.toml): leave out --resume and give --data to start one",
          *flags.out));
    }
  }
  apply_shape_and_text(flags.run, config);
  if (flags.optimizer) set_by_flag(config, "--optimizer", "optim.optimizer", *flags.optimizer);
  const bool adamw = !config.optim;
  apply_settings(flags.run, config, adamw ? "adamw.lr" : "optim.lr");
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
  fmt::print("{}", json_line(object));
}

void print_table(const trainer::TrainConfig& config, const trainer::RunResult& result,
                 const std::filesystem::path& out) {
  const auto value = [](double number) {
    return std::isfinite(number) ? fmt::format("{:.4f}", number) : "-";
  };
  const auto row = [](std::string_view label, const std::string& text) {
    fmt::print("  {:<22}{}\n", label, text);
  };
  fmt::print("{}\n", bold(fmt::format("{}: {} steps in {}", aurora::name(config.rule()), result.step,
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
  const std::atomic<bool>& stop = stop_on_signals();
  trainer::RunResult result;
  {
    ProgressLine line(stderr, flags.quiet);
    result = trainer::train(config, out, mode,
                            {.progress = [&](const trainer::Progress& progress) { line.show(progress); },
                             .notice = [&](const std::string& text) { line.notice(text); },
                             .stop = &stop});
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
      cli::show(stderr, fmt::format("stopped after step {}, saved in {}; go on with: {}\n", result.step,
                                    printable(result.checkpoint.string()), resume_command(out)));
      return kStopped;
    case trainer::RunEnd::diverged:
      cli::show(stderr,
                fmt::format("aurora train: {}; {}; a smaller --lr may help\n", first_line(result.message),
                            result.checkpoint.empty()
                                ? "no checkpoint was saved before"
                                : "last good checkpoint: " + printable(result.checkpoint.string())));
      return kDiverged;
  }
  return kFailed;
}

}  // namespace

void add_train(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("train", "train a decoder on text, and watch its neurons");
  const auto flags = std::make_shared<Flags>();
  command->add_option("--out", flags->out, "folder of the run, made here");
  command->add_option(
      "--optimizer", flags->optimizer,
      fmt::format("one of {}; with options: aurora:pp_iterations=3+balance=carried", optimizer_names()));
  add_train_flags(*command, flags->run, "optim.lr; with --optimizer adamw, adamw.lr");
  command->add_flag("--resume", flags->resume, "go on with the run in --out");
  command->add_flag("--overwrite", flags->overwrite, "replace the run in --out");
  command->add_flag("--dry-run", flags->dry_run, "print routing, parameters, memory and FLOPs, and stop");
  command->add_flag("--quiet", flags->quiet, "no progress");
  command->add_flag("--json", flags->json, "results as one JSON object");
  command->callback([flags, &chosen] { chosen = [flags] { return train(*flags); }; });
}

}  // namespace aurora::cli
