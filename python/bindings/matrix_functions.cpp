#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/utils/pybind.h>

#include <sstream>

#include "aurora/diagnostics.hpp"
#include "aurora/step.hpp"
#include "aurora/torch/gather.hpp"
#include "aurora/torch/memory.hpp"
#include "aurora/torch/step.hpp"
#include "groups.hpp"

namespace aurora::python {
namespace {

using at::Tensor;

[[noreturn]] void refuse(const char* function, const std::string& rule) {
  throw py::value_error(std::string("[aurora_optim.") + function + "] " + rule);
}

/// The tensor as matrices [..., rows, cols] without holes, float64 for float64, else float32.
Tensor matrices_of(const char* function, const Tensor& x) {
  if (const auto why = optim::why_not_readable(x); !why.empty()) refuse(function, "Matrices must " + why);
  std::ostringstream shape;
  shape << x.sizes();
  if (x.dim() < 2 || x.numel() == 0) {
    refuse(function, "The tensor must have matrices in its last two dimensions: shape " + shape.str());
  }
  return x.detach().to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).contiguous();
}

MatrixView view_of(const Tensor& x) {
  const Index rows = x.size(-2), cols = x.size(-1);
  return {.data = x.data_ptr(),
          .rows = rows,
          .cols = cols,
          .row_stride = cols,
          .batch = x.numel() / (rows * cols),
          .batch_stride = rows * cols,
          .dtype = x.scalar_type() == at::kDouble ? DType::f64 : DType::f32};
}

/// The direction of the rule that `group` names: the pipeline's middle arrow alone.
Tensor direction_of_group(const char* function, const Tensor& x, const py::dict& group) {
  const at::NoGradGuard no_gradients;
  const Rule rule = options_of(group);
  const Tensor input = matrices_of(function, x);
  Tensor output = at::empty_like(input);
  if (!row_state_name(rule).empty()) {
    refuse(function, "There is no step to carry " + std::string(row_state_name(rule)) + " over to");
  }
  {
    const py::gil_scoped_release other_threads_may_run;
    if (!takes_matrices(rule)) refuse(function, "AdamW has no direction");
    optim::Backends backends;
    aurora::direction(backends.on(input.device()), rule, view_of(input), view_of(output));
  }
  return output.to(x.scalar_type());
}

NeuronAxis axis_of(const std::string& axis) {
  if (axis == "rows") return NeuronAxis::rows;
  if (axis == "columns") return NeuronAxis::columns;
  refuse("leverage_scores", "axis must be rows or columns, not '" + axis + "'");
}

Tensor leverage(const Tensor& x, const std::string& axis_name) {
  const at::NoGradGuard no_gradients;
  const NeuronAxis axis = axis_of(axis_name);
  const Tensor input = matrices_of("leverage_scores", x);
  const MatrixView view = view_of(input);
  auto shape = input.sizes().vec();
  shape.erase(axis == NeuronAxis::rows ? shape.end() - 1 : shape.end() - 2);
  Tensor scores = at::empty(shape, at::kDouble);
  {
    const py::gil_scoped_release other_threads_may_run;
    optim::Backends backends;
    Backend& backend = backends.on(input.device());
    double* out = scores.data_ptr<double>();
    for (Index b = 0; b < view.batch; ++b) {
      const auto values = leverage_scores(backend, matrix_of(view, b), axis);
      out = std::copy(values.begin(), values.end(), out);
    }
  }
  return scores.to(x.options());
}

std::string key_of(const char* prefix, double number) {
  std::ostringstream text;
  text << prefix << number;
  return text.str();
}

std::vector<std::pair<std::string, double>> diagnosis(Backend& backend, const MatrixView& view) {
  const ConstMatrixView along = tall(view);  // rows along the longer side
  const double balanced = static_cast<double>(along.cols) / static_cast<double>(along.rows);
  const auto scores = leverage_scores(backend, along);
  std::vector<std::pair<std::string, double>> all;
  for (const double q : kLeverageQuantiles) {
    all.emplace_back(key_of("leverage_q", q), quantile(scores, q) / balanced);
  }
  for (const double threshold : kStarvedThresholds) {
    all.emplace_back(key_of("starved_", threshold), starved_share(scores, balanced, threshold));
  }
  all.emplace_back("row_norm_cv", row_norm_cv(backend, along));
  return all;
}

/// One dict of floats for each matrix of the tensor.
py::list diagnose(const Tensor& x, const py::dict& group) {
  const at::NoGradGuard no_gradients;
  const Dimensions dimensions =
      dimensions_of(group, x.sizes()).value_or(default_dimensions(static_cast<std::size_t>(x.dim())));
  const optim::Matrices matrices = optim::matrices_of(matrices_of("diagnose", x), dimensions);
  std::vector<std::vector<std::pair<std::string, double>>> found;
  {
    const py::gil_scoped_release other_threads_may_run;
    optim::Backends backends;
    Backend& backend = backends.on(x.device());
    for (const auto& matrix : matrices.views) found.push_back(diagnosis(backend, matrix));
  }
  py::list list;
  for (const auto& entries : found) {
    py::dict dict;
    for (const auto& [key, value] : entries) dict[key.c_str()] = value;
    list.append(dict);
  }
  return list;
}

}  // namespace

void add_matrix_functions(py::module_& module) {
  module.def(
      "direction",
      [](const std::string& function, const Tensor& x, const py::dict& group) {
        return direction_of_group(function.c_str(), x, group);
      },
      py::arg("function"), py::arg("x"), py::arg("group"));
  module.def("leverage_scores", &leverage, py::arg("x"), py::arg("axis"));
  module.def("diagnose", &diagnose, py::arg("x"), py::arg("group"));
}

}  // namespace aurora::python
