#include "aurora/torch/step.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

#include "aurora/torch/gather.hpp"
#include "aurora/torch/memory.hpp"
#include "place_error.hpp"
#include "views.hpp"

namespace aurora::optim {

Dimensions dimensions_at(const Place& place) {
  const auto& dimensions = place.options.dimensions;
  if (dimensions.empty()) return default_dimensions(static_cast<std::size_t>(place.parameter.dim()));
  if (place.index >= dimensions.size()) {
    fail_at(place, "A group needs the dimensions of all its parameters or of none, not of ",
            dimensions.size());
  }
  return dimensions[place.index];
}

std::vector<MatrixShape> matrices_at(const Place& place) {
  const Dimensions dimensions = dimensions_at(place);
  try {
    const std::span<const Index> own(place.parameter.sizes());
    return matrix_shapes(place.whole.empty() ? own : place.whole, dimensions);
  } catch (const std::invalid_argument& error) {
    fail_at(place, error.what());
  }
}

std::vector<MatrixView> row_views(const Rule& rule, const at::Tensor& row_state,
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

namespace {

using at::Tensor;

/// A tensor like the parameter in shape, and in strides where the parameter has no holes.
Tensor zeros_like(const Tensor& parameter, at::ScalarType type) {
  return at::zeros_like(parameter, parameter.options().dtype(type).requires_grad(false),
                        at::MemoryFormat::Preserve);
}

void require_plain(const Place& place, std::string_view key, const Tensor& state) {
  if (const auto why = why_not_writable(state); !why.empty())
    fail_at(place, "The state ", key, " must ", why);
}

/// `made` has the right shape, type, device and strides; `state` is replaced by it, or its values by those of
/// `state`, which a parameter that was moved to another type or device takes along.
void complete(const Place& place, std::string_view key, Tensor made, Tensor& state) {
  if (state.defined()) {
    if (state.sizes() != made.sizes()) {
      fail_at(place, "The state ", key, " is ", state.sizes(), " instead of ", made.sizes());
    }
    made.copy_(state);
    const bool narrower = state.element_size() > made.element_size();
    if (narrower && !at::isfinite(made).eq(at::isfinite(state).to(made.device())).all().item<bool>()) {
      fail_at(place, "The state ", key, " overflows in ", made.scalar_type(), ", it was ",
              state.scalar_type());
    }
  }
  state = std::move(made);
}

/// Whether a state, of plain memory, may stay as it is: with the parameter's strides, without their gaps.
bool fits(const Tensor& state, const Tensor& parameter) {
  return state.sizes() == parameter.sizes() && state.device() == parameter.device() &&
         (state.strides() == parameter.strides()
              ? state.is_non_overlapping_and_dense()
              : state.strides() == at::infer_dense_strides(parameter.sizes(), parameter.strides())) &&
         state.scalar_type() == (parameter.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

void complete_like_parameter(const Place& place, std::string_view key, Tensor& state) {
  if (state.defined()) {
    require_plain(place, key, state);
    if (fits(state, place.parameter)) return;
  }
  complete(place, key, state_like(place.parameter), state);
}

/// The tensors of matrix parameters, as the core sees them.
struct Lists {
  std::vector<ConstMatrixView> gradients;
  std::vector<MatrixView> momentum_buffers, weights, row_states, directions;
};

/// All of them; `gathered` keeps copies alive and gives them back.
Lists lists_of(std::span<const Due> due, std::vector<Gathered>& gathered) {
  Lists all;
  const auto append = [](auto& to, const std::vector<MatrixView>& views) {
    to.insert(to.end(), views.begin(), views.end());
  };
  for (const Due& each : due) {
    const Gathered& one = gathered.emplace_back(Gathered::matrices(each, dimensions_at(each.place)));
    append(all.gradients, one.gradients);
    append(all.momentum_buffers, one.first_states);
    append(all.weights, one.weights);
    append(all.directions, one.directions);
    if (each.state->row_state.defined()) {
      append(all.row_states, row_views(each.place.options.rule, each.state->row_state, one.weights));
    }
  }
  return all;
}

/// A gate of the core, its flag a number on the device. `flag` keeps that alive.
Gate core_gate(const StepGate& gate, Tensor& flag) {
  if (!gate.on_device.defined()) return {.open = gate.open};
  flag = gate.on_device.to(at::kFloat).reshape({1, 1});
  return {
      .open = true,
      .flag = {.data = flag.const_data_ptr(), .rows = 1, .cols = 1, .row_stride = 1, .dtype = DType::f32}};
}

void step_adamw(Backend& backend, const AdamWOptions& options, std::span<const Due> due) {
  struct Batch {
    std::vector<ConstMatrixView> gradients;
    std::vector<MatrixView> exp_avgs, exp_avg_sqs, weights;
  };
  std::map<std::int64_t, Batch> batches;  // by the number of steps seen
  std::vector<Gathered> all;
  for (const auto& each : due) {
    Batch& batch = batches[each.state->step];
    const Gathered& gathered = all.emplace_back(Gathered::elements(each));
    batch.gradients.push_back(gathered.gradients.front());
    batch.exp_avgs.push_back(gathered.first_states.front());
    batch.exp_avg_sqs.push_back(gathered.second_states.front());
    batch.weights.push_back(gathered.weights.front());
  }
  for (const auto& [steps, batch] : batches) {
    adamw_step(backend, Gate{}, options, steps,
               {batch.gradients, batch.exp_avgs, batch.exp_avg_sqs, batch.weights});
  }
  for (const Gathered& gathered : all) gathered.give_back();
}

void step_matrices(Backend& backend, const StepGate& gate, const Rule& rule, std::span<const Due> due) {
  std::vector<Gathered> gathered;
  const Lists all = lists_of(due, gathered);
  Tensor flag;
  step(backend, core_gate(gate, flag), rule,
       {.gradients = all.gradients,
        .momentum_buffers = all.momentum_buffers,
        .weights = all.weights,
        .row_states = all.row_states,
        .directions = all.directions});
  for (const Gathered& each : gathered) each.give_back();
}

/// Adds one to the counts of the states where the step is applied.
void count_on_device(const Tensor& applied, std::span<const Due> due) {
  std::vector<Tensor> counts;
  for (const auto& each : due) {
    Tensor& count = each.state->device_step;
    if (!count.defined())
      count = at::full({}, each.state->step, each.place.parameter.options().dtype(at::kFloat));
    counts.push_back(count);
  }
  if (applied.defined()) {
    at::_foreach_add_(counts, applied.to(at::kFloat));
  } else {
    at::_foreach_add_(counts, 1);
  }
}

/// torch's own AdamW, all parameters in one kernel where the device has one. It wants one type for everything
/// of a parameter, so weights and gradients of another type than the states' go through a copy.
void step_adamw_on_device(const Tensor& applied, const AdamWOptions& options, std::span<const Due> due) {
  struct TypeLists {
    std::vector<Tensor> weights, gradients, exp_avgs, exp_avg_sqs, counts, originals;
  };
  std::map<at::ScalarType, TypeLists> by_type;
  for (const auto& [place, gradient, state, direction] : due) {
    const auto type = state->exp_avg.scalar_type();
    TypeLists& lists = by_type[type];
    const Tensor weight = place.parameter.detach();
    lists.originals.push_back(weight);
    lists.weights.push_back(weight.to(type));
    lists.gradients.push_back(gradient.to(type));
    lists.exp_avgs.push_back(state->exp_avg);
    lists.exp_avg_sqs.push_back(state->exp_avg_sq);
    lists.counts.push_back(state->device_step);
  }
  std::optional<Tensor> found_inf;
  if (applied.defined()) found_inf = applied.logical_not().to(at::kFloat);
  for (auto& [type, lists] : by_type) {
    at::_fused_adamw_(lists.weights, lists.gradients, lists.exp_avgs, lists.exp_avg_sqs, {}, lists.counts,
                      options.lr, options.beta1, options.beta2, options.weight_decay, options.eps,
                      /*amsgrad=*/false,
                      /*maximize=*/false, /*grad_scale=*/{}, found_inf);
    for (std::size_t i = 0; i < lists.weights.size(); ++i) {
      if (!lists.weights[i].is_alias_of(lists.originals[i])) lists.originals[i].copy_(lists.weights[i]);
    }
  }
}

}  // namespace

void require_steppable(const Place& place) {
  const Tensor& parameter = place.parameter;
  if (!parameter.defined()) {
    fail("optim", "A parameter is undefined: group ", place.group, ", parameter ", place.index);
  }
  if (const auto why = why_not_writable(parameter); !why.empty()) fail_at(place, "Parameters must ", why);
  if (is_adamw(place.options.rule)) return;
  if (parameter.dim() < 2) {
    fail_at(place,
            "Parameters with fewer than two dimensions belong to AdamW: a group of that rule, or a "
            "whole model, which is routed");
  }
  if (parameter.numel() == 0 && place.whole.empty()) return;
  for (const auto& matrix : matrices_at(place)) {
    if (matrix.rows < 2 || matrix.cols < 2) {
      fail_at(place, "Matrices with a side of length ", std::min(matrix.rows, matrix.cols),
              " belong to AdamW: a group of that rule, or a whole model, which is routed");
    }
  }
}

Tensor gradient_of(const Place& place) { return gradient_of(place, place.parameter.grad()); }

Tensor gradient_of(const Place& place, const Tensor& gradient) {
  const Tensor& parameter = place.parameter;
  if (!gradient.defined()) return {};
  if (const auto why = why_not_readable(gradient); !why.empty()) fail_at(place, "Gradients must ", why);
  if (gradient.sizes() != parameter.sizes() || gradient.device() != parameter.device()) {
    fail_at(place, "The gradient is ", gradient.sizes(), " on ", gradient.device(), ", the parameter ",
            parameter.sizes(), " on ", parameter.device());
  }
  const auto type = gradient.scalar_type() == at::kHalf ? at::kFloat : gradient.scalar_type();
  if (gradient.strides() == parameter.strides() && !gradient.is_neg() && type == gradient.scalar_type()) {
    return gradient;
  }
  return zeros_like(parameter, type).copy_(gradient);
}

Tensor state_like(const Tensor& parameter) {
  return zeros_like(parameter, parameter.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

void complete_state(const Place& place, ParameterState& state) {
  if (state.device_step.defined() && state.device_step.device() != place.parameter.device()) state.settle();
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
  if (state.row_state.defined()) require_plain(place, key, state.row_state);
  const Tensor& like = state.momentum_buffer;
  if (!state.row_state.defined() || state.row_state.layout() != at::kStrided ||
      state.row_state.numel() != rows || !state.row_state.is_contiguous() ||
      state.row_state.device() != like.device() || state.row_state.scalar_type() != like.scalar_type()) {
    complete(place, key, at::zeros({rows, 1}, like.options()), state.row_state);
  }
}

Backend& Backends::on(at::Device device) {
  if (device.is_cpu()) {
    const int threads = at::get_num_threads();
    if (cpu_ == nullptr || threads != cpu_threads_) cpu_ = make_cpu_backend({.threads = threads});
    cpu_threads_ = threads;
    return *cpu_;
  }
  std::unique_ptr<Backend>& backend = others_[device.str()];
  if (backend == nullptr) backend = make_aten_backend(device);
  return *backend;
}

void StepGate::require(const Tensor& condition) {
  if (on_device.defined() && condition.device() == on_device.device()) {
    on_device = on_device.logical_and(condition);
  } else {
    open = open && condition.item<bool>();
  }
}

namespace {

/// Tensors to look at, without gaps in memory, by device and by the type in which they must be finite.
using Looks = std::map<std::pair<std::string, DType>, std::vector<Tensor>>;

void add_to(Looks& looks, const Tensor& tensor, DType as) {
  if (tensor.numel() == 0) return;  // a rank without a piece
  const bool as_it_is = tensor.is_non_overlapping_and_dense() && tensor.scalar_type() != at::kHalf;
  looks[{tensor.device().str(), as}].push_back(
      as_it_is
          ? tensor
          : tensor.to(tensor.scalar_type() == at::kHalf ? at::kFloat : tensor.scalar_type()).contiguous());
}

/// One device other than the CPU answers there; several wait for each other.
StepGate looked(Backends& backends, const Looks& looks) {
  StepGate gate;
  std::map<std::string, Tensor> flags;
  for (const auto& [key, tensors] : looks) {
    const at::Device device = tensors.front().device();
    std::vector<ConstMatrixView> views;
    for (const Tensor& tensor : tensors) views.emplace_back(flat(tensor));
    Tensor& flag = flags[key.first];
    if (!flag.defined()) flag = at::ones({1, 1}, at::TensorOptions(device).dtype(at::kFloat));
    backends.on(device).all_finite(views, key.second, flat(flag));
  }
  if (flags.size() == 1 && !flags.begin()->second.is_cpu()) {
    gate.on_device = flags.begin()->second.reshape({}) != 0;
  } else {
    for (const auto& [device, flag] : flags) gate.open = gate.open && flag.item<float>() != 0;
  }
  return gate;
}

DType state_type(const Place& place) {
  return place.parameter.scalar_type() == at::kDouble ? DType::f64 : DType::f32;
}

}  // namespace

std::string method_text(const Rule& rule, const Tensor& parameter) {
  return aurora::method_text(rule, parameter.is_cpu() ? Device::cpu : Device::accelerator,
                             parameter.scalar_type() == at::kDouble ? DType::f64 : DType::f32);
}

StepGate look_at_gradients(Backends& backends, std::span<const Due> due) {
  Looks looks;
  for (const auto& each : due) add_to(looks, each.gradient, state_type(each.place));
  return looked(backends, looks);
}

void look_at_momenta(Backends& backends, std::span<const Due> due, StepGate& gate) {
  Looks looks;
  for (const auto& [place, gradient, state, direction] : due) {
    if (state->momentum_buffer.defined() && !is_adamw(place.options.rule)) {
      add_to(looks, state->momentum_buffer, state_type(place));
    }
  }
  const StepGate momenta = looked(backends, looks);
  if (momenta.on_device.defined()) return gate.require(momenta.on_device);
  if (momenta.open) return;
  for (const auto& [place, gradient, state, direction] : due) {
    if (is_adamw(place.options.rule) || !state->momentum_buffer.defined()) continue;
    if (!at::isfinite(state->momentum_buffer).all().item<bool>()) {
      fail_at(place, "The momentum has an Inf or NaN, the gradients have none");
    }
  }
}

void SkippedSteps::count(const StepGate& gate) {
  if (!gate.on_device.defined()) {
    settle();
    in_a_row_ = gate.open ? 0 : in_a_row_ + 1;
    ever_ += gate.open ? 0 : 1;
    return;
  }
  if (!ever_on_device_.defined() || ever_on_device_.device() != gate.on_device.device()) {
    settle();
    const auto options = gate.on_device.options().dtype(at::kLong);
    ever_on_device_ = at::full({}, ever_, options);
    in_a_row_on_device_ = at::full({}, in_a_row_, options);
  }
  const Tensor skipped = gate.on_device.logical_not();
  ever_on_device_.add_(skipped);
  in_a_row_on_device_.add_(1).mul_(skipped);
}

void SkippedSteps::set(std::int64_t ever, std::int64_t in_a_row) {
  ever_ = ever;
  in_a_row_ = in_a_row;
  ever_on_device_.reset();
  in_a_row_on_device_.reset();
}

void SkippedSteps::settle() {
  if (ever_on_device_.defined())
    set(ever_on_device_.item<std::int64_t>(), in_a_row_on_device_.item<std::int64_t>());
}

std::int64_t SkippedSteps::ever() {
  settle();
  return ever_;
}
std::int64_t SkippedSteps::in_a_row() {
  settle();
  return in_a_row_;
}

void step_groups(Backends& backends, const StepGate& gate, std::span<const Due> due) {
  if (!gate.open) return;
  while (!due.empty()) {
    const GroupOptions* options = &due.front().place.options;
    const auto end = std::find_if(due.begin(), due.end(),
                                  [options](const Due& each) { return &each.place.options != options; });
    const auto group = due.first(static_cast<std::size_t>(end - due.begin()));
    std::map<std::string, std::vector<Due>> by_device;
    for (const auto& each : group) by_device[each.place.parameter.device().str()].push_back(each);
    for (const auto& [name, members] : by_device) {
      const at::Device device = members.front().place.parameter.device();
      const auto* adamw = std::get_if<AdamWOptions>(&options->rule);
      if (device.is_cpu()) {
        for (const auto& each : members) ++each.state->step;
        if (adamw != nullptr) step_adamw(backends.on(device), *adamw, members);
      } else {
        count_on_device(gate.on_device, members);
        if (adamw != nullptr) step_adamw_on_device(gate.on_device, *adamw, members);
      }
      if (adamw == nullptr) step_matrices(backends.on(device), gate, options->rule, members);
    }
    // The weights were written through pointers: tell autograd, as an in-place operation would.
    for (const auto& each : group) each.place.parameter.unsafeGetTensorImpl()->bump_version();
    due = due.subspan(group.size());
  }
}

}  // namespace aurora::optim
