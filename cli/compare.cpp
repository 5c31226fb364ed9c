#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "aurora/value_text.hpp"
#include "command.hpp"
#include "compare_design.hpp"
#include "compare_plan.hpp"
#include "compare_results.hpp"
#include "comparison_board.hpp"
#include "model_size.hpp"
#include "run_all.hpp"
#include "stop.hpp"
#include "terminal.hpp"
#include "text_data.hpp"
#include "train.hpp"

namespace aurora::cli {

namespace {

namespace fs = std::filesystem;

/// The command line as it was given, but for what changes no result.
std::string command_line(const CLI::App& command) {
  std::string text = "aurora " + command.get_name();
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0 || option->check_name("--quiet") || option->check_name("--json")) continue;
    if (option->get_items_expected_max() == 0) {  // a flag
      text += " " + option->get_name();
      continue;
    }
    // A flag that takes one value each time is given again for each.
    const bool repeated = option->check_name("--sweep") || option->check_name("--set");
    if (!repeated) text += " " + option->get_name();
    for (const std::string& value : option->results())
      text += (repeated ? " " + option->get_name() + " " : " ") + shell_word(value);
  }
  return text;
}

/// Whether others take the cores, in one sentence; empty where nobody does.
std::string sharing() {
  double load = 0;
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  if (::getloadavg(&load, 1) != 1 || load < 0.5) return {};
  return fmt::format(
      "this machine is shared: {:.1f} processes wanted its {} cores in the last minute, so times will depend "
      "on "
      "others; losses do not",
      load, cores);
}

/// The text of a run as it is now, as its header will say.
std::string text_now(const trainer::TrainConfig& config) {
  const trainer::TextData data(config.data, config.validation, config.model.context + 1);
  const trainer::CorpusSummary& text = data.summary();
  return compare::text_of(text.sha256, text.training_bytes, text.validation_bytes);
}

struct Progress {
  std::size_t runs = 0, ended = 0, lost = 0;
  bool interrupted = false;
};

Progress make_runs(const std::vector<ComparisonPart>& parts, const CompareFlags& flags) {
  const std::atomic<bool>& stop = stop_on_signals();
  const int jobs = jobs_of(flags);
  Progress progress;
  std::string shared = sharing();
  for (const ComparisonPart& part : parts) {
    ComparisonBoard board(stderr, flags.quiet, part.design, part.title, jobs);
    if (flags.match_parameters) {
      const trainer::ModelConfig& model = part.design.contenders.front().config.model;
      board.notice(fmt::format("expansion {}: width {}, {} parameters", number_text(model.expansion),
                               model.width, grouped(static_cast<double>(trainer::parameter_count(model)))));
    }
    const auto outcome = compare::run_all(part.design, part.folder, trainer::train,
                                          {.progress =
                                               [&](auto all, const auto& current) {
                                                 if (!shared.empty()) board.notice(std::exchange(shared, {}));
                                                 board.show(all, current);
                                               },
                                           .notice = [&](const std::string& text) { board.notice(text); },
                                           .stop = &stop,
                                           .text = text_now},
                                          jobs);
    progress.runs += outcome.runs.size();
    for (const auto& run : outcome.runs) {
      progress.ended += compare::ended(run) ? 1 : 0;
      progress.lost += run.state == compare::RunState::diverged ? 1 : 0;
    }
    progress.interrupted = outcome.interrupted;
    if (progress.interrupted) break;
  }
  return progress;
}

void report(const std::vector<compare::ExpansionResult>& results, const CompareFlags& flags,
            const fs::path& out) {
  if (flags.json) {
    std::ifstream summary(out / "summary.json");
    std::ostringstream text;
    text << summary.rdbuf();
    fmt::print("{}", text.str());
  } else {
    print_results(results, out);
  }
  for (const auto& result : results) print_warnings(result.comparison, "compare");
}

