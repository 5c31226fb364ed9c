#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <variant>
#include <vector>

#include "command.hpp"
#include "comparison.hpp"
#include "comparison_board.hpp"
#include "model_size.hpp"
#include "run_all.hpp"
#include "stop.hpp"
#include "terminal.hpp"
#include "text_data.hpp"
#include "train.hpp"
#include "train_flags.hpp"

namespace aurora::cli {

namespace {

namespace fs = std::filesystem;
using compare::Comparison;
using compare::Design;
using compare::Estimate;
using compare::OptimizerResult;

struct Flags {
  TrainFlags run;
  std::optional<std::string> optimizers, out, sweep_lr, expansions;
  std::string seeds = "5", sweep_seeds = "1";
  bool match_parameters = false, quiet = false, json = false;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  if (text.ends_with(',')) parts.emplace_back();
  return parts;
}

/// "0.5,1,2" as numbers > 0, in ascending order.
std::vector<double> numbers(const std::string& flag, const std::optional<std::string>& text) {
  std::vector<double> values;
  if (!text) return values;
  for (const std::string& part : split(*text)) {
    double value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || !std::isfinite(value) || value <= 0) {
      throw std::invalid_argument(
          fmt::format("{} takes numbers > 0 with commas between them, as in 0.5,1,2: {}", flag, *text));
    }
    values.push_back(value);
  }
  if (values.empty()) throw std::invalid_argument(flag + " is empty: give numbers, as in 0.5,1,2");
  std::ranges::sort(values);
  if (std::ranges::adjacent_find(values) != values.end())
    throw std::invalid_argument(fmt::format("{} names a number twice: {}", flag, *text));
  return values;
}

trainer::TrainConfig shared_config(const TrainFlags& flags) {
  trainer::TrainConfig config;
  if (flags.config) config = trainer::from_toml(*flags.config);
  apply_shape_and_text(flags, config);
  return config;
}

/// The variant's own options win over --lr and --set, which hold for every optimizer.
trainer::TrainConfig config_of(const TrainFlags& flags, const std::string& variant) {
  trainer::TrainConfig config = shared_config(flags);
  set_by_flag(config, "--optimizers", "optim.optimizer", variant);
  const bool adamw = !config.optim;
  TrainFlags own = flags;
  if (adamw) {
    own.lr.reset();
    std::erase_if(own.settings, [](const std::string& setting) { return setting.starts_with("optim."); });
  }
  apply_settings(own, config, "optim.lr");
  for (const auto& [key, value] : split_variant(variant).options) {
    set_by_flag(config, "--optimizers", (adamw ? "adamw." : "optim.") + key, value);
  }
  return config;
}

/// The width, a multiple of 2 heads with whole neurons, whose parameter count is nearest to `parameters`.
Index matching_width(trainer::ModelConfig model, Index parameters) {
  const Index step = 2 * model.heads;
  Index best = 0, best_distance = 0;
  for (model.width = step; model.width <= 65536; model.width += step) {
    if (static_cast<double>(model.neurons()) != model.expansion * static_cast<double>(model.width)) continue;
    const Index count = trainer::parameter_count(model);
    const Index distance = std::abs(count - parameters);
    if (best == 0 || distance < best_distance) {
      best = model.width;
      best_distance = distance;
    }
    if (count > parameters) break;
  }
  if (best == 0) {
    throw std::invalid_argument(
        fmt::format("--expansions {}: no width gives whole neurons", compare::number_text(model.expansion)));
  }
  return best;
}

/// The command line as it was given, but for what changes no result.
std::string command_line(const CLI::App& command) {
  std::string text = "aurora " + command.get_name();
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0 || option->check_name("--quiet") || option->check_name("--json")) continue;
    text += " " + option->get_name();
    if (option->get_items_expected_max() == 0) continue;  // a flag
    for (const std::string& value : option->results()) text += " " + shell_word(value);
  }
  return text;
}

