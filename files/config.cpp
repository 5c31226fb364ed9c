#include "config.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "aurora/value_text.hpp"
#include "text_data.hpp"
#include "toml_text.hpp"

namespace aurora::trainer {

std::vector<std::string> absolute_paths(std::vector<std::string> paths) {
  for (std::string& path : paths) {
    if (path != "-" && !path.empty()) path = std::filesystem::absolute(path).lexically_normal().string();
  }
  return paths;
}

namespace {

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The kinds of rule: each has a text, reads a field from text, and says whether a field keeps it. Integers and
// Numbers are those of value_text.hpp.

struct OneOf {
  std::array<std::string_view, 2> names;
};
struct Paths {};
struct DeviceName {};

template <class Number, class Interval>
std::string value_text(Number field, const Interval&) {
  return number_text(field);
}
std::string value_text(const std::string& field, const OneOf&) { return field; }

template <class Interval>
std::string rule_text(const Interval& rule) {
  return rule.text();
}
std::string rule_text(const OneOf& rule) { return "one of " + listed(rule.names); }
std::string value_text(const std::string& field, const DeviceName&) { return field; }
std::string rule_text(const DeviceName&) { return "cpu, or a device of libtorch's as in cuda or cuda:1"; }
std::string rule_text(const Paths&) { return "a path or a list of paths, in UTF-8"; }

template <class Number, class Interval>
bool keeps(Number field, const Interval& rule) {
  return rule.contains(field);
}
bool keeps(const std::string& field, const OneOf& rule) {
  return std::ranges::find(rule.names, field) != rule.names.end();
}
bool keeps(const std::string& field, const DeviceName&) {
  const auto type = field.substr(0, field.find(':'));
  const auto lower_case = [](char c) { return c >= 'a' && c <= 'z'; };
  int number = 0;
  return !type.empty() && std::ranges::all_of(type, lower_case) &&
         (type == field || read_number(number, std::string_view(field).substr(type.size() + 1)));
}
bool keeps(const std::vector<std::string>& field, const Paths&) {
  return std::ranges::all_of(field,
                             [](const std::string& path) { return !path.empty() && is_utf8(path, false); });
}

std::string value_text(const std::vector<std::string>& field, const Paths&) {
  std::string list = "[";
  for (const std::string& path : field) list += (list.size() > 1 ? ", " : "") + toml_string(path);
  return list + "]";
}

template <class Number, class Interval>
bool read_text(Number& field, const Interval& rule, std::string_view text) {
  return read_number(field, text, rule);
}
template <class Rule>
bool read_text(std::string& field, const Rule& rule, std::string_view text) {
  if (!keeps(std::string(text), rule)) return false;
  field = text;
  return true;
}
bool read_text(std::vector<std::string>& field, const Paths& rule, std::string_view text) {
  std::vector<std::string> paths;
  if (text.starts_with('[')) {
    try {
      const toml::table table = parse_toml("paths = " + std::string(text));
      const toml::array* list = table["paths"].as_array();
      if (list == nullptr || table.size() != 1) return false;
      for (const toml::node& path : *list) {
        if (!path.is_string()) return false;
        paths.push_back(path.as_string()->get());
      }
    } catch (const std::runtime_error&) {  // toml::parse_error is one
      return false;
    }
  } else {
    paths.emplace_back(text);
  }
  if (!keeps(paths, rule)) return false;
  field = absolute_paths(std::move(paths));
  return true;
}

constexpr Integers kEvery{1, 1'000'000'000};

/// Calls visit(key, field, rule, meaning) for every setting outside [optim] and [adamw], whose list is the
/// library's.
template <class Config, class Visit>
void for_each_field(Config& c, const Visit& visit) {
  visit("model.width", c.model.width, Integers{2, 65536}, "length of a token's vector");
  visit("model.layers", c.model.layers, Integers{1, 1024}, "blocks of attention and MLP");
  visit("model.heads", c.model.heads, Integers{1, 1024}, "attention heads");
  visit("model.kv_heads", c.model.kv_heads, Integers{1, 1024},
        "key-value heads, each for heads / kv_heads heads");
  visit("model.context", c.model.context, Integers{1, 1 << 20}, "tokens of a sequence");
  visit("model.expansion", c.model.expansion, Numbers{0, 64, true}, "neurons of an MLP / width");
  visit("model.rope_theta", c.model.rope_theta, Numbers{1, 1e12}, "base of the rotary wavelengths");
  visit("model.norm_eps", c.model.norm_eps, Numbers{0, 1, true}, "added to the mean square in RMSNorm");
  visit("data.paths", c.data, Paths{}, "text to train on: files, folders, - for standard input");
  visit("data.validation", c.validation, Paths{}, "other text for evaluation; empty: a part of data.paths");
  visit("train.steps", c.steps, kEvery, "steps of the run");
  visit("train.batch", c.batch, Integers{1, 65536}, "sequences of a micro-batch");
  visit("train.accumulate", c.accumulate, Integers{1, 65536},
        "micro-batches of a step, of all ranks together");
  visit("train.warmup", c.warmup, Numbers{0, 1}, "share of the steps with rising learning rates");
  visit("train.cooldown", c.cooldown, Numbers{0, 1}, "share of the steps with falling learning rates");
  visit("train.clip", c.clip, Numbers{0, kInfinity}, "largest norm of all gradients together; 0: any");
  visit("train.seed", c.seed, Integers{0, std::numeric_limits<std::int64_t>::max()},
        "of weights and data order");
  visit("train.threads", c.threads, Integers{0, 1024}, "CPU threads; 0: all cores");
  visit("train.eval_every", c.eval_every, kEvery, "steps from evaluation to evaluation");
  visit("train.eval_tokens", c.eval_tokens, Integers{0, Index{1} << 40},
        "tokens of an evaluation at most; 0: all of the validation text up to 2^27");
  visit("train.diagnose_every", c.diagnose_every, Integers{0, 1'000'000'000},
        "steps from neuron record to neuron record; 0: a tenth of train.steps");
  visit("train.save_every", c.save_every, kEvery, "steps from checkpoint to checkpoint");
  visit("train.save_momentum", c.save_momentum, Integers{0, 1'000'000'000},
        "steps from file to file of the matrices' momentum; 0: none");
  visit("train.keep", c.keep, Integers{0, 1'000'000}, "newest checkpoints kept; 0: all");
  visit("train.reduction", c.reduction, OneOf{{"any", "ordered"}},
        "order in which gradients of several ranks are added; ordered: that of one rank, with its bits");
  visit("train.dtype", c.dtype, OneOf{{"f32", "bf16"}}, "numbers of the forward pass");
  visit("train.device", c.device, DeviceName{}, "where to train");
}

struct Preset {
  std::string_view name;
  Index width, layers, heads, context, batch;
};
constexpr std::array<Preset, 3> kPresets = {{
    {"tiny", 128, 4, 4, 128, 16},
    {"small", 512, 8, 8, 512, 16},
    {"base", 768, 12, 12, 1024, 16},
}};

constexpr std::string_view kOptimizerMeaning = "of the hidden matrices; adamw: of everything";

std::string optimizer_rule() { return "one of " + listed(rule_names()); }

/// The library's message after its "[place] ".
std::string without_place(std::string_view message) {
  const auto end = message.find("] ");
  return std::string(message.starts_with('[') && end != message.npos ? message.substr(end + 2) : message);
}

template <class Action>
void with_key(std::string_view key, const Action& action) {
  try {
    action();
  } catch (const std::invalid_argument& error) {
    fail(key, ": ", without_place(error.what()));
  }
}

void set_adamw(TrainConfig& config, std::string_view name, std::string_view value) {
  Rule options = config.adamw;
  if (name == "betas") {
    const auto is_bracket = [](char c) {
      return std::string_view("()[] ").find(c) != std::string_view::npos;
    };
    std::string text(value);
    std::erase_if(text, is_bracket);
    const auto comma = text.find(',');
    if (comma == text.npos) fail("must be two numbers, as in 0.9,0.95, not '", value, "'");
    set_hyperparameter(options, "beta1", std::string_view(text).substr(0, comma));
    set_hyperparameter(options, "beta2", std::string_view(text).substr(comma + 1));
  } else {
    set_hyperparameter(options, name, value);
  }
  config.adamw = std::get<AdamWOptions>(options);
}

void set_optimizer(TrainConfig& config, std::string_view value) {
  const Rule chosen = parse_variant(value);
  if (takes_matrices(chosen)) {
    if (!config.optim || value != name(*config.optim)) config.optim = chosen;
    return;
  }
  // The options of a variant of adamw go on top of [adamw], the one place of AdamW's options.
  TrainConfig changed = config;
  changed.optim.reset();
  for (const auto& [key, text] : split_variant(value).options) set_adamw(changed, key, text);
  config = std::move(changed);
}

[[noreturn]] void fail_unknown(const TrainConfig& config, std::string_view key) {
  std::vector<std::string> keys;
  for (const Setting& setting : settings(config)) keys.push_back(setting.key);
  fail("there is no setting '", key, "'; did you mean '", nearest(key, keys), "'?");
}

}  // namespace

Index ModelConfig::neurons() const {
  return static_cast<Index>(std::llround(expansion * static_cast<double>(width)));
}

Index diagnose_interval(const TrainConfig& config) {
  return config.diagnose_every > 0 ? config.diagnose_every : (config.steps + 9) / 10;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

void apply_preset(TrainConfig& config, std::string_view name) {
  const auto preset = std::ranges::find(kPresets, name, &Preset::name);
  if (preset == kPresets.end()) {
    const auto names = preset_names();
    fail("there is no preset '", name, "'; did you mean '", nearest(name, names),
         "'? There are: ", listed(names));
  }
  config.model.width = preset->width;
  config.model.layers = preset->layers;
  config.model.heads = config.model.kv_heads = preset->heads;
  config.model.context = preset->context;
  config.model.expansion = ModelConfig{}.expansion;
  config.batch = preset->batch;
}

std::vector<Setting> settings(const TrainConfig& config) {
  std::vector<Setting> list;
  for_each_field(config, [&](const char* key, const auto& field, const auto& rule, const char* meaning) {
    list.push_back({key, value_text(field, rule), rule_text(rule), meaning});
  });
  const auto add = [&](const char* section, const Rule& options) {
    for (Hyperparameter& entry : hyperparameters(options)) {
      list.push_back({section + std::move(entry.name), std::move(entry.value), std::move(entry.rule),
                      std::move(entry.meaning)});
    }
  };
  list.push_back({std::string(kOptimizerSetting), std::string(name(config.rule())), optimizer_rule(),
                  std::string(kOptimizerMeaning)});
  if (config.optim) add("optim.", *config.optim);
  add("adamw.", config.adamw);
  return list;
}

void set(TrainConfig& config, std::string_view key, std::string_view value) {
  constexpr std::string_view kOptim = "optim.", kAdamW = "adamw.";
  if (key == kOptimizerSetting) return with_key(key, [&] { set_optimizer(config, value); });
  if (key.starts_with(kAdamW))
    return with_key(key, [&] { set_adamw(config, key.substr(kAdamW.size()), value); });
  if (key.starts_with(kOptim)) {
    if (!config.optim) {
      fail("with the optimizer adamw there is no setting '", key, "'; set adamw.", key.substr(kOptim.size()));
    }
    return with_key(key, [&] { set_hyperparameter(*config.optim, key.substr(kOptim.size()), value); });
  }
  bool found = false;
  for_each_field(config, [&](std::string_view entry, auto& field, const auto& rule, const char*) {
    if (entry != key) return;
    found = true;
    if (!read_text(field, rule, value)) fail(key, " must be ", rule_text(rule), ", not '", value, "'");
  });
  if (!found) fail_unknown(config, key);
}

void validate(const TrainConfig& config) {
  for_each_field(config, [&](const char* key, const auto& field, const auto& rule, const char*) {
    if (!keeps(field, rule)) fail(key, " must be ", rule_text(rule), ", not ", value_text(field, rule));
  });
  const ModelConfig& model = config.model;
  if (model.vocabulary != ModelConfig{}.vocabulary)
    fail("the vocabulary is 256 bytes, not ", model.vocabulary);
  if (model.width % model.heads != 0) {
    fail("model.width must be divisible by model.heads: ", model.width, " by ", model.heads);
  }
  if (model.width / model.heads % 2 != 0) {
    fail("model.width / model.heads must be even, for rotary positions: ", model.width, " / ", model.heads,
         " = ", model.width / model.heads);
  }
  if (model.heads % model.kv_heads != 0) {
    fail("model.heads must be divisible by model.kv_heads: ", model.heads, " by ", model.kv_heads);
  }
  const double neurons = model.expansion * static_cast<double>(model.width);
  if (neurons != static_cast<double>(model.neurons()) || model.neurons() < 2) {
    const Index whole = std::max<Index>(2, model.neurons());
    fail("model.expansion * model.width must be an integer > 1: ", number_text(model.expansion), " * ",
         model.width, " = ", number_text(neurons), "; ", whole, " neurons are an expansion of ",
         number_text(static_cast<double>(whole) / static_cast<double>(model.width)));
  }
  if (config.warmup + config.cooldown > 1) {
    fail("train.warmup + train.cooldown must be <= 1: ", number_text(config.warmup), " + ",
         number_text(config.cooldown));
  }
  double tokens = 1;
  for (const Index factor : {config.steps, config.batch, config.accumulate, model.context}) {
    tokens *= static_cast<double>(factor);
  }
  if (tokens >= 0x1p62) {
    fail("train.steps * train.batch * train.accumulate * model.context must be < 2^62 tokens: ", config.steps,
         " * ", config.batch, " * ", config.accumulate, " * ", model.context);
  }
  if (const auto bytes = to_toml(config).size(); bytes > kLongestConfig) {
    fail("the configuration has ", bytes, " bytes, at most ", kLongestConfig,
         " are read again: name folders instead of so many files");
  }
  with_key("adamw", [&] { aurora::validate(config.adamw); });
  if (!(config.adamw.lr > 0)) fail("adamw.lr must be > 0 to train, not ", number_text(config.adamw.lr));
  if (!config.optim) return;
  with_key("optim", [&] { aurora::validate(*config.optim); });
  const double lr = lr_of(*config.optim);
  if (!(lr > 0)) fail("optim.lr must be > 0 to train, not ", number_text(lr));
}

}  // namespace aurora::trainer
