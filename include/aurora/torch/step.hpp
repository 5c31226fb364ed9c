#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "aurora/torch/backend.hpp"
#include "aurora/torch/optimizer.hpp"

namespace aurora::optim {

// One step on tensors that somebody else owns: what SpectralOptimizer and the Python package are made of.
// Look at every parameter (require_steppable, gradient_of), then let step_all do the rest. Errors are
// std::invalid_argument that name the place, the shape and the rule.

/// The backends of a step: the core's own for CPU tensors, one of ATen operations for each other device, made
/// when first asked for.
class Backends {
 public:
  /// The CPU's has as many threads as at::get_num_threads() says.
  Backend& on(c10::Device device);

 private:
  std::unique_ptr<Backend> cpu_;
  int cpu_threads_ = 0;
  std::map<std::string, std::unique_ptr<Backend>> others_;
};

/// A parameter and where it stands, for messages. It owns nothing.
struct Place {
  const torch::Tensor& parameter;
  const GroupOptions& options;  // of its group
  std::size_t group, index;
  std::string_view name = {};  // of the parameter; empty: unknown
  std::span<const std::int64_t> whole =
      {};  // shape of what `parameter` is a piece of; empty: it is all of it
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
torch::Tensor gradient_of(const Place& place, const torch::Tensor& gradient);

/// How a rule computes this parameter where it is now: method_text of rules.hpp.
std::string method_text(const Rule& rule, const torch::Tensor& parameter);

/// Makes the tensors that the rule needs and that are not there, as zeros, and brings those that are there
/// into the parameter's strides, device and state type. Throws where one has another shape, or overflows in
/// that type; then the state is as it was.
void complete_state(const Place& place, ParameterState& state);

/// A tensor of zeros like a state of the parameter: float64 for float64, else float32.
torch::Tensor state_like(const torch::Tensor& parameter);

/// Whether a step may write: a bool, or, where all its tensors are on one device other than the CPU, a
/// boolean scalar there that nobody waits for (then `open` is true).
struct StepGate {
  bool open = true;
  torch::Tensor on_device = {};
  /// Shuts where `condition`, a boolean scalar, does not hold. Waits where it is on another device.
  void require(const torch::Tensor& condition);
};

/// Counts the steps that changed nothing. Reading waits for the device.
class SkippedSteps {
 public:
  void count(const StepGate& gate);
  void set(std::int64_t ever, std::int64_t in_a_row);
  std::int64_t ever();
  std::int64_t in_a_row();

 private:
  void settle();
  std::int64_t ever_ = 0, in_a_row_ = 0;
  torch::Tensor ever_on_device_, in_a_row_on_device_;  // defined: these count
};

/// Whether every gradient is finite, also in the type of its state.
StepGate look_at_gradients(Backends& backends, std::span<const Due> due);
/// The same of the momenta. Throws where the step is on the CPU, because a momentum with an Inf or NaN under
/// a finite gradient is beyond repair; elsewhere it shuts the gate.
void look_at_momenta(Backends& backends, std::span<const Due> due, StepGate& gate);

/// Steps parameters whose states are complete behind the gate, and counts the step in the states. Those of
/// one group stand together.
void step_groups(Backends& backends, const StepGate& gate, std::span<const Due> due);

/// The whole of it: look, count, and where the gate is not shut, state_of each, look again, step. Nothing is
/// written to parameters and states that exist before everything has been looked at. `state_of(i)` returns
/// the complete state of due[i].
template <class StateOf>
StepGate step_all(Backends& backends, SkippedSteps& skipped, StepGate gate, std::span<Due> due,
                  StateOf&& state_of) {
  if (gate.open) {
    for (std::size_t i = 0; i < due.size(); ++i) due[i].state = state_of(i);
    look_at_momenta(backends, due, gate);
  }
  skipped.count(gate);
  if (gate.open) step_groups(backends, gate, due);
  return gate;
}

}  // namespace aurora::optim
