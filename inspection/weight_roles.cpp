#include "weight_roles.hpp"

#include <algorithm>
#include <array>

namespace aurora::trainer {
namespace {

/// One of the weights whose names GPT-2's Conv1D shares with linear layers.
bool has_name_of_gpt2(std::string_view name) {
  return std::ranges::any_of(std::to_array<std::string_view>({"attn.c_attn.weight", "attn.c_proj.weight",
                                                              "mlp.c_fc.weight", "mlp.c_proj.weight"}),
                             [&](std::string_view end) { return name.ends_with(end); });
}

/// Whether these are stored [in, out], as by the Conv1D of transformers, or [out, in]: an MLP and a fused
/// attention have more hidden units than inputs. True where no shape tells.
bool stores_in_out(std::span<const NamedShape> weights) {
  Index in_out = 0, out_in = 0;
  for (const auto& [name, shape] : weights) {
    if (!has_name_of_gpt2(name) || shape.size() != 2 || shape[0] == shape[1]) continue;
    const bool more_outputs = !name.ends_with("c_proj.weight");
    ++((shape[1] > shape[0]) == more_outputs ? in_out : out_in);
  }
  return in_out >= out_in;
}

WeightRole by_shape(const std::vector<Index>& shape, std::string name) {
  const bool wide = shape[0] < shape[1];
  if (name.empty()) name = wide ? "wide" : shape[0] == shape[1] ? "square" : "tall";
  return {.name = std::move(name),
          .axis = wide ? NeuronAxis::columns : NeuronAxis::rows,
          .hidden = true,
          .guessed = true};
}

std::optional<WeightRole> role_of(const RoutedParameter& routed) {
  const bool two_axes = routed.shape.size() == 2;
  const bool hidden = routed.route == Route::matrix;
  if (!hidden && routed.guessed) {  // of unknown axes, or fused in an unknown way
    return two_axes ? std::optional(by_shape(routed.shape, routed.role)) : std::nullopt;
  }
  if (!hidden) {
    if (!two_axes) return std::nullopt;
    return WeightRole{.name = routed.role.empty() ? "other" : routed.role,
                      .axis = NeuronAxis::rows,
                      .hidden = false,
                      .guessed = false};
  }
  if (routed.role.empty() && two_axes) return by_shape(routed.shape, "");
  const bool rows = routed.neurons == NeuronSide::output;
  const bool one = two_axes && matrix_shapes(routed.shape, *routed.dimensions).size() == 1;
  const bool transposed = one && routed.dimensions->rows.front() == 1;
  WeightRole role{.name = routed.role,
                  .axis = rows != transposed ? NeuronAxis::rows : NeuronAxis::columns,
                  .hidden = true,
                  .guessed = routed.guessed};
  if (!one) role.dimensions = *routed.dimensions;
  return role;
}

}  // namespace

std::vector<std::optional<WeightRole>> weight_roles(std::span<const NamedShape> weights,
                                                    const ModelConfiguration& model) {
  const bool in_out = stores_in_out(weights);
  std::vector<ParameterInfo> infos;
  for (const auto& [name, shape] : weights) {
    ParameterInfo info{
        .name = std::string(name), .shape = shape, .owner = {"StoredWeight"}, .trainable = false};
    if (in_out && has_name_of_gpt2(name)) info.owner.emplace_back("Conv1D");
    if (!model.model_type.empty()) info.around = {model.model_type};
    info.number = model.number;
    infos.push_back(std::move(info));
  }
  std::vector<std::optional<WeightRole>> roles;
  for (const auto& routed : route(infos, {}, UnnamedHead::none)) roles.push_back(role_of(routed));
  return roles;
}

}  // namespace aurora::trainer
