#include "compare_design.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "aurora/value_text.hpp"
#include "command.hpp"
#include "model_size.hpp"

namespace aurora::cli {

namespace {

namespace fs = std::filesystem;
using compare::Design;
using compare::SweepAxis;

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  if (text.ends_with(',')) parts.emplace_back();
  return parts;
}

/// "0.5,1,2" as numbers > 0, or >= 0, in ascending order.
std::vector<double> numbers(const std::string& flag, const std::optional<std::string>& text,
                            bool zero = false) {
  std::vector<double> values;
  if (!text) return values;
  for (const std::string& part : split(*text)) {
    double value = 0;
    if (!read_number(value, part, Numbers{.low_open = !zero})) {
      throw std::invalid_argument(
          fmt::format("{} takes numbers {} with commas between them, as in 0.5,1,2: {}", flag,
                      zero ? ">= 0" : "> 0", *text));
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

/// The options of the configuration file's optimizer that are not the defaults are for all matrix optimizers.
/// Throws where one of them has no such option: it would be compared with others that do.
void share_options(const Rule& given, const std::string& file, const std::string& variant,
                   trainer::TrainConfig& config) {
  if (!config.optim) return;
  const auto defaults = hyperparameters(rule_of(aurora::name(given)));
  const auto options = hyperparameters(given);
  for (std::size_t i = 0; i < options.size(); ++i) {
    const std::string &name = options[i].name, &value = options[i].value;
    if (value == defaults[i].value) continue;
    const auto own = hyperparameters(*config.optim);
    if (std::ranges::find(own, name, &Hyperparameter::name) == own.end()) {
      throw std::invalid_argument(
          fmt::format("--config {}: {} has no option {} = {} of {}: leave it out there and write {}:{}={} in "
                      "--optimizers",
                      file, variant, name, value, aurora::name(given), aurora::name(given), name, value));
    }
    trainer::set(config, "optim." + name, value);
  }
}

/// The variant's own options win over --lr and --set, which hold for every optimizer, as those of --config
/// do.
trainer::TrainConfig config_of(const TrainFlags& flags, const std::string& variant) {
  trainer::TrainConfig config = shared_config(flags);
  const std::optional<Rule> given = config.optim;
  if (given) config.optim = rule_of(aurora::name(*given));
  set_by_flag(config, "--optimizers", "optim.optimizer", variant);
  if (flags.config && given) share_options(*given, *flags.config, variant, config);
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
        fmt::format("--expansions {}: no width gives whole neurons", number_text(model.expansion)));
  }
  return best;
}

/// "adamw.lr=0.5,1,2".
SweepAxis axis_of(const std::string& text) {
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw std::invalid_argument("--sweep wants KEY=FACTORS, as in adamw.lr=0.5,1,2: " + text);
  const std::string key = text.substr(0, equals);
  return {key, numbers("--sweep " + key, text.substr(equals + 1), /*zero=*/!key.ends_with(".lr"))};
}

compare::Sweep sweep_of(const CompareFlags& flags, const std::optional<Design>& before) {
  compare::Sweep sweep;
  sweep.seeds = static_cast<int>(integer("--sweep-seeds", flags.sweep_seeds, 1, compare::kMostSeeds));
  sweep.automatic = flags.sweep_lr == "auto";
  sweep.jointly = flags.sweep_jointly;
  sweep.equal_rates = flags.equal_rates;
  if (sweep.automatic) {
    std::vector<double> factors = {0.5, 1, 2};
    if (before) {
      for (const SweepAxis& axis : before->sweep.axes)
        if (axis.key == compare::kRateKey)
          factors.insert(factors.end(), axis.factors.begin(), axis.factors.end());
    }
    std::ranges::sort(factors);
    factors.erase(std::unique(factors.begin(), factors.end()), factors.end());
    sweep.axes.push_back({compare::kRateKey, factors});
  } else if (flags.sweep_lr) {
    sweep.axes.push_back({compare::kRateKey, numbers("--sweep-lr", flags.sweep_lr)});
  }
  for (const std::string& text : flags.sweep) sweep.axes.push_back(axis_of(text));
  return sweep;
}

/// Every run of a comparison has one number of threads: as it was begun, else, where several run at once,
/// their part of the cores.
void choose_threads(const CompareFlags& flags, const std::optional<Design>& before, Design& design) {
  const bool chosen = std::ranges::any_of(
      design.contenders, [](const auto& contender) { return contender.config.threads != 0; });
  if (chosen) return;
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int jobs = jobs_of(flags);
  const int threads = before     ? before->contenders.front().config.threads
                      : jobs > 1 ? std::max(1, cores / jobs)
                                 : 0;
  for (compare::Contender& contender : design.contenders) contender.config.threads = threads;
}

/// What OUT, or one of its expansions, was begun with.
std::optional<Design> design_before(const fs::path& out) {
  if (fs::exists(out / "comparison.json")) return compare::read_design(out);
  if (!fs::is_directory(out)) return {};
  for (const auto& entry : fs::directory_iterator(out))
    if (fs::exists(entry.path() / "comparison.json")) return compare::read_design(entry.path());
  return {};
}

Design design_of(const CompareFlags& flags, const std::string& command, const fs::path& out) {
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
  const std::optional<Design> before = design_before(out);
  design.seeds = static_cast<int>(integer("--seeds", flags.seeds, 1, compare::kMostSeeds));
  design.sweep = sweep_of(flags, before);
  design.command = command;
  choose_threads(flags, before, design);
  compare::validate(design);
  const auto is_adamw = [](const compare::Contender& contender) { return !contender.config.optim; };
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

}  // namespace

int jobs_of(const CompareFlags& flags) { return static_cast<int>(integer("--jobs", flags.jobs, 1, 1024)); }

std::vector<ComparisonPart> comparison_parts(const CompareFlags& flags, const std::string& command,
                                             const fs::path& out) {
  const Design design = design_of(flags, command, out);
  const auto expansions = numbers("--expansions", flags.expansions);
  if (flags.match_parameters && expansions.empty())
    throw std::invalid_argument("--match-parameters belongs to --expansions");
  std::vector<ComparisonPart> parts;
  for (const double expansion : expansions) {
    const std::string text = number_text(expansion);
    ComparisonPart part{
        .folder = out / ("expansion-" + text),
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
  for (const ComparisonPart& part : parts)
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

}  // namespace aurora::cli
