#include "comparison.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>

#include "atomic_file.hpp"
#include "design.hpp"
#include "run_data.hpp"
#include "run_folder.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();
using Runs = std::vector<RunData>;

/// Runs of one optimizer.
struct Group {
  std::string name;
  Runs runs;                     // by seed
  std::map<double, Runs> sweep;  // by factor
};

/// "muon:momentum=0.9": the options that are not the defaults, but for the learning rate.
std::string variant_of(const trainer::TrainConfig& config) {
  const Rule options = config.rule();
  const auto defaults = hyperparameters(rule_of(name(options)));
  std::string text(name(options));
  const auto list = hyperparameters(options);
  bool first = true;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].value == defaults[i].value || list[i].name == "lr") continue;
    text += (first ? ":" : "+") + list[i].name + "=" + list[i].value;
    first = false;
  }
  return text;
}

bool is_run(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / "log.jsonl", error) && !error;
}

/// Also where a link leads to one; a link to nothing, or to itself, is none.
bool is_folder(const fs::directory_entry& entry) {
  std::error_code error;
  return entry.is_directory(error) && !error;
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder))
      if (is_folder(entry)) found.push_back(entry.path());
  std::ranges::sort(found);
  return found;
}

/// The run as it can be read; nothing, and why, where it cannot.
std::optional<RunData> readable(const fs::path& folder, std::vector<std::string>& warnings) {
  try {
    RunData run = read_run(folder);
    warnings.insert(warnings.end(), run.warnings.begin(), run.warnings.end());
    return run;
  } catch (const std::exception& error) {
    warnings.push_back(folder.string() + " is left out: " + error.what());
    return {};
  }
}

/// Into `runs`, if none of them has its seed.
void add_run(RunData run, Runs& runs, std::vector<std::string>& warnings) {
  const auto same_seed = [&](const RunData& other) { return other.config.seed == run.config.seed; };
  if (const auto twin = std::ranges::find_if(runs, same_seed); twin != runs.end()) {
    warnings.push_back(run.folder.string() + " is left out: it repeats seed " +
                       std::to_string(run.config.seed) + " of " + twin->folder.string());
    return;
  }
  runs.push_back(std::move(run));
}

void add_run(const fs::path& folder, Runs& runs, std::vector<std::string>& warnings) {
  if (auto run = readable(folder, warnings)) add_run(std::move(*run), runs, warnings);
}

void sort_by_seed(Runs& runs) {
  std::ranges::sort(runs, {}, [](const RunData& run) { return run.config.seed; });
}

std::optional<double> factor_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  constexpr std::string_view prefix = "lr-";
  if (!name.starts_with(prefix)) return {};
  try {
    std::size_t read = 0;
    const double factor = std::stod(name.substr(prefix.size()), &read);
    if (read == name.size() - prefix.size() && std::isfinite(factor) && factor > 0) return factor;
  } catch (const std::exception&) {
    return {};
  }
  return {};
}

