#include "groups.hpp"

#include <pybind11/stl.h>

#include <charconv>
#include <numeric>
#include <sstream>

#include "aurora/routing.hpp"

namespace aurora::python {
namespace {

template <class... Values>
[[noreturn]] void refuse(const Values&... values) {
  std::ostringstream text;
  (text << ... << values);
  throw py::value_error(text.str());
}

std::string shown(const py::handle& value) { return py::repr(value); }

/// The value of a hyperparameter; a tensor or a NumPy scalar is the number in it.
HyperparameterValue value_of(const std::string& rule, const std::string& key, py::object value) {
  if (py::hasattr(value, "item")) value = value.attr("item")();
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>();
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (py::isinstance<py::float_>(value)) return value.cast<double>();
  try {
    if (py::isinstance<py::int_>(value)) return value.cast<std::int64_t>();
  } catch (const py::cast_error&) {  // beyond 64 bits: refused below
  }
  refuse("[aurora_optim] ", rule, ": ", key, " cannot be ", shown(value));
}

py::object value_at(const py::dict& group, const std::string& rule, const std::string& key) {
  const bool beta1 = key == "beta1", beta2 = key == "beta2";
  if (rule == "adamw" && (beta1 || beta2)) {
    if (!group.contains("betas")) refuse("[aurora_optim] A group of rule adamw lacks 'betas'");
    const py::object betas = group["betas"];
    if (!py::isinstance<py::sequence>(betas) || py::len(betas) != 2) {
      refuse("[aurora_optim] adamw: betas must be two numbers, not ", shown(betas));
    }
    return betas[py::int_(beta1 ? 0 : 1)];
  }
  if (!group.contains(key.c_str())) refuse("[aurora_optim] A group of rule ", rule, " lacks '", key, "'");
  return group[key.c_str()];
}

/// A default value with its Python type.
py::object typed(const Hyperparameter& entry) {
  return std::visit([](const auto& value) { return py::object(py::cast(value)); }, entry.typed);
}

py::list hyperparameter_list(const std::string& rule) {
  py::list list;
  for (const auto& entry : hyperparameters(rule_of(rule))) {
    list.append(py::make_tuple(entry.name, typed(entry), entry.rule, entry.meaning));
  }
  return list;
}

std::string shape_text(std::span<const Index> shape) {
  std::string text;
  for (const Index size : shape) text.append(text.empty() ? "" : ", ").append(std::to_string(size));
  return "[" + text + "]";
}

/// None where the group lacks the key.
py::object optional_at(const py::dict& group, const char* key) {
  return group.contains(key) ? py::object(group[key]) : py::object(py::none());
}

std::vector<int> axes_of(const py::dict& dimensions, const char* key) {
  const py::object axes = optional_at(dimensions, key);
  if (axes.is_none()) return {};
  try {
    return axes.cast<std::vector<int>>();
  } catch (const py::cast_error&) {
    refuse("[aurora_optim] dimensions: '", key, "' must be a list of axes, not ", shown(axes));
  }
}

Dimensions described(const py::object& description) {
  if (!py::isinstance<py::dict>(description)) {
    refuse("[aurora_optim] dimensions must be a dict with the keys batch, rows and cols, not ",
           shown(description));
  }
  const auto dict = description.cast<py::dict>();
  for (const auto& [key, value] : dict) {
    const std::string text = py::str(key);
    if (text != "batch" && text != "rows" && text != "cols") {
      refuse("[aurora_optim] dimensions has the keys batch, rows and cols, not '", text, "'");
    }
  }
  Dimensions dimensions;
  dimensions.batch = axes_of(dict, "batch");
  dimensions.rows = axes_of(dict, "rows");
  dimensions.cols = axes_of(dict, "cols");
  return dimensions;
}

/// `parts` equal parts of `length` rows.
void append_equal(Index length, Index parts, const char* key, std::span<const Index> shape,
                  std::vector<Index>& lengths) {
  if (parts < 1 || length % parts != 0) {
    refuse("[aurora_optim] ", key, ": ", length, " rows are not ", parts, " equal parts: shape ",
           shape_text(shape));
  }
  lengths.insert(lengths.end(), static_cast<std::size_t>(parts), length / parts);
}

/// A count for every block, or one for each.
std::vector<Index> counts_of(const py::object& value, const char* key) {
  try {
    if (py::isinstance<py::int_>(value) && !py::isinstance<py::bool_>(value)) return {value.cast<Index>()};
    if (py::isinstance<py::sequence>(value) && !py::isinstance<py::str>(value) && py::len(value) > 0) {
      return value.cast<std::vector<Index>>();
    }
  } catch (const py::cast_error&) {  // refused below
  }
  refuse("[aurora_optim] ", key, " must be a number or a list of numbers, not ", shown(value));
}

std::vector<Index> row_blocks_of(const py::object& blocks, const py::object& heads, Index rows,
                                 std::span<const Index> shape) {
  std::vector<Index> lengths = {rows};
  if (!blocks.is_none()) {
    lengths = counts_of(blocks, "blocks");
    if (py::isinstance<py::int_>(blocks)) {
      const Index parts = lengths.front();
      lengths.clear();
      append_equal(rows, parts, "blocks", shape, lengths);
    } else if (std::accumulate(lengths.begin(), lengths.end(), Index{0}) != rows) {
      refuse("[aurora_optim] blocks ", shown(blocks), " do not sum to ", rows, " rows: shape ",
             shape_text(shape));
    }
  }
  if (heads.is_none()) return lengths;
  std::vector<Index> counts = counts_of(heads, "heads");
  if (counts.size() == 1) counts.resize(lengths.size(), counts.front());
  if (counts.size() != lengths.size()) {
    refuse("[aurora_optim] heads ", shown(heads), " are for ", counts.size(), " blocks, not ", lengths.size(),
           ": shape ", shape_text(shape));
  }
  std::vector<Index> split;
  for (std::size_t i = 0; i < lengths.size(); ++i) append_equal(lengths[i], counts[i], "heads", shape, split);
  return split;
}

/// (name, shape, embedding, linear, tied_to)
using Info = std::tuple<std::string, std::vector<Index>, bool, bool, std::string>;
/// (name, shape, whether to the matrix rule, reason)
using Routed = std::tuple<std::string, std::vector<Index>, bool, std::string>;

std::vector<Routed> routed(const std::vector<Info>& parameters,
                           const std::vector<std::pair<std::string, bool>>& patterns) {
  std::vector<ParameterInfo> infos;
  for (const auto& [name, shape, embedding, linear, tied_to] : parameters) {
    infos.push_back({name, shape, embedding, linear, tied_to});
  }
  std::vector<RoutePattern> all;
  for (const auto& [pattern, matrix] : patterns) {
    all.push_back({pattern, matrix ? Route::matrix : Route::adamw});
  }
  std::vector<Routed> result;
  for (const auto& entry : route(infos, all)) {
    result.emplace_back(entry.name, entry.shape, entry.route == Route::matrix, entry.reason);
  }
  return result;
}

std::string table(const std::vector<Routed>& parameters, const std::string& matrix_name) {
  std::vector<RoutedParameter> all;
  for (const auto& [name, shape, matrix, reason] : parameters) {
    all.push_back({name, shape, matrix ? Route::matrix : Route::adamw, reason});
  }
  return routing_table(all, matrix_name);
}

}  // namespace

Rule options_of(const py::dict& group) {
  if (!group.contains("rule")) refuse("[aurora_optim] A group lacks 'rule'");
  const std::string rule = py::str(group["rule"]);
  Rule options = rule_of(rule);
  for (const auto& entry : hyperparameters(options)) {
    // Groups of older checkpoints do not know it.
    if (entry.name == "precision" && !group.contains("precision")) continue;
    set_hyperparameter_value(options, entry.name,
                             value_of(rule, entry.name, value_at(group, rule, entry.name)));
  }
  validate(options);
  return options;
}

std::optional<Dimensions> dimensions_of(const py::dict& group, std::span<const Index> shape) {
  const py::object description = optional_at(group, "dimensions"), blocks = optional_at(group, "blocks"),
                   heads = optional_at(group, "heads");
  if (description.is_none() && blocks.is_none() && heads.is_none()) return std::nullopt;
  if (shape.size() < 2) return std::nullopt;  // no matrix: refused, with its place, by the step
  Dimensions dimensions = description.is_none() ? default_dimensions(shape.size()) : described(description);
  if (blocks.is_none() && heads.is_none()) return dimensions;
  Index rows = 1;
  for (const int axis : dimensions.rows) {
    if (axis < 0 || static_cast<std::size_t>(axis) >= shape.size()) {
      refuse("[aurora_optim] dimensions: there is no axis ", axis, ": shape ", shape_text(shape));
    }
    rows *= shape[static_cast<std::size_t>(axis)];
  }
  dimensions.row_blocks = row_blocks_of(blocks, heads, rows, shape);
  return dimensions;
}

void add_groups(py::module_& module) {
  module.attr("RULES") = py::tuple(py::cast(rule_names()));
  module.def("hyperparameters", &hyperparameter_list, py::arg("rule"));
  module.def(
      "row_state_name", [](const py::dict& group) { return std::string(row_state_name(options_of(group))); },
      py::arg("group"));
  module.def(
      "scale_of", [](const py::dict& group) { return applied_scale_name(options_of(group)); }, py::arg("group"));
  module.def(
      "nearest",
      [](const std::string& text, const std::vector<std::string>& candidates) {
        return nearest(text, candidates);
      },
      py::arg("text"), py::arg("candidates"));
  module.def("route", &routed, py::arg("parameters"), py::arg("patterns"));
  module.def("routing_table", &table, py::arg("parameters"), py::arg("matrix_name"));
}

}  // namespace aurora::python
