#include "aurora/roles.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "error.hpp"
#include "role_cut.hpp"
#include "role_names.hpp"

namespace aurora {
namespace {

std::string shape_of(std::span<const Index> shape) {
  std::string text;
  for (const Index size : shape) text.append(text.empty() ? "" : "x").append(std::to_string(size));
  return text.empty() ? "scalar" : text;
}

const RoleRow* hidden_row(const ParameterInfo& parameter) {
  const std::string_view stem = stem_of(parameter.name);
  for (const RoleRow& row : hidden_rows()) {
    if (!ends_with_parts(stem, row.end) || !is_of_family(parameter, row.family)) continue;
    if (!row.when.empty() && number_of(parameter, row.when).value_or(0) == 0) continue;
    return &row;
  }
  return nullptr;
}

/// The class counts more than the name: a linear layer is no embedding, whatever it is called.
const OtherRow* other_row(const ParameterInfo& parameter) {
  static constexpr OtherRow kSomeHead{"_head", "output_head"};
  const bool linear = owner_is(parameter, "Linear");
  for (const OtherRow& row : other_rows()) {
    if (!ends_with_parts(stem_of(parameter.name), row.end)) continue;
    if (!row.inside_blocks && in_block(parameter.name)) continue;
    if (linear && row.role.ends_with("embedding")) continue;
    return &row;
  }
  const bool some_head =
      linear && stem_of(parameter.name).ends_with(kSomeHead.end) && !in_block(parameter.name);
  return some_head ? &kSomeHead : nullptr;
}

bool is_low_rank(std::string_view name) {
  const auto parts = split(name, '.');
  return std::ranges::any_of(parts, [](auto part) { return part == "lora_A" || part == "lora_B"; });
}

/// A router chooses experts: by its class, by its name, or as a gate beside experts.
bool is_router(const ParameterInfo& parameter, const std::set<std::string, std::less<>>& owners_of_experts) {
  if (owner_contains(parameter, "Router") || owner_contains(parameter, "TopKGating")) return true;
  const auto parts = split(stem_of(parameter.name), '.');
  const std::size_t from = parts.size() < 2 ? 0 : parts.size() - 2;
  for (std::size_t i = from; i < parts.size(); ++i) {
    if (parts[i] == "router" || parts[i] == "gate_router" || parts[i] == "routing") return true;
  }
  const std::string_view stem = stem_of(parameter.name);
  constexpr std::string_view kGate = "gate";
  if (!ends_with_parts(stem, kGate) && !ends_with_parts(stem, "gate.wg")) return false;
  const auto at = stem.rfind(kGate);
  return owners_of_experts.contains(stem.substr(0, at));
}

/// Why a parameter can be no hidden matrix whatever its role; empty if it can.
std::string not_a_matrix(const ParameterInfo& parameter) {
  if (parameter.shape.size() < 2) return "fewer than two dimensions";
  if (std::ranges::find(parameter.shape, 0) != parameter.shape.end()) return "no elements";
  return "";
}

bool has_a_side_of_one(const ParameterInfo& parameter, const Dimensions& dimensions) {
  return std::ranges::any_of(matrix_shapes(parameter.shape, dimensions),
                             [](const MatrixShape& shape) { return shape.rows < 2 || shape.cols < 2; });
}

struct Model {
  std::span<const ParameterInfo> parameters;
  std::set<std::string, std::less<>> owners_of_experts;  // "layers.0.mlp."
  const ParameterInfo* guessed_head = nullptr;
};

RoutedParameter to_adamw(const ParameterInfo& parameter, std::string reason, std::string role = {},
                         bool guessed = false) {
  return {parameter.name, parameter.shape, Route::adamw, std::move(reason), std::move(role), guessed, {}};
}

std::string tied_text(const ParameterInfo& parameter) {
  return parameter.other_names.empty() ? "" : ", tied to " + parameter.other_names.front();
}

/// What nobody can know from a name and a shape.
RoutedParameter unknown_cut(const ParameterInfo& parameter, const std::string& why, const std::string& role) {
  if (parameter.trainable) {
    fail("route", "Say how a parameter is cut into matrices, dimensions={\"", parameter.name,
         "\": {\"batch\": [0], \"rows\": [1], \"cols\": [2]}} or blocks={...}, or send it to AdamW, "
         "patterns={\"",
         parameter.name, "\": \"adamw\"}; ", why, ": ", parameter.name, " ", shape_of(parameter.shape));
  }
  return to_adamw(parameter, why, role, true);
}

RoutedParameter as_matrix(const ParameterInfo& parameter, const Model& model) {
  const RoleRow* row = hidden_row(parameter);
  const bool low_rank = is_low_rank(parameter.name);
  if (low_rank) row = nullptr;
  const std::string role(row != nullptr ? row->role : low_rank ? "low_rank" : "");
  Cut cut = cut_of(parameter, row, model.parameters);
  const bool name_only = parameter.owner.empty();
  if (name_only && parameter.shape.size() > 2 && cut.dimensions && parameter.trainable) {
    cut = {.dimensions = {}, .unknown = "without the model its owner is not known"};
  }
  if (!cut.dimensions && !parameter.described) return unknown_cut(parameter, cut.unknown, role);
  if (cut.dimensions && has_a_side_of_one(parameter, *cut.dimensions) && !parameter.described) {
    const bool filter = is_convolution(parameter) && number_of(parameter, "groups").value_or(1) > 1;
    return to_adamw(parameter, filter ? "depthwise filter" : "a side of length 1", filter ? "filter" : "");
  }
  const bool guessed = !parameter.described && (name_only || cut.guessed);
  std::string reason = low_rank ? "low-rank factor" : "hidden matrix";
  if (!role.empty() && !low_rank) reason += ": " + role;
  if (!parameter.other_names.empty()) reason += ", shared with " + parameter.other_names.front();
  return {parameter.name,
          parameter.shape,
          Route::matrix,
          std::move(reason),
          role,
          guessed,
          std::move(cut.dimensions),
          row != nullptr ? row->neurons : NeuronSide::output};
}

RoutedParameter by_role(const ParameterInfo& parameter, const Model& model) {
  const bool name_only = parameter.owner.empty();
  if (const std::string reason = not_a_matrix(parameter); !reason.empty()) return to_adamw(parameter, reason);
  if (parameter.embedding) return to_adamw(parameter, "embedding" + tied_text(parameter), "embedding");
  if (owner_contains(parameter, "Norm")) return to_adamw(parameter, "norm", "norm");
  const auto dot = parameter.name.rfind('.');
  const std::string_view own =
      std::string_view(parameter.name).substr(dot == std::string::npos ? 0 : dot + 1);
  if (own != "weight" && is_table_or_bias(own)) {
    return to_adamw(parameter, "bias or table by name", "table", name_only);
  }
  if (is_low_rank(parameter.name)) return as_matrix(parameter, model);
  if (is_router(parameter, model.owners_of_experts))
    return to_adamw(parameter, "router", "router", name_only);
  if (const OtherRow* row = other_row(parameter)) {
    const std::string words = row->role == "output_head"          ? "output head"
                              : row->role == "position_embedding" ? "position embedding"
                                                                  : std::string(row->role);
    return to_adamw(parameter, words + " by name", std::string(row->role), name_only);
  }
  if (parameter.output) return to_adamw(parameter, "output head of the model", "output_head");
  if (&parameter == model.guessed_head) {
    return to_adamw(parameter, "output head: the last linear layer", "output_head", true);
  }
  // Learned queries and scales of a module of its own: [1, n, d], [1, 1, 1, d].
  const RoleRow* row = hidden_row(parameter);
  const bool known = is_convolution(parameter) || owner_is(parameter, "Linear");
  if (parameter.shape[0] == 1 && !known && (row == nullptr || row->stored == Stored::as_owner)) {
    return to_adamw(parameter, "a side of length 1", {}, parameter.shape.size() > 2);
  }
  return as_matrix(parameter, model);
}

/// What the patterns say of a parameter; nothing where none matches.
const RoutePattern* by_pattern(const ParameterInfo& parameter, std::span<const RoutePattern> patterns) {
  const RoutePattern* chosen = nullptr;
  for (const auto& pattern : patterns) {
    if (!matches(pattern.pattern, parameter.name)) continue;
    if (chosen && chosen->route != pattern.route) {
      fail("route", "Patterns contradict each other: ", parameter.name, " by '", chosen->pattern, "' and '",
           pattern.pattern, "'");
    }
    if (!chosen) chosen = &pattern;
  }
  return chosen;
}

RoutedParameter sent(const ParameterInfo& parameter, const RoutePattern& pattern, const Model& model) {
  const std::string reason = "pattern '" + pattern.pattern + "'";
  if (pattern.route == Route::adamw) return to_adamw(parameter, reason);
  const auto refuse = [&](const std::string& why) {
    fail("route", "A matrix optimizer cannot take ", parameter.name, " ", shape_of(parameter.shape), " (",
         why, "), sent by '", pattern.pattern, "'; it belongs to AdamW");
  };
  if (const std::string why = not_a_matrix(parameter); !why.empty()) refuse(why);
  RoutedParameter routed = as_matrix(parameter, model);
  if (routed.route == Route::adamw && parameter.trainable) refuse(routed.reason);
  routed.reason = reason;
  routed.guessed = false;
  return routed;
}

bool is_linear(const ParameterInfo& parameter) {
  if (parameter.shape.size() != 2 || is_low_rank(parameter.name)) return false;
  if (parameter.owner.empty()) return !is_table_or_bias(parameter.name.substr(parameter.name.rfind('.') + 1));
  return (owner_is(parameter, "Linear") || owner_is(parameter, "Conv1D")) &&
         parameter.name.ends_with("weight");
}

/// The last linear layer that is in no block, where neither the model, a name nor a tie tells the head.
const ParameterInfo* guess_head(const Model& model) {
  const ParameterInfo* last = nullptr;
  for (const auto& parameter : model.parameters) {
    const OtherRow* row = other_row(parameter);
    const bool named = row != nullptr && row->role == "output_head" && parameter.shape.size() > 1;
    const bool tied = parameter.embedding && !parameter.other_names.empty();
    if (parameter.output || named || tied) return nullptr;
    if (is_linear(parameter) && row == nullptr) last = &parameter;
  }
  const bool hidden = last != nullptr && (in_block(last->name) || hidden_row(*last) != nullptr);
  return hidden ? nullptr : last;
}

}  // namespace

bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), FNM_NOESCAPE) == 0;
}