Design design_of(const Flags& flags, const std::string& command) {
  if (!flags.optimizers)
    throw std::invalid_argument("--optimizers is missing: name them, as in --optimizers muon,aurora");
  Design design;
  for (const std::string& variant : split(*flags.optimizers)) {
    if (variant.empty()) {
      throw std::invalid_argument(fmt::format("--optimizers has an empty name: '{}'; there are: {}",
                                              *flags.optimizers, optimizer_names()));
    }
    design.contenders.push_back({variant, config_of(flags.run, variant)});
  }
  design.seeds = static_cast<int>(integer("--seeds", flags.seeds, 1, 1000));
  design.sweep_seeds = static_cast<int>(integer("--sweep-seeds", flags.sweep_seeds, 1, 1000));
  design.factors = numbers("--sweep-lr", flags.sweep_lr);
  design.command = command;
  compare::validate(design);
  const auto is_adamw = [](const compare::Contender& contender) {
    return !contender.config.optim;
  };
  if (flags.run.lr && std::ranges::all_of(design.contenders, is_adamw))
    throw std::invalid_argument("--lr is that of the matrix optimizers; of adamw it is --adamw-lr");
  const trainer::TrainConfig& config = design.contenders.front().config;
  for (const auto& path : config.data) {
    if (path == "-")
      throw std::invalid_argument("--data -: every run reads the text again, so save it to a file first");
  }
  design.first_seed = config.seed;
  return design;
}

/// One comparison and where it lies.
struct Part {
  fs::path folder;
  std::string title;
  Design design;
};

std::vector<Part> parts_of(const Flags& flags, const std::string& command, const fs::path& out) {
  const Design design = design_of(flags, command);
  const auto expansions = numbers("--expansions", flags.expansions);
  if (flags.match_parameters && expansions.empty())
    throw std::invalid_argument("--match-parameters belongs to --expansions");
  std::vector<Part> parts;
  for (const double expansion : expansions) {
    const std::string text = compare::number_text(expansion);
    Part part{.folder = out / ("expansion-" + text),
              .title = fmt::format("expansion {} ({} of {})  ", text, parts.size() + 1, expansions.size()),
              .design = design};
    for (compare::Contender& contender : part.design.contenders) {
      trainer::ModelConfig& model = contender.config.model;
      const Index parameters = trainer::parameter_count(model);
      model.expansion = expansion;
      if (flags.match_parameters) model.width = matching_width(model, parameters);
    }
    parts.push_back(std::move(part));
  }
  if (parts.empty()) parts.push_back({.folder = out, .title = {}, .design = design});
  for (const Part& part : parts)
    for (const compare::Contender& contender : part.design.contenders) trainer::validate(contender.config);

  const bool holds_one = fs::exists(out / "comparison.json");
  if (holds_one && !expansions.empty())
    throw std::invalid_argument(out.string() +
                                " holds a comparison without --expansions; name another --out");
  if (fs::is_directory(out) && expansions.empty()) {
    for (const auto& entry : fs::directory_iterator(out)) {
      if (fs::exists(entry.path() / "comparison.json"))
        throw std::invalid_argument(out.string() +
                                    " holds a comparison with --expansions; name another --out");
    }
  }
  return parts;
}

std::string decimals(double value) { return std::isfinite(value) ? fmt::format("{:.4f}", value) : "-"; }

std::string with_interval(const Estimate& value) {
  if (!std::isfinite(value.low)) return decimals(value.mean);
  return fmt::format("{:.4f} [{:.4f}, {:.4f}]", value.mean, value.low, value.high);
}

std::string signed_interval(const Estimate& value) {
  if (!std::isfinite(value.mean)) return "-";
  if (!std::isfinite(value.low)) return fmt::format("{:+.4f}", value.mean);
  return fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]", value.mean, value.low, value.high);
}

/// A column each; the first row holds the titles.
using Columns = std::vector<std::vector<std::string>>;

