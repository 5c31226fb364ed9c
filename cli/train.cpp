#include "train.hpp"

#include <fmt/format.h>

#include <algorithm>
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
#include "ranks.hpp"
#include "run_summary.hpp"
#include "stop.hpp"
#include "terminal.hpp"
#include "train_flags.hpp"

namespace aurora::cli {

namespace {

struct Flags {
  TrainFlags run;
  std::optional<std::string> optimizer, out, rank_timeout, ranks, gpu;
  bool resume = false, overwrite = false, dry_run = false, quiet = false, json = false;
};

/// --accumulate counts the micro-batches of one rank, the setting those of all.
void count_for_all_ranks(TrainFlags& flags, trainer::TrainConfig& config, int ranks) {
  if (ranks == 1) return;
  for (std::size_t i = 0; i < kKeyFlags.size(); ++i) {
    if (std::string_view(kKeyFlags[i].flag) != "--accumulate") continue;
    if (auto& own = flags.values[i]) {
      own = fmt::format("{}", integer("--accumulate", *own, 1, 65536) * ranks);
    } else if (!flags.config) {
      config.accumulate = ranks;
    }
  }
}

/// The flags given to `train`, later ones over earlier ones: configuration file, preset, flags, --set.
trainer::TrainConfig resolved_config(Flags flags, int ranks) {
  trainer::TrainConfig config;
  if (flags.run.config) {
    config = trainer::from_toml(*flags.run.config);
  } else if (flags.resume && flags.out) {
    const auto file = std::filesystem::path(*flags.out) / "config.toml";
    if (std::filesystem::exists(file)) {
      flags.run.config = file.string();
      config = trainer::from_toml(file);
    } else if (flags.run.data.empty()) {
      throw std::invalid_argument(fmt::format(
          "--resume: {} holds no run (no config.toml): leave out --resume and give --data to start one",
          *flags.out));
    }
  }
  count_for_all_ranks(flags.run, config, ranks);
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
  fmt::print("{}\n", bold(fmt::format("{}: {} steps in {}", aurora::name(config.rule()), result.step,
                                      duration(result.seconds)),
                          stdout));
  const Table table{.heads = {},
                    .rows = {{"  validation loss", value(result.validation_loss) + " nats per token"},
                             {"  bits per byte", value(result.bits_per_byte)},
                             {"  dead neurons", percent(result.dead)},
                             {"  starved neurons", percent(result.starved)},
                             {"  update row-norm CV", value(result.update_row_norm_cv)},
                             {"  tokens per second", grouped(result.tokens_per_second)},
                             {"  optimizer share", percent(result.optimizer_share)},
                             {"  checkpoint", result.checkpoint.string()},
                             {"  log", (out / "log.jsonl").string()}},
                    .left = {0, 1}};
  for (const std::string& line : lines_of(table)) fmt::print("{}\n", line);
}

int exit_code(trainer::RunEnd end) {
  switch (end) {
    case trainer::RunEnd::finished:
    case trainer::RunEnd::already_finished:
      return kGood;
    case trainer::RunEnd::interrupted:
      return kStopped;
    case trainer::RunEnd::diverged:
      return kDiverged;
  }
  return kFailed;
}

int report(const trainer::TrainConfig& config, const trainer::RunResult& result,
           const std::filesystem::path& out, bool json) {
  if (json) print_json(result, out);
  switch (result.end) {
    case trainer::RunEnd::finished:
      if (!json) print_table(config, result, out);
      break;
    case trainer::RunEnd::already_finished:
      if (!json) {
        print_table(config, result, out);
        fmt::print("this run was already finished: more steps with {} --steps N\n", resume_command(out));
      }
      break;
    case trainer::RunEnd::interrupted:
      cli::show(stderr, fmt::format("stopped after step {}, saved in {}; go on with: {}\n", result.step,
                                    printable(result.checkpoint.string()), resume_command(out)));
      break;
    case trainer::RunEnd::diverged:
      cli::show(stderr,
                fmt::format("aurora train: {}; {}; a smaller --lr may help\n", first_line(result.message),
                            result.checkpoint.empty()
                                ? "no checkpoint was saved before"
                                : "last good checkpoint: " + printable(result.checkpoint.string())));
      break;
  }
  return exit_code(result.end);
}

/// As one of several ranks, or alone.
int train_as(const Flags& flags, const RankContext* context) {
  const trainer::TrainConfig config = resolved_config(flags, context == nullptr ? 1 : context->ranks.size());
  if (context != nullptr && std::ranges::find(config.data, "-") != config.data.end())
    throw std::invalid_argument("--data -: only one process has the standard input: name a file");
  const std::filesystem::path out = *flags.out;
  const auto mode = flags.resume      ? trainer::FolderMode::resume
                    : flags.overwrite ? trainer::FolderMode::overwrite
                                      : trainer::FolderMode::fresh;
  trainer::TrainHooks hooks;
  hooks.stop = &stop_on_signals();
  const bool speaks = context == nullptr || context->ranks.rank() == 0;
  if (context != nullptr) {
    hooks.ranks = &context->ranks;
    hooks.threads = context->threads;
    hooks.step_begins = [&](Index step) { context->set_place(fmt::format("step {}", step)); };
  }
  trainer::RunResult result;
  {
    ProgressLine line(stderr, flags.quiet || !speaks);
    if (speaks) {
      hooks.progress = [&](const trainer::Progress& progress) { line.show(progress); };
      hooks.notice = [&](const std::string& text) { line.notice(text); };
    }
    result = trainer::train(config, out, mode, hooks);
  }
  return speaks ? report(config, result, out, flags.json) : exit_code(result.end);
}

std::string planned(Flags flags, int launched_ranks) {
  if (flags.run.data.empty()) flags.run.data = {"-"};  // nothing is read
  std::optional<trainer::ScaleQuestion> scale;
  if (flags.ranks || flags.gpu) {
    scale = {.ranks = static_cast<int>(integer("--ranks", flags.ranks.value_or("1"), 1, 65536)),
             .gpu = flags.gpu.value_or("h100")};
  }
  return trainer::dry_run(resolved_config(flags, scale ? scale->ranks : launched_ranks), flags.json, scale);
}

int train(const Flags& flags) {
  if (flags.resume && flags.overwrite)
    throw std::invalid_argument("--resume and --overwrite exclude each other");
  if ((flags.ranks || flags.gpu) && !flags.dry_run)
    throw std::invalid_argument(
        "--ranks and --gpu belong to --dry-run: mpirun -np N aurora train starts ranks");
  const Launched here = launched();
  if (flags.dry_run) {
    if (here.rank > 0) return kGood;
    const std::string plan = planned(flags, here.size);
    fmt::print("{}{}", plan, plan.ends_with('\n') ? "" : "\n");
    return kGood;
  }
  if (!flags.out || flags.out->empty()) {
    throw std::invalid_argument("--out is missing: name the folder of the run, as in --out runs/first");
  }
  const double limit = number("--rank-timeout", flags.rank_timeout.value_or("600"), 1);
  if (here.size == 1) return train_as(flags, nullptr);
  return run_as_rank(here, limit, [&](const RankContext& context) { return train_as(flags, &context); });
}

}  // namespace

void add_train(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("train", "train a decoder on text, and watch its neurons");
  const auto flags = std::make_shared<Flags>();
  command->add_option("--out", flags->out, "folder of the run, made here")->group("Run");
  command
      ->add_option(
          "--optimizer", flags->optimizer,
          fmt::format("one of {}; with options: aurora:pp_iterations=3+balance=carried", optimizer_names()))
      ->group(kOptimizerGroup);
  add_train_flags(*command, flags->run, "optim.lr; with --optimizer adamw, adamw.lr");
  command->add_flag("--resume", flags->resume, "go on with the run in --out")->group("Run");
  command->add_flag("--overwrite", flags->overwrite, "replace the run in --out")->group("Run");
  command->add_flag("--dry-run", flags->dry_run, "print routing, parameters, memory and FLOPs, and stop")
      ->group("Output");
  command
      ->add_option("--rank-timeout", flags->rank_timeout,
                   "seconds that a rank waits for the others before all end (default 600)")
      ->group(kMachineGroup);
  command->add_option("--ranks", flags->ranks, "with --dry-run: a step of so many ranks, one GPU each")
      ->group("Output");
  command->add_option("--gpu", flags->gpu, "with --dry-run: their GPU, a100, h100, h200 or b200")
      ->group("Output");
  command->add_flag("--quiet", flags->quiet, "no progress")->group("Output");
  command->add_flag("--json", flags->json, "results as one JSON object")->group("Output");
  command->callback([flags, &chosen] { chosen = [flags] { return train(*flags); }; });
}

}  // namespace aurora::cli
