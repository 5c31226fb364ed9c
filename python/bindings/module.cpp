#include "groups.hpp"

PYBIND11_MODULE(_core, module) {
  aurora::python::add_groups(module);
  aurora::python::add_step(module);
  aurora::python::add_ranks(module);
  aurora::python::add_matrix_functions(module);
}