Columns result_columns(const Comparison& comparison) {
  Columns columns = {{"optimizer"}, {"lr"},       {"val loss"}, {"minus " + comparison.baseline},
                     {"bits/byte"}, {"starved"},  {"dead"},     {"row CV"},
                     {"step ms"},   {"optimizer"}};
  for (const OptimizerResult& result : comparison.optimizers) {
    const auto found = std::ranges::find(comparison.differences, result.name, &compare::Difference::a);
    std::string loss = with_interval(result.validation_loss);
    if (!result.diverged.empty()) {
      const auto& end = result.diverged.front();
      const std::string text =
          fmt::format("diverged at {}{}", end.step,
                      result.diverged.size() > 1 ? fmt::format(" ({} seeds)", result.diverged.size())
                                                 : fmt::format(" (seed {})", end.seed));
      loss = result.seeds.empty() ? text : loss + ", " + text;
    }
    const std::vector<std::string> row = {
        result.name,
        std::isfinite(result.lr) ? compare::number_text(result.lr) : "-",
        loss,
        found == comparison.differences.end() ? "baseline" : signed_interval(found->validation_loss),
        decimals(result.bits_per_byte.mean),
        percent(result.starved.mean),
        percent(result.dead.mean),
        decimals(result.update_row_norm_cv.mean),
        std::isfinite(result.step_ms) ? fmt::format("{:.1f}", result.step_ms) : "-",
        percent(result.optimizer_share)};
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i].push_back(row[i]);
  }
  return columns;
}

/// In as many tables as the terminal's width asks for, each with the first column.
void print_columns(const Columns& columns) {
  const auto width_of = [](const std::vector<std::string>& column) {
    std::size_t width = 0;
    for (const auto& text : column) width = std::max(width, text.size());
    return width;
  };
  const std::size_t limit =
      is_terminal(stdout) ? static_cast<std::size_t>(terminal_columns(stdout)) : std::size_t{1000};
  std::size_t next = 1;
  while (next < columns.size()) {
    const std::size_t begin = next;
    std::size_t width = width_of(columns[0]);
    while (next < columns.size() && (next == begin || width + 2 + width_of(columns[next]) <= limit))
      width += 2 + width_of(columns[next++]);
    for (std::size_t row = 0; row < columns[0].size(); ++row) {
      std::string line = fmt::format("{:<{}}", columns[0][row], width_of(columns[0]));
      for (std::size_t i = begin; i < next; ++i)
        line += fmt::format("  {:>{}}", columns[i][row], width_of(columns[i]));
      fmt::print("{}\n", row == 0 ? bold(line, stdout) : line);
    }
    if (next < columns.size()) fmt::print("\n");
  }
}

void print_warnings(const Comparison& comparison) {
  std::fflush(stdout);
  for (const std::string& warning : comparison.warnings)
    cli::show(stderr, fmt::format("aurora compare: warning: {}\n", printable(warning)));
}

void print_results(const std::vector<compare::ExpansionResult>& results, const fs::path& out) {
  for (const auto& [expansion, comparison] : results) {
    if (results.size() > 1) {
      fmt::print("{}\n", bold(fmt::format("expansion {}, {} parameters", compare::number_text(expansion),
                                          grouped(static_cast<double>(comparison.parameters))),
                              stdout));
    }
    print_columns(result_columns(comparison));
    fmt::print("\n{}\n\n", compare::answer(comparison));
  }
  fmt::print(
      "95 % intervals over seeds; starved: momentum leverage below 0.1 of balanced; dead: activation\n"
      "below 0.1 of its layer's median; both at the last step, over layers\n"
      "report: {}\n",
      (out / "report.html").string());
}

/// The text of a run as it is now, as its header will say.
std::string text_now(const trainer::TrainConfig& config) {
  const trainer::TextData data(config.data, config.validation, config.model.context + 1);
  const trainer::CorpusSummary& text = data.summary();
  return compare::text_of(text.sha256, text.training_bytes, text.validation_bytes);
}