/// The runs of FOLDER/runs and FOLDER/sweep: those of the design where there is one, else all.
std::vector<Group> groups_of(const fs::path& folder, const std::optional<Design>& design,
                             std::vector<std::string>& warnings) {
  std::vector<Group> groups;
  std::map<std::string, fs::path> stray;
  for (const fs::path& runs : {folder / "runs", folder / "sweep"})
    for (const fs::path& found : folders_in(runs)) stray.emplace(found.filename().string(), found);

  const auto add_sweep = [&](Group& group, const std::string& name) {
    for (const fs::path& rate : folders_in(folder / "sweep" / name)) {
      const auto factor = factor_of(rate);
      if (!factor) continue;
      for (const fs::path& run : folders_in(rate))
        if (is_run(run)) add_run(run, group.sweep[*factor], warnings);
    }
  };
  if (design) {
    for (const Contender& contender : design->contenders) {
      Group& group = groups.emplace_back(Group{.name = contender.name, .runs = {}, .sweep = {}});
      stray.erase(folder_name(contender.name));
      for (int i = 0; i < design->seeds; ++i) {
        const auto seed = design->first_seed + static_cast<std::uint64_t>(i);
        const auto run = result_folder(folder, contender.name, seed);
        if (is_run(run)) add_run(run, group.runs, warnings);
      }
      add_sweep(group, folder_name(contender.name));
    }
    for (const auto& [name, path] : stray)
      warnings.push_back(path.string() + " is left out: it is not in comparison.json");
    return groups;
  }
  for (const auto& [name, path] : stray) {
    Group group{.name = name, .runs = {}, .sweep = {}};
    for (const fs::path& run : folders_in(folder / "runs" / name))
      if (is_run(run)) add_run(run, group.runs, warnings);
    add_sweep(group, name);
    if (!group.runs.empty()) group.name = variant_of(group.runs.front().config);
    if (!group.runs.empty() || !group.sweep.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

/// Runs trained separately, wherever they lie below `folder`, by the options of their optimizers.
std::vector<Group> groups_below(const fs::path& folder, std::vector<std::string>& warnings) {
  std::vector<fs::path> found;
  if (is_run(folder)) found.push_back(folder);
  for (auto entry = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied);
       entry != fs::recursive_directory_iterator(); ++entry) {
    if (is_folder(*entry) && is_run(entry->path())) found.push_back(entry->path());
  }
  std::ranges::sort(found);
  std::map<std::string, std::map<double, Runs>> by_options;
  for (const fs::path& path : found) {
    auto run = readable(path, warnings);
    if (!run) continue;
    Runs& runs = by_options[variant_of(run->config)][swept_lr(run->config)];
    add_run(std::move(*run), runs, warnings);
  }
  std::vector<Group> groups;
  for (auto& [variant, rates] : by_options) {
    for (auto& [lr, runs] : rates) {
      const std::string sign = variant.find(':') == std::string::npos ? ":" : "+";
      groups.push_back({.name = rates.size() == 1 ? variant : variant + sign + "lr=" + number_text(lr),
                        .runs = std::move(runs),
                        .sweep = {}});
    }
  }
  return groups;
}

/// Sorted, without repetitions.
template <class Value>
void keep_each_once(std::vector<Value>& values) {
  std::ranges::sort(values);
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

/// The mean over runs at every step that one of them has, and its interval.
template <class PointsOf>
Band band(const Runs& runs, const PointsOf& points_of) {
  std::map<Index, std::pair<std::vector<double>, std::vector<double>>> at;  // values, seconds
  for (const RunData& run : runs) {
    for (const LoggedValue& point : points_of(run)) {
      if (!std::isfinite(point.value)) continue;
      at[point.step].first.push_back(point.value);
      at[point.step].second.push_back(point.seconds);
    }
  }
  Band result;
  for (const auto& [step, lists] : at) {
    const Estimate value = estimate(lists.first);
    result.push_back({step, estimate(lists.second).mean, value.mean, value.low, value.high});
  }
  return result;
}

/// Mean of what is defined; NaN for none.
class Mean {
 public:
  void add(double value) {
    if (!std::isfinite(value)) return;
    sum_ += value;
    ++count_;
  }
  double value() const { return count_ > 0 ? sum_ / count_ : kNotDefined; }

 private:
  double sum_ = 0;
  int count_ = 0;
};

template <class ValueOf>
std::vector<LoggedValue> over_layers(const RunData& run, const ValueOf& value_of) {
  std::vector<LoggedValue> points;
  for (const NeuronSnapshot& snapshot : run.neurons) {
    Mean mean;
    for (const LayerRecord& layer : snapshot.layers) mean.add(value_of(layer));
    points.push_back({snapshot.step, snapshot.seconds, mean.value()});
  }
  return points;
}

/// [layer][record] of `result.neuron_steps`.
template <class ValueOf>
std::vector<std::vector<double>> by_layer(const Runs& runs, const std::vector<Index>& steps,
                                          const ValueOf& value_of) {
  std::size_t layers = 0;
  for (const RunData& run : runs)
    for (const NeuronSnapshot& snapshot : run.neurons) layers = std::max(layers, snapshot.layers.size());
  std::vector<std::vector<Mean>> means(layers, std::vector<Mean>(steps.size()));
  for (const RunData& run : runs) {
    for (const NeuronSnapshot& snapshot : run.neurons) {
      const auto record = static_cast<std::size_t>(std::ranges::find(steps, snapshot.step) - steps.begin());
      for (std::size_t layer = 0; layer < snapshot.layers.size(); ++layer)
        means[layer][record].add(value_of(snapshot.layers[layer]));
    }
  }
  std::vector<std::vector<double>> values(layers);
  for (std::size_t layer = 0; layer < layers; ++layer)
    for (const Mean& mean : means[layer]) values[layer].push_back(mean.value());
  return values;
}

template <class QuantilesOf>
std::vector<double> last_leverage(const Runs& runs, const QuantilesOf& quantiles_of) {
  std::vector<Mean> means;
  for (const RunData& run : runs) {
    if (run.neurons.empty()) continue;
    for (const LayerRecord& layer : run.neurons.back().layers) {
      const std::vector<double>& quantiles = quantiles_of(layer);
      if (means.size() < quantiles.size()) means.resize(quantiles.size());
      for (std::size_t i = 0; i < quantiles.size(); ++i) means[i].add(quantiles[i]);
    }
  }
  std::vector<double> values;
  for (const Mean& mean : means) values.push_back(mean.value());
  return values;
}

OptimizerResult result_of(const Group& group) {
  OptimizerResult result{};
  result.name = group.name;
  result.lr = group.runs.empty() ? kNotDefined : swept_lr(group.runs.front().config);
  std::vector<const RunData*> finished, measured;
  for (const RunData& run : group.runs) {
    if (run.state == RunState::finished) {
      result.seeds.push_back(run.config.seed);
      finished.push_back(&run);
    } else if (run.state == RunState::diverged) {
      result.diverged.push_back({run.config.seed, run.result.step});
    } else {
      result.running.push_back(run.config.seed);
    }
    if (std::isfinite(run.step_ms)) measured.push_back(&run);
  }
  const auto over_seeds = [&](const auto& value_of) {
    std::vector<double> values;
    for (const RunData* run : finished) values.push_back(value_of(*run));
    return estimate(values);
  };
  result.validation_loss = over_seeds([](const RunData& run) { return run.result.validation_loss; });
  result.bits_per_byte = over_seeds([](const RunData& run) { return run.result.bits_per_byte; });
  result.dead = over_seeds([](const RunData& run) { return run.result.dead; });
  result.starved = over_seeds([](const RunData& run) { return run.result.starved; });
  result.update_row_norm_cv = over_seeds([](const RunData& run) { return run.result.update_row_norm_cv; });
  const auto mean_over = [&](const auto& value_of) {
    Mean mean;
    for (const RunData* run : finished.empty() ? measured : finished) mean.add(value_of(*run));
    return mean.value();
  };
  result.step_ms = mean_over([](const RunData& run) { return run.step_ms; });
  result.optimizer_ms = mean_over([](const RunData& run) { return run.optimizer_ms; });
  result.tokens_per_second = mean_over([](const RunData& run) { return run.result.tokens_per_second; });
  result.optimizer_share = mean_over([](const RunData& run) { return run.result.optimizer_share; });

  for (const auto& [factor, runs] : group.sweep) {
    if (runs.empty()) continue;
    std::vector<double> losses;
    for (const RunData& run : runs)
      losses.push_back(run.state == RunState::diverged ? kNotDefined : run.result.validation_loss);
    result.swept.push_back({factor, swept_lr(runs.front().config), estimate(losses).mean});
  }

  result.validation = band(group.runs, [](const RunData& run) { return run.validation; });
  const auto dead = [](const LayerRecord& layer) { return layer.dead; };
  const auto starved = [](const LayerRecord& layer) { return layer.starved; };
  result.dead_share = band(group.runs, [&](const RunData& run) { return over_layers(run, dead); });
  result.starved_share = band(group.runs, [&](const RunData& run) { return over_layers(run, starved); });
  for (const RunData& run : group.runs)
    for (const NeuronSnapshot& snapshot : run.neurons) result.neuron_steps.push_back(snapshot.step);
  keep_each_once(result.neuron_steps);
  result.starved_by_layer = by_layer(group.runs, result.neuron_steps, starved);
  result.dead_by_layer = by_layer(group.runs, result.neuron_steps, dead);
  result.leverage_gate_up = last_leverage(
      group.runs, [](const LayerRecord& layer) -> const auto& { return layer.leverage_gate_up; });
  result.leverage_down = last_leverage(
      group.runs, [](const LayerRecord& layer) -> const auto& { return layer.leverage_down; });
  return result;
}

template <class Value>
Value header_value(const Json& header, const char* key, Value otherwise) {
  const auto found = header.find(key);
  if (found == header.end()) return otherwise;
  if constexpr (std::is_same_v<Value, std::string>) {
    return found->is_string() ? found->get<std::string>() : otherwise;
  } else {
    return found->is_number_integer() ? found->get<Value>() : otherwise;
  }
}

/// Text of `key` in the headers of all runs of the seed if they agree; a warning if not.
std::string agreed(const std::vector<Group>& groups, std::uint64_t seed, const char* key, const char* what,
                   std::vector<std::string>& warnings) {
  std::optional<std::string> text;
  const RunData* first = nullptr;
  for (const Group& group : groups) {
    for (const RunData& run : group.runs) {
      if (run.config.seed != seed) continue;
      const auto here = header_value<std::string>(run.header, key, "");
      if (here.empty()) {
        warnings.push_back("the " + std::string(what) + " of " + run.folder.string() + " are not recorded");
        return {};
      }
      if (text && here != *text) {
        warnings.push_back("seed " + std::to_string(seed) + ": the " + what + " differ between " +
                           first->folder.string() + " and " + run.folder.string() +
                           ", so the runs are not comparable");
        return {};
      }
      text = here;
      if (first == nullptr) first = &run;
    }
  }
  return text.value_or("");
}

/// A warning where two runs, those of the sweep included, read other text.
void warn_of_text(const std::vector<Group>& groups, std::vector<std::string>& warnings) {
  const RunData* first = nullptr;
  const auto differs = [&](const Runs& runs) {
    for (const RunData& run : runs) {
      const std::string text = text_of(run);
      if (text.empty()) continue;
      if (first == nullptr) first = &run;
      if (text == text_of(*first)) continue;
      warnings.push_back("the text differs between " + first->folder.string() + " and " +
                         run.folder.string() + ", so the runs are not comparable");
      return true;
    }
    return false;
  };
  for (const Group& group : groups) {
    if (differs(group.runs)) return;
    for (const auto& [factor, runs] : group.sweep)
      if (differs(runs)) return;
  }
}

/// Keys of the settings that belong to the optimizer under comparison.
std::vector<std::string> own_keys(const trainer::TrainConfig& config) {
  std::vector<std::string> keys;
  const bool adamw = !config.optim;
  for (const trainer::Setting& setting : trainer::settings(config)) {
    if (setting.key.starts_with("optim.") || (adamw && setting.key.starts_with("adamw.")))
      keys.push_back(setting.key);
  }
  return keys;
}

void warn_of_settings(const std::vector<Group>& groups, std::vector<std::string>& warnings) {
  std::set<std::string> named;  // one warning of a kind is enough
  // Not adamw if there is another: its settings [adamw] are its own.
  const RunData* reference = nullptr;
  for (const Group& group : groups) {
    for (const RunData& run : group.runs) {
      const bool is_adamw = !run.config.optim;
      const bool has_adamw = reference && !reference->config.optim;
      if (reference == nullptr || (has_adamw && !is_adamw)) reference = &run;
    }
  }
  for (const Group& group : groups) {
    for (const RunData& run : group.runs) {
      const RunData& first = group.runs.front();
      auto besides = own_keys(run.config);
      const auto others = own_keys(reference->config);
      besides.insert(besides.end(), others.begin(), others.end());
      besides.emplace_back("train.seed");
      auto differs = setting_difference(reference->config, run.config, besides);
      const RunData* other = reference;
      std::string place;
      if (!differs) {
        differs = setting_difference(first.config, run.config, {"train.seed"});
        other = &first;
        place = group.name;
      }
      if (!differs || !named.insert(place + differs->key).second) continue;
      const auto shown = [](const std::string& value) { return value.empty() ? "not set" : value; };
      warnings.push_back(differs->key + " differs: " + shown(differs->a) + " in " + other->folder.string() +
                         ", " + shown(differs->b) + " in " + run.folder.string());
    }
  }
}

void warn_of_results(const Comparison& comparison, std::vector<std::string>& warnings) {
  for (const OptimizerResult& result : comparison.optimizers) {
    if (result.neuron_steps.empty() && !(result.validation.empty() && result.seeds.empty()))
      warnings.push_back(result.name + " has no neuron records: starved and dead are not known");
    if (result.swept.size() < 2 || !std::isfinite(result.lr)) continue;
    const auto [low, high] = std::ranges::minmax_element(result.swept, {}, &SweptRate::lr);
    for (const auto& edge : {*low, *high}) {
      if (result.lr == edge.lr)
        warnings.push_back(result.name + ": the best learning rate, " + number_text(edge.lr) +
                           ", lies at the edge of the sweep; a wider one may find a better");
    }
  }
}

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json estimate_json(const Estimate& value) {
  Json values = Json::array();
  for (const double one : value.values) values.push_back(number(one));
  return {{"mean", number(value.mean)},
          {"ci95", std::isfinite(value.low) ? Json({value.low, value.high}) : Json(nullptr)},
          {"values", std::move(values)}};
}

Json difference_json(const Difference& difference) {
  return {{"a", difference.a},
          {"b", difference.b},
          {"val_loss", estimate_json(difference.validation_loss)},
          {"seeds", difference.seeds}};
}

/// The expansion factors of DIR/expansion-<e>, in order.
std::vector<std::pair<double, fs::path>> expansions_of(const fs::path& folder) {
  std::vector<std::pair<double, fs::path>> found;
  constexpr std::string_view prefix = "expansion-";
  for (const fs::path& path : folders_in(folder)) {
    const std::string name = path.filename().string();
    if (!name.starts_with(prefix)) continue;
    const std::string text = name.substr(prefix.size());
    char* end = nullptr;
    const double expansion = std::strtod(text.c_str(), &end);
    if (!text.empty() && *end == '\0' && std::isfinite(expansion)) found.emplace_back(expansion, path);
  }
  std::ranges::sort(found);
  return found;
}

double header_expansion(const Json& config) {
  const auto model = config.find("model");
  if (model == config.end()) return kNotDefined;
  const auto expansion = model->find("expansion");
  return expansion != model->end() && expansion->is_number() ? expansion->get<double>() : kNotDefined;
}

void write_pair(const fs::path& folder, const Json& object, const std::string& page) {
  trainer::atomic_write_text(folder / "summary.json",
                             object.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  trainer::atomic_write_text(folder / "report.html", page);
}

}  // namespace

Difference difference(const OptimizerResult& a, const OptimizerResult& b) {
  std::vector<double> values;
  for (std::size_t i = 0; i < a.seeds.size(); ++i) {
    const auto found = std::ranges::find(b.seeds, a.seeds[i]);
    if (found == b.seeds.end()) continue;
    values.push_back(a.validation_loss.values[i] -
                     b.validation_loss.values[static_cast<std::size_t>(found - b.seeds.begin())]);
  }
  return {.a = a.name,
          .b = b.name,
          .validation_loss = estimate(values),
          .seeds = static_cast<int>(values.size())};
}

Comparison read_comparison(const fs::path& folder) {
  if (!fs::is_directory(folder))
    throw std::invalid_argument(folder.string() + ": no such folder; name one with runs in it");
  Comparison comparison;
  std::optional<Design> design;
  try {
    design = read_design(folder);
  } catch (const std::exception& error) {
    comparison.warnings.emplace_back(error.what());
  }
  const bool ours = design || fs::is_directory(folder / "runs") || fs::is_directory(folder / "sweep");
  std::vector<Group> groups =
      ours ? groups_of(folder, design, comparison.warnings) : groups_below(folder, comparison.warnings);
  for (Group& group : groups) sort_by_seed(group.runs);

  const RunData* first = nullptr;
  for (const Group& group : groups)
    if (first == nullptr && !group.runs.empty()) first = &group.runs.front();
  for (const Group& group : groups) {
    for (const auto& [factor, runs] : group.sweep)
      if (first == nullptr && !runs.empty()) first = &runs.front();
  }
  if (first == nullptr) {
    throw std::invalid_argument(folder.string() + ": no run here (no folder with config.toml and log.jsonl)" +
                                (comparison.warnings.empty() ? "" : "; " + comparison.warnings.front()));
  }
  for (const Group& group : groups) comparison.optimizers.push_back(result_of(group));

  const auto& optimizers = comparison.optimizers;
  const bool has_muon = std::ranges::find(optimizers, "muon", &OptimizerResult::name) != optimizers.end();
  comparison.baseline = has_muon ? "muon" : optimizers.front().name;
  const auto& baseline = *std::ranges::find(optimizers, comparison.baseline, &OptimizerResult::name);
  for (const OptimizerResult& result : optimizers)
    if (&result != &baseline) comparison.differences.push_back(difference(result, baseline));

  comparison.steps = first->config.steps;
  comparison.tokens_per_step = header_value<Index>(first->header, "tokens_per_step", 0);
  comparison.parameters = header_value<Index>(first->header, "parameters", 0);
  comparison.threads = header_value<int>(first->header, "threads", 0);
  comparison.version = header_value<std::string>(first->header, "version", "");
  comparison.device = header_value<std::string>(first->header, "device", "");
  comparison.blas = header_value<std::string>(first->header, "blas", "");
  comparison.torch = header_value<std::string>(first->header, "torch", "");
  comparison.started = header_value<std::string>(first->header, "started", "");
  if (const auto config = first->header.find("config"); config != first->header.end())
    comparison.config = *config;
  if (const auto data = first->header.find("data"); data != first->header.end() && data->is_object()) {
    comparison.data_files = header_value<Index>(*data, "files", 0);
    comparison.data_bytes = header_value<Index>(*data, "bytes", 0);
    comparison.data_sha256 = header_value<std::string>(*data, "sha256", "");
  }
  if (design) comparison.command = design->command;

  std::size_t ended = 0, most_finished = 0;
  for (const OptimizerResult& result : optimizers) {
    for (const std::uint64_t seed : result.seeds) comparison.seeds.push_back(seed);
    for (const std::uint64_t seed : result.running) comparison.seeds.push_back(seed);
    for (const Divergence& end : result.diverged) comparison.seeds.push_back(end.seed);
    ended += result.seeds.size() + result.diverged.size();
    most_finished = std::max(most_finished, result.seeds.size());
  }
  keep_each_once(comparison.seeds);
  for (const std::uint64_t seed : comparison.seeds) {
    comparison.initial_weights_sha256.push_back(
        agreed(groups, seed, "initial_weights_sha256", "initial weights", comparison.warnings));
    comparison.data_order_sha256.push_back(
        agreed(groups, seed, "data_order_sha256", "order of the data", comparison.warnings));
  }
  const std::size_t wanted = design ? design->contenders.size() * static_cast<std::size_t>(design->seeds)
                                    : optimizers.size() * comparison.seeds.size();
  comparison.complete = ended >= wanted;
  if (!comparison.complete) {
    comparison.warnings.push_back(std::to_string(wanted - ended) + " of " + std::to_string(wanted) +
                                  " runs are missing or not finished");
  }
  warn_of_text(groups, comparison.warnings);
  warn_of_settings(groups, comparison.warnings);
  warn_of_results(comparison, comparison.warnings);
  if (most_finished == 1)
    comparison.warnings.emplace_back("one seed has no interval: nothing can be concluded from a difference");
  return comparison;
}

nlohmann::ordered_json summary(const Comparison& comparison) {
  Json optimizers = Json::object();
  for (const OptimizerResult& result : comparison.optimizers) {
    Json diverged_at = Json::array(), swept = Json::array();
    for (const auto& [seed, step] : result.diverged) diverged_at.push_back({{"seed", seed}, {"step", step}});
    for (const SweptRate& rate : result.swept) {
      swept.push_back({{"factor", rate.factor}, {"lr", rate.lr}, {"val_loss", number(rate.validation_loss)}});
    }
    optimizers[result.name] = {{"val_loss", estimate_json(result.validation_loss)},
                               {"bits_per_byte", estimate_json(result.bits_per_byte)},
                               {"dead", estimate_json(result.dead)},
                               {"starved", estimate_json(result.starved)},
                               {"update_row_norm_cv", estimate_json(result.update_row_norm_cv)},
                               {"step_ms", number(result.step_ms)},
                               {"optimizer_ms", number(result.optimizer_ms)},
                               {"optimizer_share", number(result.optimizer_share)},
                               {"tokens_per_second", number(result.tokens_per_second)},
                               {"lr", number(result.lr)},
                               {"seeds", result.seeds},
                               {"running", result.running},
                               {"diverged", result.diverged.size()},
                               {"diverged_at", std::move(diverged_at)},
                               {"swept", std::move(swept)}};
  }
  Json differences = Json::array();
  for (const Difference& one : comparison.differences) differences.push_back(difference_json(one));
  return {{"answer", answer(comparison)},
          {"optimizers", std::move(optimizers)},
          {"differences", std::move(differences)},
          {"baseline", comparison.baseline},
          {"steps", comparison.steps},
          {"tokens_per_step", comparison.tokens_per_step},
          {"parameters", comparison.parameters},
          {"data",
           {{"files", comparison.data_files},
            {"bytes", comparison.data_bytes},
            {"sha256", comparison.data_sha256}}},
          {"seeds", comparison.seeds},
          {"initial_weights_sha256", comparison.initial_weights_sha256},
          {"data_order_sha256", comparison.data_order_sha256},
          {"complete", comparison.complete},
          {"warnings", comparison.warnings},
          {"command", comparison.command},
          {"version", comparison.version},
          {"device", comparison.device},
          {"threads", comparison.threads},
          {"blas", comparison.blas},
          {"torch", comparison.torch}};
}

std::vector<ExpansionResult> write_report(const fs::path& folder) {
  std::vector<ExpansionResult> results;
  const auto expansions = expansions_of(folder);
  if (expansions.empty()) {
    Comparison comparison = read_comparison(folder);
    write_pair(folder, summary(comparison), report_html(comparison));
    const double expansion = header_expansion(comparison.config);
    results.push_back({expansion, std::move(comparison)});
    return results;
  }
  Json summaries = Json::object();
  for (const auto& [expansion, path] : expansions) {
    Comparison comparison = read_comparison(path);
    Json object = summary(comparison);
    write_pair(path, object, report_html(comparison));
    summaries[number_text(expansion)] = std::move(object);
    results.push_back({expansion, std::move(comparison)});
  }
  write_pair(folder, {{"expansions", std::move(summaries)}}, report_html(results));
  return results;
}

}  // namespace aurora::compare
