#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <span>

#include "aurora/dimensions.hpp"
#include "aurora/step.hpp"

namespace aurora::python {

namespace py = pybind11;

/// The rule that a parameter group names under "rule" and its hyperparameters, each under its own name
/// (beta1 and beta2 of AdamW as "betas", as in torch). Other keys are the owner's. Throws ValueError for what
/// is missing, has another type or is out of bounds.
Rule options_of(const py::dict& group);

/// What the keys "dimensions", "blocks", "repeats" and "heads" of a group say of a parameter of this shape; nothing
/// where they say nothing. Throws ValueError with the shape where they do not fit.
std::optional<Dimensions> dimensions_of(const py::dict& group, std::span<const Index> shape);

// What the files of this folder add to the module.
void add_groups(py::module_& module);
void add_step(py::module_& module);
void add_ranks(py::module_& module);
void add_matrix_functions(py::module_& module);

}  // namespace aurora::python
