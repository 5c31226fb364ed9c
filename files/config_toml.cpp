#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "aurora/value_text.hpp"
#include "config.hpp"
#include "text_file.hpp"
#include "toml_text.hpp"

namespace aurora::trainer {
namespace {

/// A TOML value as set() takes it.
std::string node_text(const toml::node& node) {
  if (node.is_string()) return node.as_string()->get();
  if (node.is_integer()) return std::to_string(node.as_integer()->get());
  if (node.is_floating_point()) return number_text(node.as_floating_point()->get());
  if (node.is_boolean()) return node.as_boolean()->get() ? "true" : "false";
  std::ostringstream text;
  if (const toml::array* list = node.as_array()) {
    text << toml::default_formatter{*list, toml::format_flags::quote_dates_and_times};
  } else {
    text << "a " << node.type();
  }
  return text.str();
}

/// Text of the library's list, or a name, as a TOML value.
std::string toml_value(const std::string& text) {
  double number{};
  const bool plain = text.starts_with('[') || text == "true" || text == "false" || read_number(number, text);
  return plain ? text : toml_string(text);
}

}  // namespace

std::string to_toml(const TrainConfig& config) {
  std::string text, section;
  for (const auto& [key, value, rule, meaning] : settings(config)) {
    const auto dot = key.find('.');
    if (key.substr(0, dot) != section) {
      text += (section.empty() ? "[" : "\n[") + (section = key.substr(0, dot)) + "]\n";
    }
    text += key.substr(dot + 1) + " = " + toml_value(value) + "  # " + meaning + "\n";
  }
  return text;
}

TrainConfig from_toml(const std::filesystem::path& file) {
  return from_toml_text(read_text_file(file, kLongestConfig), file.string());
}

TrainConfig from_toml_text(std::string_view text, const std::string& file) {
  const auto place = [&](const toml::source_region& source) {
    return file + ":" + std::to_string(source.begin.line) + ": ";
  };
  toml::table sections;
  try {
    sections = parse_toml(text);
  } catch (const toml::parse_error& error) {
    throw std::runtime_error(place(error.source()) + "not TOML: " + std::string(error.description()));
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(file + ": " + error.what());
  }

  TrainConfig config;
  const auto set_node = [&](const std::string& key, const toml::node& node) {
    try {
      set(config, key, node_text(node));
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(place(node.source()) + error.what());
    }
  };
  // First, because it says which other settings there are.
  if (const toml::node* optimizer = sections.at_path(kOptimizerSetting).node())
    set_node(std::string(kOptimizerSetting), *optimizer);
  for (const auto& [section, content_node] : sections) {
    const std::string name(section.str());
    const toml::table* table = content_node.as_table();
    if (table == nullptr) {
      set_node(name, content_node);
      continue;
    }
    for (const auto& [key, node] : *table) {
      const std::string full = name + "." + std::string(key.str());
      if (full != kOptimizerSetting) set_node(full, node);
    }
  }
  return config;
}

}  // namespace aurora::trainer
