#pragma once

#include <span>
#include <string_view>

#include "aurora/backend.hpp"
#include "aurora/torch/optimizer.hpp"

namespace aurora::optim {

// One step on tensors that somebody else owns: what SpectralOptimizer and the Python package are made of.
// Look at every parameter (require_steppable, gradient_of), then at all gradients together (all_finite), then
// make the states (complete_state) and step_groups. Errors are std::invalid_argument that name the
// place, the shape and the rule.

/// A parameter and where it stands, for messages. It owns nothing.
struct Place {
  const torch::Tensor& parameter;
  const GroupOptions& options;  // of its group
  std::size_t group, index;
  std::string_view name = {};  // of the parameter; empty: unknown
};

/// A parameter that a step changes.
struct Due {
  Place place;
  torch::Tensor gradient;
  ParameterState* state = nullptr;
  torch::Tensor direction = {};  // receives the direction before scaling; undefined: nobody asks
};

/// Throws unless the rule of its group can step the parameter.
void require_steppable(const Place& place);

/// The gradient in the parameter's strides, the caller's own where it has them; undefined where there is
/// none. Throws for a sparse gradient and for other types than float32, float64 and bfloat16.
torch::Tensor gradient_of(const Place& place);

/// Makes the tensors that the rule needs and that are not there, as zeros, and brings those that are there
/// into the parameter's strides. Throws where one has another shape, type or device.
void complete_state(const Place& place, ParameterState& state);

/// A tensor of zeros like a state of the parameter: float64 for float64, else float32.
torch::Tensor state_like(const torch::Tensor& parameter);

/// Whether no gradient has an Inf or NaN.
bool all_finite(Backend& backend, std::span<const Due> due);

/// Steps parameters whose gradients are finite and whose states are complete, and counts the step in these.
/// Those of one group stand together.
void step_groups(Backend& backend, std::span<const Due> due);

}  // namespace aurora::optim
