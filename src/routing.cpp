#include "aurora/routing.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "error.hpp"

namespace aurora {
namespace {

/// Shell wildcards: * any text, ? one character. On a mismatch the last * takes one character more.
bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, taken = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

/// Whether one of the dotted parts of `name` is one of `words`.
template <std::size_t N>
bool has_part(std::string_view name, const std::array<std::string_view, N>& words) {
  while (!name.empty()) {
    const auto dot = name.find('.');
    const std::string_view part = name.substr(0, dot);
    if (std::find(words.begin(), words.end(), part) != words.end()) return true;
    name = dot == std::string_view::npos ? "" : name.substr(dot + 1);
  }
  return false;
}

constexpr std::array<std::string_view, 10> kEmbeddings = {
    "embed", "embedding", "embeddings",     "embed_tokens",    "embed_positions",
    "wte",   "wpe",       "tok_embeddings", "word_embeddings", "position_embeddings"};
constexpr std::array<std::string_view, 7> kHeads = {
    "lm_head", "head", "classifier", "output_projection", "output_head", "unembed", "score"};
constexpr std::array<std::string_view, 3> kRouters = {"router", "gate_router", "routing"};

std::string shape_of(const std::vector<Index>& shape) {
  std::string text;
  for (const Index size : shape) text.append(text.empty() ? "" : "x").append(std::to_string(size));
  return text.empty() ? "scalar" : text;
}

/// Why a parameter cannot be a hidden matrix whatever its role; empty if it can.
std::string not_a_matrix(const ParameterInfo& parameter) {
  if (parameter.shape.size() < 2) return "fewer than two dimensions";
  if (parameter.shape[0] == 1) return "a side of length 1";
  Index rest = 1;
  for (std::size_t i = 1; i < parameter.shape.size(); ++i) rest *= parameter.shape[i];
  return rest == 1 ? "a side of length 1" : "";
}

struct Choice {
  Route route;
  std::string reason;
};

Choice by_role(const ParameterInfo& parameter, bool last_linear) {
  const std::string& name = parameter.name;
  if (const std::string reason = not_a_matrix(parameter); !reason.empty()) return {Route::adamw, reason};
  if (!parameter.tied_to.empty()) return {Route::adamw, "tied to " + parameter.tied_to};
  if (parameter.embedding) return {Route::adamw, "embedding"};
  if (has_part(name, kEmbeddings)) return {Route::adamw, "embedding by name"};
  if (has_part(name, kHeads)) return {Route::adamw, "output head by name"};
  if (has_part(name, kRouters)) return {Route::adamw, "router by name"};
  if (last_linear) return {Route::adamw, "output head: the last linear layer"};
  return {Route::matrix, "hidden matrix"};
}

/// What the patterns say of a parameter; nothing where none matches.
std::optional<Choice> by_pattern(const ParameterInfo& parameter, std::span<const RoutePattern> patterns) {
  const RoutePattern* chosen = nullptr;
  for (const auto& pattern : patterns) {
    if (!matches(pattern.pattern, parameter.name)) continue;
    if (chosen && chosen->route != pattern.route) {
      fail("route", "Patterns contradict each other: ", parameter.name, " by '", chosen->pattern, "' and '",
           pattern.pattern, "'");
    }
    if (!chosen) chosen = &pattern;
  }
  if (!chosen) return std::nullopt;
  if (const std::string reason = not_a_matrix(parameter); chosen->route == Route::matrix && !reason.empty()) {
    fail("route", "A matrix optimizer cannot take ", parameter.name, " ", shape_of(parameter.shape), " (",
         reason, "), sent by '", chosen->pattern, "'; it belongs to AdamW");
  }
  return Choice{chosen->route, "pattern '" + chosen->pattern + "'"};
}

}  // namespace

std::vector<RoutedParameter> route(std::span<const ParameterInfo> parameters,
                                   std::span<const RoutePattern> patterns) {
  for (const auto& pattern : patterns) {
    if (std::none_of(parameters.begin(), parameters.end(), [&](const ParameterInfo& parameter) {
          return matches(pattern.pattern, parameter.name);
        })) {
      fail("route", "No parameter matches the pattern '", pattern.pattern, "'");
    }
  }
  // The head is the last linear layer only where no name and no tie tells it.
  const bool head_is_named =
      std::any_of(parameters.begin(), parameters.end(), [](const ParameterInfo& parameter) {
        return has_part(parameter.name, kHeads) || !parameter.tied_to.empty();
      });
  const ParameterInfo* last_linear = nullptr;
  if (!head_is_named) {
    for (const auto& parameter : parameters) {
      if (parameter.linear) last_linear = &parameter;
    }
  }
  std::vector<RoutedParameter> routed;
  for (const auto& parameter : parameters) {
    auto choice = by_pattern(parameter, patterns);
    if (!choice) choice = by_role(parameter, &parameter == last_linear);
    routed.push_back({parameter.name, parameter.shape, choice->route, choice->reason});
  }
  return routed;
}

std::string routing_table(std::span<const RoutedParameter> parameters, std::string_view matrix_name) {
  const std::array<std::string, 4> head = {"parameter", "shape", "optimizer", "reason"};
  std::vector<std::array<std::string, 4>> lines = {head};
  for (const auto& parameter : parameters) {
    lines.push_back({parameter.name, shape_of(parameter.shape),
                     std::string(parameter.route == Route::matrix ? matrix_name : "adamw"),
                     parameter.reason});
  }
  std::array<std::size_t, 3> widths{};
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < widths.size(); ++i)
      text += line[i] + std::string(widths[i] - line[i].size() + 2, ' ');
    text += line[3] + "\n";
  }
  return text;
}

}  // namespace aurora
