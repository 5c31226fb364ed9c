#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "aurora/torch/backend.hpp"
#include "aurora/torch/optimizer.hpp"

namespace aurora::optim {

// One step on tensors that somebody else owns: what SpectralOptimizer and the Python package are made of.
// Look at every parameter (require_steppable, gradient_of), then at all gradients together
// (look_at_gradients), then make the states (complete_state) and step_groups. Errors are
// std::invalid_argument that name the place, the shape and the rule.

/// The backends of a step: the core's own for CPU tensors, one of ATen operations for each other device, made
/// when first asked for.
class Backends {
 public:
  /// `aten` makes one of ATen operations for the CPU too, so that what is for devices can be seen there.
  explicit Backends(const std::optional<AtenOptions>& aten = {}) : aten_(aten) {}
  /// With as many threads as at::get_num_threads() says.
  Backend& on(c10::Device device);
  /// The same where it is one of ATen operations, else null.
  AtenBackend* aten_on(c10::Device device);

 private:
  std::optional<AtenOptions> aten_;
  std::unique_ptr<Backend> cpu_;
  std::vector<std::pair<c10::Device, std::unique_ptr<AtenBackend>>> others_;
};

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

/// Whether no gradient has an Inf or NaN. Where all of them are on one device other than the CPU nobody waits
/// for the answer: it stays there, as a boolean scalar, and `finite` is true.
struct Look {
  bool finite = true;
  torch::Tensor on_device = {};
};
Look look_at_gradients(Backends& backends, std::span<const Due> due);

/// Steps parameters whose states are complete, if `look` finds the gradients finite, and counts the step in
/// the states. Those of one group stand together; of these, each device's are stepped together.
void step_groups(Backends& backends, const Look& look, std::span<const Due> due);

/// Counts the steps that changed nothing. Reading waits for the device.
class SkippedSteps {
 public:
  void count(const Look& look);
  void set(std::int64_t ever, std::int64_t in_a_row);
  std::int64_t ever();
  std::int64_t in_a_row();

 private:
  void settle();
  std::int64_t ever_ = 0, in_a_row_ = 0;
  torch::Tensor ever_on_device_, in_a_row_on_device_;  // defined: these count
};

}  // namespace aurora::optim
