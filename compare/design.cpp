#include "design.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "atomic_file.hpp"
#include "aurora/value_text.hpp"
#include "json_text.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFile = "comparison.json";
constexpr trainer::JsonLimits kLimits = {.bytes = std::size_t{64} << 20, .depth = 8, .keys = 1000};
/// Settings of what a run saves.
constexpr std::array<std::string_view, 3> kWithoutEffect = {"train.save_every", "train.keep",
                                                            "train.save_momentum"};

std::map<std::string, std::string> values_of(const trainer::TrainConfig& config) {
  std::map<std::string, std::string> values;
  for (trainer::Setting& setting : trainer::settings(config))
    values[std::move(setting.key)] = std::move(setting.value);
  return values;
}

std::string shown(const std::string& value) { return value.empty() ? "not set" : value; }

std::string list_text(const std::vector<double>& numbers) {
  std::string text;
  for (const double number : numbers) text += (text.empty() ? "" : ",") + number_text(number);
  return text.empty() ? "none" : text;
}

std::string yes_no(bool value) { return value ? "on" : "off"; }

[[noreturn]] void fail_differs(const fs::path& folder, const std::string& what, const std::string& before,
                               const std::string& now) {
  throw std::invalid_argument(folder.string() + " holds another comparison: " + what + " is " +
                              shown(before) + " there, here " + shown(now) + "; name another --out");
}

[[noreturn]] void fail_record(const fs::path& file, const std::string& what) {
  throw std::runtime_error(file.string() + ": not the record of a comparison (" + what +
                           "); delete it and call aurora compare again as before");
}

/// Factors may be added, axes too unless all are swept together.
void require_extension(const Sweep& before, const Sweep& now, const fs::path& folder) {
  for (const SweepAxis& old : before.axes) {
    const auto found = std::ranges::find(now.axes, old.key, &SweepAxis::key);
    const std::vector<double> factors = found == now.axes.end() ? std::vector<double>() : found->factors;
    const bool all = std::ranges::all_of(
        old.factors, [&](double factor) { return std::ranges::find(factors, factor) != factors.end(); });
    if (!all) {
      fail_differs(folder, old.key == kRateKey ? "--sweep-lr" : "--sweep " + old.key, list_text(old.factors),
                   list_text(factors));
    }
  }
  if (before.automatic && !now.automatic) fail_differs(folder, "--sweep-lr", "auto", "a list");
  if (before.jointly != now.jointly && !before.axes.empty())
    fail_differs(folder, "--sweep-jointly", yes_no(before.jointly), yes_no(now.jointly));
  if (before.seeds > now.seeds && !before.axes.empty())
    fail_differs(folder, "--sweep-seeds", std::to_string(before.seeds), std::to_string(now.seeds));
}

}  // namespace

std::string folder_name(const std::string& variant) {
  std::string name = variant;
  std::ranges::replace_if(
      name, [](char c) { return c == ':' || c == '+' || c == '='; }, '-');
  return name;
}

fs::path result_folder(const fs::path& folder, const std::string& variant, std::uint64_t seed) {
  return folder / "runs" / folder_name(variant) / ("seed-" + std::to_string(seed));
}

fs::path sweep_folder(const fs::path& folder, const std::string& variant, const SweepPoint& point,
                      std::uint64_t seed) {
  return folder / "sweep" / folder_name(variant) / point_name(point) / ("seed-" + std::to_string(seed));
}

fs::path rate_folder(const fs::path& folder, const std::string& variant, const SweepPoint& point,
                     std::uint64_t seed) {
  return folder / "rates" / folder_name(variant) / point_name(point) / ("seed-" + std::to_string(seed));
}

std::size_t baseline_of(const std::vector<std::string>& names) {
  const auto muon = std::ranges::find(names, "muon");
  return muon == names.end() ? 0 : static_cast<std::size_t>(muon - names.begin());
}

std::optional<SettingDifference> setting_difference(const trainer::TrainConfig& a,
                                                    const trainer::TrainConfig& b,
                                                    const std::vector<std::string>& besides) {
  const auto in_a = values_of(a), in_b = values_of(b);
  // The optimizer first: where it differs, so do its options.
  std::vector<std::string> keys = {"optim.optimizer"};
  for (const auto* values : {&in_a, &in_b})
    for (const auto& [key, value] : *values) keys.push_back(key);
  const auto value_of = [](const auto& values, const std::string& key) {
    const auto found = values.find(key);
    return found == values.end() ? std::string() : found->second;
  };
  for (const std::string& key : keys) {
    if (std::ranges::find(kWithoutEffect, key) != kWithoutEffect.end() ||
        std::ranges::find(besides, key) != besides.end())
      continue;
    const std::string value_a = value_of(in_a, key), value_b = value_of(in_b, key);
    if (value_a != value_b) return SettingDifference{key, value_a, value_b};
  }
  return {};
}