int compare_optimizers(const Flags& flags, const std::string& command) {
  if (!flags.out || flags.out->empty())
    throw std::invalid_argument("--out is missing: name the folder of the comparison, as in --out runs/six");
  const fs::path out = *flags.out;
  if (fs::exists(out) && !fs::is_directory(out))
    throw std::invalid_argument(out.string() + " is a file, not a folder; name another --out");
  const std::vector<Part> parts = parts_of(flags, command, out);
  const std::atomic<bool>& stop = stop_on_signals();
  std::size_t runs = 0, ended = 0;
  bool interrupted = false;
  for (const Part& part : parts) {
    ComparisonBoard board(stderr, flags.quiet, part.design, part.title);
    if (flags.match_parameters) {
      const trainer::ModelConfig& model = part.design.contenders.front().config.model;
      board.notice(fmt::format("expansion {}: width {}, {} parameters", compare::number_text(model.expansion),
                               model.width, grouped(static_cast<double>(trainer::parameter_count(model)))));
    }
    const auto outcome =
        compare::run_all(part.design, part.folder, trainer::train,
                         {.progress = [&](auto all, const auto& current) { board.show(all, current); },
                          .notice = [&](const std::string& text) { board.notice(text); },
                          .stop = &stop,
                          .text = text_now});
    runs += outcome.runs.size();
    for (const auto& run : outcome.runs)
      ended += run.state == compare::RunState::finished || run.state == compare::RunState::diverged ? 1 : 0;
    interrupted = outcome.interrupted;
    if (interrupted) break;
  }
  if (ended > 0) {
    const auto results = compare::write_report(out);
    if (!interrupted) {
      if (flags.json) {
        std::ifstream summary(out / "summary.json");
        std::ostringstream text;
        text << summary.rdbuf();
        fmt::print("{}", text.str());
      } else {
        print_results(results, out);
      }
      for (const auto& result : results) print_warnings(result.comparison);
    }
  }
  if (!interrupted) return kGood;
  cli::show(stderr, fmt::format("stopped with {} of {} runs done, all kept in {}; go on with: {}\n", ended,
                                runs, printable(out.string()), command));
  return kStopped;
}

}  // namespace

void add_compare(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "compare", "train with several optimizers, all else equal, and say which is best and how sure that is");
  const auto flags = std::make_shared<Flags>();
  command->add_option("--optimizers", flags->optimizers,
                      fmt::format("names or variants with commas between them, as in "
                                  "muon,aurora:balance=carried; names: {}",
                                  optimizer_names()));
  command->add_option("--out", flags->out,
                      "folder of the comparison; a second call goes on, also with more seeds or optimizers");
  command->add_option("--seeds", flags->seeds, "runs of each optimizer, from --seed on")
      ->capture_default_str();
  command->add_option("--sweep-lr", flags->sweep_lr,
                      "factors on the learning rate to choose from for each optimizer, as in 0.5,1,2 (of "
                      "optim.lr; of adamw.lr for adamw)");
  command
      ->add_option("--sweep-seeds", flags->sweep_seeds,
                   fmt::format("seeds of the sweep, from {} on", compare::kFirstSweepSeed))
      ->capture_default_str();
  command->add_option("--expansions", flags->expansions,
                      "a comparison for each MLP expansion factor, in OUT/expansion-<e>, as in 2,4,8");
  command->add_flag("--match-parameters", flags->match_parameters,
                    "with --expansions: the width, a multiple of 2 * heads, that brings the number of "
                    "parameters nearest to that of --width and --expansion");
  add_train_flags(*command, flags->run, "optim.lr of the matrix optimizers; of adamw it is --adamw-lr");
  command->add_flag("--quiet", flags->quiet, "no progress");
  command->add_flag("--json", flags->json, "summary.json instead of tables");
  command->callback([flags, command, &chosen] {
    chosen = [flags, line = command_line(*command)] { return compare_optimizers(*flags, line); };
  });
}

}  // namespace aurora::cli
