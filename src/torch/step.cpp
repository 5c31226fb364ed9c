#include "aurora/torch/step.hpp"

#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "place_error.hpp"

namespace aurora::optim {
namespace {

using at::Tensor;

bool is_adamw(const OptimizerOptions& rule) { return std::holds_alternative<AdamWOptions>(rule); }

bool has_type(const Tensor& tensor) {
  const auto type = tensor.scalar_type();
  return type == at::kFloat || type == at::kDouble || type == at::kBFloat16;
}

DType dtype_of(const Tensor& tensor) {
  const auto type = tensor.scalar_type();
  return type == at::kDouble ? DType::f64 : type == at::kFloat ? DType::f32 : DType::bf16;
}

/// A tensor like the parameter in shape, and in strides where the parameter has no holes.
Tensor zeros_like(const Tensor& parameter, at::ScalarType type) {
  return at::zeros_like(parameter, parameter.options().dtype(type).requires_grad(false),
                        at::MemoryFormat::Preserve);
}

Dimensions dimensions_at(const Place& place) {
  const auto& dimensions = place.options.dimensions;
  if (dimensions.empty()) return default_dimensions(static_cast<std::size_t>(place.parameter.dim()));
  if (place.index >= dimensions.size()) {
    fail_at(place, "A group needs the dimensions of all its parameters or of none, not of ",
            dimensions.size());
  }
  return dimensions[place.index];
}

std::vector<MatrixView> matrices(const Tensor& tensor, const Dimensions& dimensions) {
  // The views of a gradient become ConstMatrixView: nothing is written through this pointer.
  return matrix_views(const_cast<void*>(tensor.const_data_ptr()), dtype_of(tensor), tensor.sizes(),
                      tensor.strides(), dimensions);
}

std::vector<MatrixView> matrices_at(const Place& place) {
  const Dimensions dimensions = dimensions_at(place);
  try {
    return matrices(place.parameter, dimensions);
  } catch (const std::invalid_argument& error) {
    fail_at(place, error.what());
  }
}

/// All elements of a tensor without holes, in the order of its memory.
MatrixView flat(const Tensor& tensor) {
  return {.data = const_cast<void*>(tensor.const_data_ptr()),
          .rows = 1,
          .cols = tensor.numel(),
          .row_stride = tensor.numel(),
          .dtype = dtype_of(tensor)};
}

/// The vectors of a row state, one for each of the parameter's matrices.
std::vector<MatrixView> row_views(const OptimizerOptions& rule, const Tensor& row_state,
                                  std::span<const MatrixView> weights) {
  std::vector<MatrixView> views;
  auto* data = static_cast<std::byte*>(row_state.mutable_data_ptr());
  for (const auto& weight : weights) {
    const Index rows = row_state_size(rule, weight.rows, weight.cols);
    views.push_back({.data = data, .rows = rows, .cols = 1, .row_stride = 1, .dtype = dtype_of(row_state)});
    data += rows * byte_size(dtype_of(row_state));
  }
  return views;
}

/// `made` has the right shape, type and strides; `state` is replaced by it, or its values by those of
/// `state`.
void complete(const Place& place, std::string_view key, Tensor made, Tensor& state) {
  if (state.defined()) {
    if (state.sizes() != made.sizes() || state.scalar_type() != made.scalar_type() ||
        state.device() != made.device()) {
      fail_at(place, "The state ", key, " is ", state.scalar_type(), " ", state.sizes(), " on ",
              state.device(), " instead of ", made.scalar_type(), " ", made.sizes(), " on ", made.device());
    }
    made.copy_(state);
  }
  state = std::move(made);
}

/// Whether a state may stay as it is.
bool fits(const Tensor& state, const Tensor& parameter) {
  return state.defined() && state.layout() == at::kStrided && state.sizes() == parameter.sizes() &&
         state.strides() == parameter.strides() && state.device() == parameter.device() &&
         state.scalar_type() == (parameter.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

void complete_like_parameter(const Place& place, std::string_view key, Tensor& state) {
  if (!fits(state, place.parameter)) complete(place, key, state_like(place.parameter), state);
}

/// Matrices of one shape, stepped together.
struct MatrixBatch {
  std::vector<ConstMatrixView> gradients;
  std::vector<MatrixView> momentum_buffers, row_states, weights, directions;
};

/// Parameters that have seen equally many steps.
struct AdamWBatch {
  std::vector<ConstMatrixView> gradients;
  std::vector<MatrixView> exp_avgs, exp_avg_sqs, weights;
};

void step_group(Backend& backend, const AdamWOptions& options, std::span<const Due> due) {
  std::map<std::int64_t, AdamWBatch> batches;
  for (const auto& [place, gradient, state, direction] : due) {
    AdamWBatch& batch = batches[state->step];
    batch.gradients.push_back(flat(gradient));
    batch.exp_avgs.push_back(flat(state->exp_avg));
    batch.exp_avg_sqs.push_back(flat(state->exp_avg_sq));
    batch.weights.push_back(flat(place.parameter));
  }
  for (const auto& [steps, batch] : batches) {
    adamw_update(backend, options, steps,
                 {batch.gradients, batch.exp_avgs, batch.exp_avg_sqs, batch.weights});
  }
}

template <MatrixOptions Options>
void step_group(Backend& backend, const Options& options, std::span<const Due> due) {
  std::map<std::tuple<Index, Index, DType>, MatrixBatch> batches;
  for (const auto& [place, gradient, state, kept_direction] : due) {
    const Dimensions dimensions = dimensions_at(place);
    const auto weights = matrices(place.parameter, dimensions);
    const auto gradients = matrices(gradient, dimensions);
    const auto momentum_buffers = matrices(state->momentum_buffer, dimensions);
    std::vector<MatrixView> row_states, directions;
    if (state->row_state.defined()) row_states = row_views(place.options.rule, state->row_state, weights);
    if (kept_direction.defined()) directions = matrices(kept_direction, dimensions);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      MatrixBatch& batch = batches[{weights[i].rows, weights[i].cols, momentum_buffers[i].dtype}];
      batch.weights.push_back(weights[i]);
      batch.gradients.push_back(gradients[i]);
      batch.momentum_buffers.push_back(momentum_buffers[i]);
      if (!row_states.empty()) batch.row_states.push_back(row_states[i]);
      if (!directions.empty()) batch.directions.push_back(directions[i]);
    }
  }
  const auto direction = aurora::direction_of(options);
  for (const auto& [shape, batch] : batches) {
    update_weights(
        backend, step_options(options), direction_ref(direction),
        {batch.gradients, batch.momentum_buffers, batch.row_states, batch.weights, batch.directions});
  }
}

}  // namespace

void require_steppable(const Place& place) {
  const Tensor& parameter = place.parameter;
  if (!parameter.defined()) {
    fail("optim", "A parameter is undefined: group ", place.group, ", parameter ", place.index);
  }
  if (parameter.layout() != at::kStrided)
    fail_at(place, "Parameters must be dense, not ", parameter.layout());
  if (!parameter.device().is_cpu())
    fail_at(place, "Parameters must be on the CPU, not on ", parameter.device());
  if (!has_type(parameter)) {
    fail_at(place, "Parameters must be float32, float64 or bfloat16, not ", parameter.scalar_type());
  }
  if (is_adamw(place.options.rule)) {
    if (!parameter.is_non_overlapping_and_dense())
      fail_at(place, "AdamW needs parameters without gaps in memory");
    return;
  }
  if (parameter.dim() < 2) {
    fail_at(place,
            "Parameters with fewer than two dimensions belong to AdamW: a group of that rule, or a "
            "whole model, which is routed");
  }
  for (const auto& matrix : matrices_at(place)) {
    if (matrix.rows < 2 || matrix.cols < 2) {
      fail_at(place, "Matrices with a side of length ", std::min(matrix.rows, matrix.cols),
              " belong to AdamW: a group of that rule, or a whole model, which is routed");
    }
  }
}

Tensor gradient_of(const Place& place) {
  const Tensor& parameter = place.parameter;
  const Tensor& gradient = parameter.grad();
  if (!gradient.defined()) return {};
  if (gradient.layout() != at::kStrided) fail_at(place, "Gradients must be dense, not ", gradient.layout());
  if (!has_type(gradient)) {
    fail_at(place, "Gradients must be float32, float64 or bfloat16, not ", gradient.scalar_type());
  }
  if (gradient.strides() == parameter.strides() && !gradient.is_neg()) return gradient;
  return zeros_like(parameter, gradient.scalar_type()).copy_(gradient);
}

Tensor state_like(const Tensor& parameter) {
  return zeros_like(parameter, parameter.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

void complete_state(const Place& place, ParameterState& state) {
  if (is_adamw(place.options.rule)) {
    if (!state.exp_avg.defined()) state.step = 0;
    complete_like_parameter(place, "exp_avg", state.exp_avg);
    complete_like_parameter(place, "exp_avg_sq", state.exp_avg_sq);
    return;
  }
  complete_like_parameter(place, "momentum_buffer", state.momentum_buffer);
  const std::string_view key = row_state_name(place.options.rule);
  if (key.empty()) return;
  Index rows = 0;
  for (const auto& matrix : matrices_at(place)) {
    rows += row_state_size(place.options.rule, matrix.rows, matrix.cols);
  }
  const Tensor& like = state.momentum_buffer;
  if (!state.row_state.defined() || state.row_state.layout() != at::kStrided ||
      state.row_state.numel() != rows || !state.row_state.is_contiguous() ||
      state.row_state.device() != like.device() || state.row_state.scalar_type() != like.scalar_type()) {
    complete(place, key, at::zeros({rows, 1}, like.options()), state.row_state);
  }
}

bool all_finite(Backend& backend, std::span<const Due> due) {
  std::vector<ConstMatrixView> gradients;
  for (const auto& [place, gradient, state, direction] : due) {
    if (gradient.is_non_overlapping_and_dense()) {
      gradients.push_back(flat(gradient));
    } else {
      const auto views = matrices(gradient, dimensions_at(place));
      gradients.insert(gradients.end(), views.begin(), views.end());
    }
  }
  return aurora::all_finite(backend, gradients);
}

void step_groups(Backend& backend, std::span<const Due> due) {
  while (!due.empty()) {
    const GroupOptions* options = &due.front().place.options;
    const auto end = std::find_if(due.begin(), due.end(),
                                  [options](const Due& each) { return &each.place.options != options; });
    const auto group = due.first(static_cast<std::size_t>(end - due.begin()));
    for (const auto& each : group) ++each.state->step;
    std::visit([&](const auto& rule) { step_group(backend, rule, group); }, options->rule);
    // The weights were written through pointers: tell autograd, as an in-place operation would.
    for (const auto& each : group) each.place.parameter.unsafeGetTensorImpl()->bump_version();
    due = due.subspan(group.size());
  }
}

}  // namespace aurora::optim
