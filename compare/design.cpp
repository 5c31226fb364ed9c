#include "design.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "atomic_file.hpp"
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

[[noreturn]] void fail_differs(const fs::path& folder, const std::string& what, const std::string& before,
                               const std::string& now) {
  throw std::invalid_argument(folder.string() + " holds another comparison: " + what + " is " +
                              shown(before) + " there, here " + shown(now) + "; name another --out");
}

[[noreturn]] void fail_record(const fs::path& file, const std::string& what) {
  throw std::runtime_error(file.string() + ": not the record of a comparison (" + what +
                           "); delete it and call aurora compare again as before");
}

}  // namespace

std::string number_text(double value) {
  std::array<char, 32> buffer{};
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr};
}

std::string folder_name(const std::string& variant) {
  std::string name = variant;
  std::ranges::replace_if(
      name, [](char c) { return c == ':' || c == '+' || c == '='; }, '-');
  return name;
}

fs::path result_folder(const fs::path& folder, const std::string& variant, std::uint64_t seed) {
  return folder / "runs" / folder_name(variant) / ("seed-" + std::to_string(seed));
}

fs::path sweep_folder(const fs::path& folder, const std::string& variant, double factor, std::uint64_t seed) {
  return folder / "sweep" / folder_name(variant) / ("lr-" + number_text(factor)) /
         ("seed-" + std::to_string(seed));
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
  for (const auto& [flag, seeds] :
       {std::pair("--seeds", design.seeds), {"--sweep-seeds", design.sweep_seeds}}) {
    if (seeds < 1 || seeds > kMostSeeds)
      throw std::invalid_argument(std::string(flag) + " must be from 1 to " + std::to_string(kMostSeeds) +
                                  ", not " + std::to_string(seeds));
  }
  // The last seed is one that train.seed can be.
  constexpr auto kLastSeed = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (design.first_seed > kLastSeed - static_cast<std::uint64_t>(design.seeds - 1))
    throw std::invalid_argument("--seed " + std::to_string(design.first_seed) + " leaves no room for " +
                                std::to_string(design.seeds) + " seeds: the last would be above " +
                                std::to_string(kLastSeed));
  std::set<double> factors;
  for (const double factor : design.factors) {
    if (!(std::isfinite(factor) && factor > 0))
      throw std::invalid_argument("--sweep-lr takes numbers > 0: " + number_text(factor));
    if (!factors.insert(factor).second)
      throw std::invalid_argument("--sweep-lr names a factor twice: " + number_text(factor));
  }
  const std::uint64_t end = design.first_seed + static_cast<std::uint64_t>(design.seeds);
  const std::uint64_t sweep_end = kFirstSweepSeed + static_cast<std::uint64_t>(design.sweep_seeds);
  if (!factors.empty() && design.first_seed < sweep_end && end > kFirstSweepSeed) {
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
  const Json object = {{"command", design.command},
                       {"first_seed", design.first_seed},
                       {"seeds", design.seeds},
                       {"sweep_factors", design.factors},
                       {"sweep_seeds", design.sweep_seeds},
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
    const auto whole = [&](const char* key, std::int64_t least, std::int64_t most) {
      if (!trainer::is_whole(object.at(key), least, most))
        throw std::invalid_argument(std::string(key) + " is not from " + std::to_string(least) + " to " +
                                    std::to_string(most));
      return object.at(key).get<std::int64_t>();
    };
    Design design;
    design.command = object.at("command");
    design.first_seed =
        static_cast<std::uint64_t>(whole("first_seed", 0, std::numeric_limits<std::int64_t>::max()));
    design.seeds = static_cast<int>(whole("seeds", 1, kMostSeeds));
    design.factors = object.at("sweep_factors").get<std::vector<double>>();
    design.sweep_seeds = static_cast<int>(whole("sweep_seeds", 1, kMostSeeds));
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
  if (before.factors != now.factors)
    fail_differs(folder, "--sweep-lr", list_text(before.factors), list_text(now.factors));
  if (before.sweep_seeds != now.sweep_seeds && !now.factors.empty()) {
    fail_differs(folder, "--sweep-seeds", std::to_string(before.sweep_seeds),
                 std::to_string(now.sweep_seeds));
  }
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