void validate(const Design& design) {
  if (design.contenders.empty())
    throw std::invalid_argument("--optimizers is empty: name at least one, as in muon,aurora");
  for (auto b = design.contenders.begin(); b != design.contenders.end(); ++b) {
    for (auto a = design.contenders.begin(); a != b; ++a) {
      if (a->config == b->config)
        throw std::invalid_argument("--optimizers names the same optimizer twice: " + a->name +
                                    (a->name == b->name ? "" : " and " + b->name + " have the same options"));
    }
  }
  if (design.seeds < 1 || design.seeds > kMostSeeds)
    throw std::invalid_argument("--seeds must be from 1 to " + std::to_string(kMostSeeds) + ", not " +
                                std::to_string(design.seeds));
  // The last seed is one that train.seed can be.
  constexpr auto kLastSeed = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (design.first_seed > kLastSeed - static_cast<std::uint64_t>(design.seeds - 1))
    throw std::invalid_argument("--seed " + std::to_string(design.first_seed) + " leaves no room for " +
                                std::to_string(design.seeds) + " seeds: the last would be above " +
                                std::to_string(kLastSeed));
  std::vector<trainer::TrainConfig> configs;
  for (const Contender& contender : design.contenders) configs.push_back(contender.config);
  validate(design.sweep, configs);
  const std::uint64_t end = design.first_seed + static_cast<std::uint64_t>(design.seeds);
  const std::uint64_t sweep_end = kFirstSweepSeed + static_cast<std::uint64_t>(design.sweep.seeds);
  if (!design.sweep.axes.empty() && design.first_seed < sweep_end && end > kFirstSweepSeed) {
    throw std::invalid_argument("the seeds of the result, " + std::to_string(design.first_seed) + " to " +
                                std::to_string(end - 1) + ", meet those of the sweep, which begin at " +
                                std::to_string(kFirstSweepSeed) + ": choose another --seed");
  }
}

void write_design(const Design& design, const fs::path& folder) {
  Json optimizers = Json::object();
  for (const Contender& contender : design.contenders) {
    Json values = Json::object();
    for (const trainer::Setting& setting : trainer::settings(contender.config))
      values[setting.key] = setting.value;
    optimizers[contender.name] = std::move(values);
  }
  Json axes = Json::object();
  for (const SweepAxis& axis : design.sweep.axes) axes[axis.key] = axis.factors;
  const Json object = {{"command", design.command},
                       {"first_seed", design.first_seed},
                       {"seeds", design.seeds},
                       {"sweep",
                        {{"factors", std::move(axes)},
                         {"automatic", design.sweep.automatic},
                         {"jointly", design.sweep.jointly},
                         {"equal_rates", design.sweep.equal_rates},
                         {"seeds", design.sweep.seeds}}},
                       {"optimizers", std::move(optimizers)}};
  fs::create_directories(folder);
  trainer::atomic_write_text(folder / kFile,
                             object.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::optional<Design> read_design(const fs::path& folder) {
  const fs::path file = folder / kFile;
  if (!fs::exists(file)) return {};
  try {
    const Json object = trainer::read_json(file, kLimits);
    const auto whole = [](const Json& in, const char* key, std::int64_t least, std::int64_t most) {
      if (!trainer::is_whole(in.at(key), least, most))
        throw std::invalid_argument(std::string(key) + " is not from " + std::to_string(least) + " to " +
                                    std::to_string(most));
      return in.at(key).get<std::int64_t>();
    };
    Design design;
    design.command = object.at("command");
    design.first_seed =
        static_cast<std::uint64_t>(whole(object, "first_seed", 0, std::numeric_limits<std::int64_t>::max()));
    design.seeds = static_cast<int>(whole(object, "seeds", 1, kMostSeeds));
    const Json& sweep = object.at("sweep");
    for (const auto& [key, factors] : sweep.at("factors").items())
      design.sweep.axes.push_back({key, factors.get<std::vector<double>>()});
    design.sweep.automatic = sweep.at("automatic");
    design.sweep.jointly = sweep.at("jointly");
    design.sweep.equal_rates = sweep.at("equal_rates");
    design.sweep.seeds = static_cast<int>(whole(sweep, "seeds", 1, kMostSeeds));
    for (const auto& [name, values] : object.at("optimizers").items()) {
      Contender contender{.name = name, .config = {}};
      trainer::set(contender.config, "optim.optimizer", values.at("optim.optimizer").get<std::string>());
      for (const auto& [key, value] : values.items()) {
        if (key != "optim.optimizer") trainer::set(contender.config, key, value.get<std::string>());
      }
      design.contenders.push_back(std::move(contender));
    }
    validate(design);
    return design;
  } catch (const nlohmann::json::exception& error) {
    fail_record(file, trainer::json_fault(error));
  } catch (const std::exception& error) {
    fail_record(file, error.what());
  }
}

void require_extension(const Design& before, const Design& now, const fs::path& folder) {
  for (const Contender& old : before.contenders) {
    const auto found = std::ranges::find(now.contenders, old.name, &Contender::name);
    if (found == now.contenders.end()) {
      throw std::invalid_argument(folder.string() + " compares " + old.name +
                                  " too: name it in --optimizers, or name another --out");
    }
    if (const auto differs = setting_difference(old.config, found->config, {"train.seed"}))
      fail_differs(folder, differs->key + " of " + old.name, differs->a, differs->b);
  }
  if (before.first_seed != now.first_seed) {
    fail_differs(folder, "--seed", std::to_string(before.first_seed), std::to_string(now.first_seed));
  }
  if (before.seeds > now.seeds) {
    fail_differs(folder, "--seeds", std::to_string(before.seeds), std::to_string(now.seeds));
  }
  require_extension(before.sweep, now.sweep, folder);
}

void require_equal(const trainer::TrainConfig& config, const fs::path& folder) {
  if (!fs::exists(folder / "config.toml")) return;
  if (const auto differs = setting_difference(trainer::from_toml(folder / "config.toml"), config)) {
    throw std::invalid_argument(folder.string() + " holds another run: " + differs->key + " is " +
                                shown(differs->a) + " there, here " + shown(differs->b) +
                                "; name another --out, or remove that folder");
  }
}

}  // namespace aurora::compare
