#include "aurora/torch/step.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/utils/pybind.h>

#include "aurora/torch/memory.hpp"
#include "groups.hpp"

namespace aurora::python {
namespace {

using at::Tensor;
using optim::Due;
using optim::GroupOptions;
using optim::ParameterState;
using optim::Place;

/// A group of torch's list as the core sees it.
struct Group {
  std::size_t index;
  std::vector<Tensor> parameters;
  std::vector<std::string> names;  // of all parameters or none
  GroupOptions options;

  Place place(std::size_t i) const {
    return {parameters[i], options, index, i, names.empty() ? std::string_view{} : names[i]};
  }
};

Group read_group(const py::dict& group, std::size_t index) {
  Group read{index, group["params"].cast<std::vector<Tensor>>(), {}, GroupOptions(options_of(group))};
  if (group.contains("param_names")) read.names = group["param_names"].cast<std::vector<std::string>>();
  if (read.names.size() != read.parameters.size()) read.names.clear();
  for (std::size_t i = 0; i < read.parameters.size(); ++i) {
    if (!optim::why_not_readable(read.parameters[i]).empty())
      continue;  // refused, with its place, by the step
    const auto dimensions = dimensions_of(group, read.parameters[i].sizes());
    if (!dimensions && read.options.dimensions.empty()) continue;
    read.options.dimensions.resize(read.parameters.size());
    if (dimensions) read.options.dimensions[i] = *dimensions;
  }
  return read;
}

/// Calls visit(key, tensor) for the tensors that the rule keeps.
template <class Visit>
void for_each_state(const Rule& rule, ParameterState& state, Visit&& visit) {
  if (std::holds_alternative<AdamWOptions>(rule)) {
    visit("exp_avg", state.exp_avg);
    visit("exp_avg_sq", state.exp_avg_sq);
    return;
  }
  visit("momentum_buffer", state.momentum_buffer);
  const std::string key(row_state_name(rule));
  if (!key.empty()) visit(key.c_str(), state.row_state);
}

ParameterState read_state(const Rule& rule, const py::dict& dict) {
  ParameterState state;
  for_each_state(rule, state, [&](const char* key, Tensor& tensor) {
    if (!dict.contains(key)) return;
    try {
      tensor = dict[key].cast<Tensor>();
    } catch (const py::cast_error&) {
      throw py::value_error("[aurora_optim] The state " + std::string(key) + " must be a tensor, not " +
                            std::string(py::repr(dict[key])));
    }
  });
  if (dict.contains("step")) {
    const py::object step = dict["step"];
    if (py::isinstance<Tensor>(step) && !step.cast<Tensor>().is_cpu()) {
      state.device_step = step.cast<Tensor>().to(at::kFloat).reshape({});
      return state;
    }
    state.step = static_cast<std::int64_t>(
        (py::hasattr(step, "item") ? py::object(step.attr("item")()) : step).cast<double>());
  }
  return state;
}

void write_state(const Rule& rule, ParameterState& state, py::dict& dict) {
  for_each_state(rule, state, [&](const char* key, const Tensor& tensor) {
    if (!dict.contains(key) || !dict[key].cast<Tensor>().is_same(tensor)) dict[key] = tensor;
  });
}

/// AdamW's count, in place where it is a tensor already, as in torch.
void write_count(ParameterState& state, const Tensor& parameter, py::dict& dict) {
  if (state.device_step.defined() && !parameter.is_cpu()) {
    dict["step"] = state.device_step;
    return;
  }
  state.settle();
  const std::int64_t step = state.step;
  if (dict.contains("step") && py::hasattr(dict["step"], "fill_")) {
    dict["step"].cast<Tensor>().fill_(step);
  } else {
    dict["step"] = at::scalar_tensor(step, at::kFloat);
  }
}

/// Steps the groups of a torch optimizer. It owns scratch memory and threads, no state.
class Stepper {
 public:
  /// One step with every gradient divided by `grad_scale`; nothing changes where one is not finite or
  /// `found_inf` is not zero.
  void step(const py::list& param_groups, const py::object& states, const std::optional<Tensor>& grad_scale,
            const std::optional<Tensor>& found_inf) {
    const at::NoGradGuard no_gradients;
    std::vector<Group> groups;
    for (const auto& group : param_groups) {
      groups.push_back(read_group(group.cast<py::dict>(), groups.size()));
    }
    std::vector<Due> due;
    for (const Group& group : groups) {
      for (std::size_t i = 0; i < group.parameters.size(); ++i) {
        const Place place = group.place(i);
        require_steppable(place);
        Tensor gradient = gradient_of(place);
        if (!gradient.defined() || gradient.numel() == 0) continue;
        if (grad_scale) gradient = gradient.div(grad_scale->to(gradient.device()).reshape({}));
        due.push_back({place, std::move(gradient)});
      }
    }
    optim::StepGate gate;
    {
      const py::gil_scoped_release other_threads_may_run;
      gate = look_at_gradients(backends_, due);
      if (found_inf) gate.require(found_inf->reshape({}) == 0);
    }
    std::vector<py::dict> dicts(due.size());
    std::vector<ParameterState> own(due.size());
    if (gate.open) {
      for (std::size_t i = 0; i < due.size(); ++i) {
        const Rule& rule = due[i].place.options.rule;
        dicts[i] = states[py::cast(due[i].place.parameter)].cast<py::dict>();
        own[i] = read_state(rule, dicts[i]);
        complete_state(due[i].place, own[i]);
      }
    }
    {
      const py::gil_scoped_release other_threads_may_run;
      gate = step_all(backends_, skipped_, std::move(gate), due, [&](std::size_t i) { return &own[i]; });
    }
    if (!gate.open) return;
    for (std::size_t i = 0; i < due.size(); ++i) {
      const Rule& rule = due[i].place.options.rule;
      write_state(rule, own[i], dicts[i]);
      if (!takes_matrices(rule)) write_count(own[i], due[i].place.parameter, dicts[i]);
    }
  }

