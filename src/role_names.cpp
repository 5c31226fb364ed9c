#include "role_names.hpp"

#include <algorithm>
#include <cctype>

#include "role_table.hpp"

namespace aurora {
namespace {

bool is_number(std::string_view part) {
  return !part.empty() && std::ranges::all_of(part, [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::string plain_letters(std::string_view text) {
  std::string plain;
  for (const char c : text) {
    if (c != '_' && c != '-') plain.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return plain;
}

}  // namespace

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto end = text.find(at);
    parts.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
  }
  return parts;
}

std::string_view stem_of(std::string_view name) {
  for (const std::string_view end : {".weight", ".base_layer", ".original_module"}) {
    if (name.ends_with(end)) name.remove_suffix(end.size());
  }
  return name;
}

bool ends_with_parts(std::string_view stem, std::string_view end) {
  if (end.empty()) return true;
  if (!stem.ends_with(end)) return false;
  return stem.size() == end.size() || stem[stem.size() - end.size() - 1] == '.';
}

bool in_block(std::string_view name) {
  const auto parts = split(stem_of(name), '.');
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    if (is_number(parts[i]) && !is_number(parts[i + 1])) return true;
  }
  return false;
}

bool is_of_family(const ParameterInfo& parameter, std::string_view family) {
  if (family.empty()) return true;
  const auto fits = [&](const std::string& name) { return plain_letters(name).starts_with(family); };
  return std::ranges::any_of(parameter.around, fits) || std::ranges::any_of(parameter.owner, fits);
}

bool owner_is(const ParameterInfo& parameter, std::string_view kind) {
  return std::ranges::find(parameter.owner, kind) != parameter.owner.end();
}

bool owner_contains(const ParameterInfo& parameter, std::string_view part) {
  return std::ranges::any_of(parameter.owner, [&](const std::string& kind) {
    return std::string_view(kind).find(part) != std::string_view::npos;
  });
}

bool is_convolution(const ParameterInfo& parameter) {
  return owner_contains(parameter, "Conv1d") || owner_contains(parameter, "Conv2d") ||
         owner_contains(parameter, "Conv3d") || owner_contains(parameter, "ConvTranspose");
}

std::optional<Index> number_of(const ParameterInfo& parameter, std::string_view name) {
  if (!parameter.number) return std::nullopt;
  const auto names = names_of_number(name);
  if (names.empty()) return parameter.number(std::string(name));
  for (const std::string_view each : names) {
    if (const auto value = parameter.number(std::string(each))) return value;
  }
  return std::nullopt;
}

}  // namespace aurora