std::vector<RoutedParameter> route(std::span<const ParameterInfo> parameters,
                                   std::span<const RoutePattern> patterns, UnnamedHead unnamed_head) {
  for (const auto& pattern : patterns) {
    if (std::none_of(parameters.begin(), parameters.end(), [&](const ParameterInfo& parameter) {
          return matches(pattern.pattern, parameter.name);
        })) {
      fail("route", "No parameter matches the pattern '", pattern.pattern, "'");
    }
  }
  Model model{parameters, {}, nullptr};
  for (const auto& parameter : parameters) {
    for (const std::string_view mark : {"experts.", "shared_expert."}) {
      const auto at = parameter.name.find(mark);
      if (at != std::string::npos && (at == 0 || parameter.name[at - 1] == '.')) {
        model.owners_of_experts.insert(parameter.name.substr(0, at));
      }
    }
  }
  if (unnamed_head == UnnamedHead::last_linear) model.guessed_head = guess_head(model);
  std::vector<RoutedParameter> routed;
  for (const auto& parameter : parameters) {
    const RoutePattern* pattern = by_pattern(parameter, patterns);
    routed.push_back(pattern != nullptr ? sent(parameter, *pattern, model) : by_role(parameter, model));
  }
  return routed;
}

std::string matrices_text(std::span<const Index> shape, const Dimensions& dimensions) {
  std::vector<std::pair<MatrixShape, Index>> counts;
  for (const MatrixShape& matrix : matrix_shapes(shape, dimensions)) {
    const auto found = std::ranges::find(counts, matrix, &std::pair<MatrixShape, Index>::first);
    if (found == counts.end()) {
      counts.emplace_back(matrix, 1);
    } else {
      ++found->second;
    }
  }
  std::string text;
  for (const auto& [matrix, count] : counts) {
    if (!text.empty()) text += ", ";
    if (count > 1) text += std::to_string(count) + " of ";
    text += std::to_string(matrix.rows) + "x" + std::to_string(matrix.cols);
  }
  return text;
}

std::string routing_table(std::span<const RoutedParameter> parameters, std::string_view matrix_name) {
  std::map<std::string, int> methods;
  const std::array<std::string, 5> head = {"parameter", "shape", "optimizer", "matrices", "reason"};
  std::vector<std::array<std::string, 5>> lines = {head};
  for (const auto& parameter : parameters) {
    const bool matrix = parameter.route == Route::matrix;
    lines.push_back(
        {parameter.name, shape_of(parameter.shape), std::string(matrix ? matrix_name : "adamw"),
         matrix && parameter.dimensions ? matrices_text(parameter.shape, *parameter.dimensions) : "-",
         (parameter.guessed ? "guess: " : "") + parameter.reason});
    if (matrix && !parameter.method.empty()) ++methods[parameter.method];
  }
  std::array<std::size_t, 4> widths{};
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < widths.size(); ++i)
      text += line[i] + std::string(widths[i] - line[i].size() + 2, ' ');
    text += line[4] + "\n";
  }
  for (const auto& [method, count] : methods) {
    text.append(matrix_name).append(" of ").append(std::to_string(count));
    text += (count == 1 ? " parameter: " : " parameters: ") + method + "\n";
  }
  return text;
}

}  // namespace aurora