  std::string description() { return backends_.on(at::kCPU).description(); }
  std::int64_t skipped_steps() { return skipped_.ever(); }
  std::int64_t skipped_in_a_row() { return skipped_.in_a_row(); }
  void set_skipped(std::int64_t ever, std::int64_t in_a_row) { skipped_.set(ever, in_a_row); }

 private:
  optim::Backends backends_;
  optim::SkippedSteps skipped_;
};

void check_group(const py::dict& group, std::size_t index) {
  const Group read = read_group(group, index);
  for (std::size_t i = 0; i < read.parameters.size(); ++i) require_steppable(read.place(i));
}

/// Brings the loaded state of parameter i into the form that a step leaves.
void complete_loaded(const py::dict& group, std::size_t index, std::size_t i, py::dict state) {
  const at::NoGradGuard no_gradients;
  const Group read = read_group(group, index);
  const Place place = read.place(i);
  require_steppable(place);
  const at::Device device = place.parameter.device();
  ParameterState loaded = read_state(read.options.rule, state);
  for_each_state(read.options.rule, loaded, [&](const char*, Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.to(device);
  });
  complete_state(place, loaded);
  write_state(read.options.rule, loaded, state);
  if (std::holds_alternative<AdamWOptions>(read.options.rule)) {
    loaded.settle();
    state["step"] = at::full({}, loaded.step, at::TensorOptions(device).dtype(at::kFloat));
  }
}

}  // namespace

void add_step(py::module_& module) {
  py::class_<Stepper>(module, "Stepper")
      .def(py::init<>())
      .def("step", &Stepper::step, py::arg("param_groups"), py::arg("state"), py::arg("grad_scale"),
           py::arg("found_inf"))
      .def_property_readonly("description", &Stepper::description)
      .def_property_readonly("skipped_steps", &Stepper::skipped_steps)
      .def_property_readonly("skipped_in_a_row", &Stepper::skipped_in_a_row)
      .def("set_skipped", &Stepper::set_skipped, py::arg("ever"), py::arg("in_a_row"));
  module.def(
      "method_text",
      [](const py::dict& group, const Tensor& parameter) {
        return optim::method_text(options_of(group), parameter);
      },
      py::arg("group"), py::arg("parameter"));
  module.def("check_group", &check_group, py::arg("group"), py::arg("index"));
  module.def("complete_state", &complete_loaded, py::arg("group"), py::arg("group_index"), py::arg("index"),
             py::arg("state"));
}

}  // namespace aurora::python
