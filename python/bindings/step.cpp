#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "aurora/torch/memory.hpp"
#include "aurora/torch/ranks.hpp"
#include "groups.hpp"

namespace aurora::python {
namespace {

using at::Tensor;
using optim::Due;
using optim::GroupOptions;
using optim::ParameterState;
using optim::Place;
using optim::Ranks;
using optim::Share;
using optim::SharedDue;

/// A group of torch's list as the core sees it. What ranks share, aurora_optim.ranks has prepared: tensors of
/// this rank in "params", and a list for each of the keys "gradients", "states", "shapes" (of what is only a
/// piece here), "shares" and "ranks".
struct Group {
  std::size_t index;
  std::vector<Tensor> parameters;
  std::vector<std::string> names;  // of all parameters or none
  GroupOptions options;
  std::vector<std::vector<Index>> shapes;  // empty: nothing lies in pieces
  std::vector<std::shared_ptr<Share>> shares = {};
  std::vector<std::shared_ptr<Ranks>> ranks = {};
  py::dict dict = {};

  Place place(std::size_t i) const {
    return {parameters[i],
            options,
            index,
            i,
            names.empty() ? std::string_view{} : names[i],
            shapes.empty() ? std::span<const Index>{} : shapes[i]};
  }
  Tensor gradient(std::size_t i) const {
    if (!dict.contains("gradients")) return gradient_of(place(i));
    const py::object gradient = dict["gradients"].cast<py::list>()[i];
    return gradient.is_none() ? Tensor() : gradient_of(place(i), gradient.cast<Tensor>());
  }
  py::dict state(std::size_t i, const py::object& states) const {
    if (dict.contains("states")) return dict["states"].cast<py::list>()[i].cast<py::dict>();
    return states[py::cast(parameters[i])].cast<py::dict>();
  }
};

Group read_group(const py::dict& group, std::size_t index) {
  Group read{index, group["params"].cast<std::vector<Tensor>>(), {}, GroupOptions(options_of(group)), {}};
  read.dict = group;
  if (group.contains("shapes")) read.shapes = group["shapes"].cast<std::vector<std::vector<Index>>>();
  if (group.contains("shares")) {
    read.shares = group["shares"].cast<std::vector<std::shared_ptr<Share>>>();
    read.ranks = group["ranks"].cast<std::vector<std::shared_ptr<Ranks>>>();
  }
  if (group.contains("param_names")) read.names = group["param_names"].cast<std::vector<std::string>>();
  if (read.names.size() != read.parameters.size()) read.names.clear();
  for (std::size_t i = 0; i < read.parameters.size(); ++i) {
    if (!optim::why_not_readable(read.parameters[i]).empty())
      continue;  // refused, with its place, by the step
    const bool is_whole = read.shapes.empty() || read.shapes[i].empty();
    const auto dimensions =
        dimensions_of(group, is_whole ? read.parameters[i].sizes() : at::IntArrayRef(read.shapes[i]));
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
  /// `found_inf` is not zero. With ranks, on all of them or on none: number `number`, for messages.
  void step(const py::list& param_groups, const py::object& states, const std::optional<Tensor>& grad_scale,
            const std::optional<Tensor>& found_inf, const std::vector<std::shared_ptr<Ranks>>& ranks,
            std::int64_t number) {
    const at::NoGradGuard no_gradients;
    Prepared all;
    optim::Verdict verdict{.step = number};
    try {
      look(all, param_groups, states, grad_scale, found_inf);
    } catch (const std::exception& error) {
      if (ranks.empty()) throw;
      verdict.error = error.what();  // everybody is to know
      all.due.clear();
    }
    {
      const py::gil_scoped_release other_threads_may_run;
      if (!ranks.empty()) {
        std::vector<Ranks*> groups;
        for (const auto& group : ranks) groups.push_back(group.get());
        verdict.finite = all.gate.open && (!all.gate.on_device.defined() || all.gate.on_device.item<bool>());
        all.gate = {.open = agree(groups, all.shared, verdict)};
        skipped_.count(all.gate);
        if (all.gate.open) step_shared(backends_, groups, all.shared, number);
      } else {
        skipped_.count(all.gate);
        if (all.gate.open) step_groups(backends_, all.gate, all.due);
      }
    }
    if (!all.gate.open) return;
    for (std::size_t i = 0; i < all.due.size(); ++i) {
      if (all.states[i].ptr() == nullptr) continue;
      const Rule& rule = all.due[i].place.options.rule;
      write_state(rule, all.own[i], all.states[i]);
      if (!takes_matrices(rule)) write_count(all.own[i], all.due[i].place.parameter, all.states[i]);
    }
  }

  std::string description() { return backends_.on(at::kCPU).description(); }
  std::int64_t skipped_steps() { return skipped_.ever(); }
  std::int64_t skipped_in_a_row() { return skipped_.in_a_row(); }
  void set_skipped(std::int64_t ever, std::int64_t in_a_row) { skipped_.set(ever, in_a_row); }

 private:
  /// What a step reads and writes, and what was seen of it.
  struct Prepared {
    std::vector<Group> groups;
    std::vector<Due> due;
    std::vector<SharedDue> shared;  // the same, with ranks
    std::vector<ParameterState> own;
    std::vector<py::dict> states;  // of those that are kept here; the others have none
    optim::StepGate gate;
  };

  void look(Prepared& all, const py::list& param_groups, const py::object& states,
            const std::optional<Tensor>& grad_scale, const std::optional<Tensor>& found_inf) {
    for (const auto& group : param_groups) {
      all.groups.push_back(read_group(group.cast<py::dict>(), all.groups.size()));
    }
    std::vector<const Group*> group_of;
    for (const Group& group : all.groups) {
      for (std::size_t i = 0; i < group.parameters.size(); ++i) {
        const Place place = group.place(i);
        require_steppable(place);
        Tensor gradient = group.gradient(i);
        Ranks* ranks = group.ranks.empty() ? nullptr : group.ranks[i].get();
        if (!gradient.defined() || (gradient.numel() == 0 && ranks == nullptr)) continue;
        if (grad_scale) gradient = gradient.div(grad_scale->to(gradient.device()).reshape({}));
        all.due.push_back({place, std::move(gradient)});
        all.shared.push_back({all.due.back(), ranks == nullptr ? nullptr : group.shares[i].get(), ranks});
        group_of.push_back(&group);
      }
    }
    {
      const py::gil_scoped_release other_threads_may_run;
      all.gate = look_at_gradients(backends_, all.due);
      if (found_inf) all.gate.require(found_inf->reshape({}) == 0);
    }
    if (!all.gate.open) return;
    all.own.resize(all.due.size());
    for (std::size_t i = 0; i < all.due.size(); ++i) {
      all.due[i].state = all.shared[i].due.state = &all.own[i];
      const Place& place = all.due[i].place;
      const bool is_elsewhere = !all.shared[i].is_here() && all.shared[i].share->kind == Share::Kind::owned;
      all.states.push_back(is_elsewhere ? py::reinterpret_steal<py::dict>(py::handle())
                                        : group_of[i]->state(place.index, states));
      if (is_elsewhere) continue;
      all.own[i] = read_state(place.options.rule, all.states[i]);
      complete_state(place, all.own[i]);
    }
    const py::gil_scoped_release other_threads_may_run;
    look_at_momenta(backends_, all.due, all.gate);
  }

  optim::Backends backends_;
  optim::SkippedSteps skipped_;
};

void check_group(const py::dict& group, std::size_t index) {
  const Group read = read_group(group, index);
  for (std::size_t i = 0; i < read.parameters.size(); ++i) require_steppable(read.place(i));
}

/// Of the first parameter of the group, which may be a piece.
void choose_senders_of(const py::dict& group, std::size_t index, Share& share) {
  const Group read = read_group(group, index);
  choose_senders(read.place(0), share);
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
           py::arg("found_inf"), py::arg("ranks") = std::vector<std::shared_ptr<Ranks>>{},
           py::arg("number") = 0)
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
  module.def("choose_senders", &choose_senders_of, py::arg("group"), py::arg("index"), py::arg("share"));
  module.def("complete_state", &complete_loaded, py::arg("group"), py::arg("group_index"), py::arg("index"),
             py::arg("state"));
}

}  // namespace aurora::python