int compare_optimizers(const CompareFlags& flags, const std::string& command) {
  if (!flags.out || flags.out->empty())
    throw std::invalid_argument("--out is missing: name the folder of the comparison, as in --out runs/six");
  const fs::path out = *flags.out;
  if (fs::exists(out) && !fs::is_directory(out))
    throw std::invalid_argument(out.string() + " is a file, not a folder; name another --out");
  const std::vector<ComparisonPart> parts = comparison_parts(flags, command, out);
  if (flags.dry_run) {
    print_plan(parts, jobs_of(flags));
    return kGood;
  }
  const Progress progress = make_runs(parts, flags);
  if (progress.ended > 0) {
    const auto results = compare::write_report(out);
    if (!progress.interrupted) report(results, flags, out);
  }
  if (progress.interrupted) {
    show(stderr, fmt::format("stopped with {} of {} runs done, all kept in {}; go on with: {}\n",
                             progress.ended, progress.runs, printable(out.string()), command));
    return kStopped;
  }
  if (progress.lost < progress.runs) return kGood;
  show(stderr, fmt::format("aurora compare: all {} runs diverged; a smaller --lr or --adamw-lr may help\n",
                           progress.runs));
  return kDiverged;
}

}  // namespace

void add_compare(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "compare", "train with several optimizers, all else equal, and say which is best and how sure that is");
  const auto flags = std::make_shared<CompareFlags>();
  const auto grouped_option = [&](const char* group, CLI::Option* option) { return option->group(group); };
  constexpr const char *kComparison = "Comparison", *kSweep = "Sweep", *kOutput = "Output";
  grouped_option(kComparison,
                 command->add_option("--optimizers", flags->optimizers,
                                     fmt::format("names or variants with commas between them, as in "
                                                 "muon,aurora:balance=carried; names: {}",
                                                 optimizer_names())));
  grouped_option(kComparison,
                 command->add_option("--out", flags->out,
                                     "folder of the comparison; a second call goes on, also with more seeds, "
                                     "optimizers or factors"));
  grouped_option(kComparison,
                 command->add_option("--seeds", flags->seeds, "runs of each optimizer, from --seed on")
                     ->capture_default_str());
  grouped_option(kComparison, command->add_option("--expansions", flags->expansions,
                                                  "a comparison for each MLP expansion factor, in "
                                                  "OUT/expansion-<e>, as in 2,4,8"));
  grouped_option(
      kComparison,
      command->add_flag("--match-parameters", flags->match_parameters,
                        "with --expansions: the width, a multiple of 2 * heads, that brings the number of "
                        "parameters nearest to that of --width and --expansion"));
  grouped_option(
      kComparison,
      command
          ->add_option("--jobs", flags->jobs,
                       "runs made side by side, each with its part of the cores where --threads does not "
                       "say how many")
          ->capture_default_str());
  grouped_option(kSweep, command->add_option(
                             "--sweep-lr", flags->sweep_lr,
                             "factors on the learning rate to choose from for each optimizer, as in 0.5,1,2 "
                             "(of optim.lr; of adamw.lr for adamw), or auto: 0.5,1,2 and on until the best "
                             "lies inside"));
  grouped_option(kSweep,
                 command
                     ->add_option("--sweep", flags->sweep,
                                  "factors on another setting, KEY=FACTORS, as in adamw.lr=0.5,1,2 or "
                                  "optim.weight_decay=0,1,2; each alone, the others as configured")
                     ->allow_extra_args(false));
  grouped_option(kSweep, command->add_flag("--sweep-jointly", flags->sweep_jointly,
                                           "all combinations of the swept settings instead of each alone"));
  grouped_option(kSweep,
                 command
                     ->add_option("--sweep-seeds", flags->sweep_seeds,
                                  fmt::format("seeds of the sweep, from {} on", compare::kFirstSweepSeed))
                     ->capture_default_str());
  grouped_option(kSweep,
                 command->add_flag("--equal-rates", flags->equal_rates,
                                   "the result's seeds also at the configured rates, where the sweep chose "
                                   "others"));
  add_train_flags(*command, flags->run, "optim.lr of the matrix optimizers; of adamw it is --adamw-lr");
  grouped_option(kOutput,
                 command->add_flag("--dry-run", flags->dry_run,
                                   "print the runs and the time they take, from one measured step of each "
                                   "optimizer, and stop"));
  grouped_option(kOutput, command->add_flag("--quiet", flags->quiet, "no progress"));
  grouped_option(kOutput, command->add_flag("--json", flags->json, "summary.json instead of tables"));
  command->callback([flags, command, &chosen] {
    chosen = [flags, line = command_line(*command)] { return compare_optimizers(*flags, line); };
  });
}

}  // namespace aurora::cli
