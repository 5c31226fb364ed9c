#include "aurora/torch/ranks.hpp"

#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "aurora/torch/c10d.hpp"
#include "groups.hpp"

namespace aurora::python {
namespace {

using optim::Box;
using optim::Ranks;
using optim::Share;

std::shared_ptr<Ranks> make_ranks(const std::string& group, const at::Device& device, double limit,
                                  bool overlap, std::int64_t chunk_bytes) {
  const auto milliseconds = std::chrono::milliseconds(static_cast<std::int64_t>(limit * 1e3));
  auto ranks = std::make_shared<Ranks>();
  ranks->collectives = make_c10d_collectives(group, device, milliseconds);
  ranks->device = device;
  ranks->options = {.overlap = overlap, .chunk_bytes = chunk_bytes};
  return ranks;
}

std::shared_ptr<Share> make_share(
    const std::string& kind, bool replicated, int owner, std::vector<std::int64_t> shape,
    const std::vector<std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>>>& boxes) {
  auto share = std::make_shared<Share>();
  share->kind = kind == "pieces"  ? Share::Kind::pieces
                : kind == "owned" ? Share::Kind::owned
                                  : Share::Kind::alone;
  share->replicated = replicated;
  share->owner = owner;
  share->shape = std::move(shape);
  for (const auto& [offset, size] : boxes) share->boxes.push_back({offset, size});
  return share;
}

/// What a step of a parameter of this shape costs under the rule of its group.
double cost_of(const py::dict& group, const std::vector<Index>& shape) {
  const Rule rule = options_of(group);
  if (!takes_matrices(rule)) return 0;
  double cost = 0;
  for (const auto& matrix :
       matrix_shapes(shape, dimensions_of(group, shape).value_or(default_dimensions(shape.size())))) {
    cost += step_cost(rule, matrix.rows, matrix.cols);
  }
  return cost;
}

}  // namespace

void add_ranks(py::module_& module) {
  py::class_<Ranks, std::shared_ptr<Ranks>>(module, "Ranks")
      .def(py::init(&make_ranks), py::arg("group"), py::arg("device"), py::arg("limit"), py::arg("overlap"),
           py::arg("chunk_bytes"))
      .def_property_readonly("rank", [](const Ranks& ranks) { return ranks.collectives->rank(); })
      .def_property_readonly("size", [](const Ranks& ranks) { return ranks.collectives->size(); })
      .def_property_readonly("description",
                             [](const Ranks& ranks) { return ranks.collectives->description(); })
      .def_readonly("bytes_of_step", &Ranks::bytes_of_step);
  py::class_<Share, std::shared_ptr<Share>>(module, "Share")
      .def(py::init(&make_share), py::arg("kind"), py::arg("replicated"), py::arg("owner"), py::arg("shape"),
           py::arg("boxes"))
      .def_readonly("owner", &Share::owner);
  module.def(
      "assign_owners",
      [](const std::vector<double>& costs, int ranks) { return assign_owners(costs, ranks); },
      py::arg("costs"), py::arg("ranks"));
  module.def(
      "unevenness",
      [](const std::vector<double>& costs, const std::vector<int>& owners, int ranks) {
        return unevenness(costs, owners, ranks);
      },
      py::arg("costs"), py::arg("owners"), py::arg("ranks"));
  module.def("cost_of", &cost_of, py::arg("group"), py::arg("shape"));
}

}  // namespace aurora::python
