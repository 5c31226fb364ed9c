#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "text_file.hpp"

namespace aurora::trainer {

/// How much a JSON text may ask of who reads it.
struct JsonLimits {
  std::size_t bytes;
  int depth;         // objects and lists inside each other
  std::size_t keys;  // of one object
};

/// What an exception of the library says, for people: without its "[json.exception.parse_error.101] ".
inline std::string json_fault(const nlohmann::json::exception& error) {
  const std::string_view what = error.what();
  return std::string(what.substr(what.find("] ") + 2, 200));
}

/// The one place where JSON is parsed, but for the header of a safetensors file, which never becomes a tree.
/// Throws std::runtime_error that says what is wrong: no JSON, beyond a limit, a key twice in one object.
template <class Json = nlohmann::ordered_json>
Json parse_json(std::string_view text, const JsonLimits& limits) {
  using Event = nlohmann::detail::parse_event_t;
  if (text.size() > limits.bytes)
    throw std::runtime_error("is longer than the " + std::to_string(limits.bytes) + " bytes that are read");
  std::vector<std::set<std::string, std::less<>>> open;  // keys of the objects around
  const auto look = [&](int depth, Event event, const Json& parsed) {
    if (depth >= limits.depth && (event == Event::object_start || event == Event::array_start))
      throw std::runtime_error("is nested deeper than " + std::to_string(limits.depth));
    if (event == Event::object_start) open.emplace_back();
    if (event == Event::object_end) open.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.template get_ref<const std::string&>();
      if (!open.back().insert(key).second)
        throw std::runtime_error("has the key \"" + key.substr(0, 200) + "\" twice");
      if (open.back().size() > limits.keys)
        throw std::runtime_error("has an object of more than " + std::to_string(limits.keys) + " keys");
    }
    return true;
  };
  try {
    return Json::parse(text, look);
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error("is no JSON: " + json_fault(error));
  }
}

/// The JSON in a regular file. Throws std::runtime_error "FILE: what".
template <class Json = nlohmann::ordered_json>
Json read_json(const std::filesystem::path& file, const JsonLimits& limits) {
  const std::string text = read_text_file(file, limits.bytes);
  try {
    return parse_json<Json>(text, limits);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(file.string() + ": " + error.what());
  }
}

/// Whether `value` is a whole number from `least` to `most`, with no rounding and no wrapping.
template <class Json>
bool is_whole(const Json& value, std::int64_t least, std::int64_t most) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.template get<std::uint64_t>() > INT64_MAX) return false;
  const auto number = value.template get<std::int64_t>();
  return number >= least && number <= most;
}

}  // namespace aurora::trainer
