#include "groups.hpp"

#include <pybind11/stl.h>

#include <charconv>
#include <numeric>
#include <sstream>

#include "aurora/roles.hpp"

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

/// Runs of the row blocks, from the key "repeats"; 1 where it says nothing.
Index repeats_of(const py::object& repeats, Index rows, std::span<const Index> shape) {
  if (repeats.is_none()) return 1;
  const auto counts = counts_of(repeats, "repeats");
  if (counts.size() != 1 || counts.front() < 1 || rows % counts.front() != 0) {
    refuse("[aurora_optim] repeats: ", rows, " rows are not ", shown(repeats), " equal runs: shape ",
           shape_text(shape));
  }
  return counts.front();
}

/// The blocks of one run, from the key "blocks": equal ones, or of these lengths.
std::vector<Index> lengths_of(const py::object& blocks, Index rows, std::span<const Index> shape) {
  if (blocks.is_none()) return {rows};
  std::vector<Index> lengths = counts_of(blocks, "blocks");
  if (py::isinstance<py::int_>(blocks)) {
    const Index parts = lengths.front();
    lengths.clear();
    append_equal(rows, parts, "blocks", shape, lengths);
  } else if (std::accumulate(lengths.begin(), lengths.end(), Index{0}) != rows) {
    refuse("[aurora_optim] blocks ", shown(blocks), " do not sum to ", rows, " rows: shape ",
           shape_text(shape));
  }
  return lengths;
}

/// Each block as so many equal heads.
std::vector<Index> split_by_heads(const py::object& heads, const std::vector<Index>& lengths,
                                  std::span<const Index> shape) {
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

/// What C++ says of a cut, in the keys of a group; what is as by default says nothing.
py::dict keys_of(const Dimensions& dimensions, std::size_t axes) {
  py::dict keys;
  Dimensions plain = dimensions;
  plain.row_blocks.clear();
  plain.repeats = 1;
  if (plain != default_dimensions(axes)) {
    py::dict named;
    if (!dimensions.batch.empty()) named["batch"] = py::cast(dimensions.batch);
    named["rows"] = py::cast(dimensions.rows);
    named["cols"] = py::cast(dimensions.cols);
    keys["dimensions"] = named;
  }
  if (!dimensions.row_blocks.empty()) {
    const auto& blocks = dimensions.row_blocks;
    const bool equal = std::equal(blocks.begin() + 1, blocks.end(), blocks.begin());
    keys["blocks"] = equal ? py::object(py::int_(blocks.size())) : py::cast(blocks);
  }
  if (dimensions.repeats > 1) keys["repeats"] = py::int_(dimensions.repeats);
  return keys;
}

ParameterInfo info_of(const py::dict& parameter) {
  ParameterInfo info{.name = parameter["name"].cast<std::string>(),
                     .shape = parameter["shape"].cast<std::vector<Index>>(),
                     .owner = parameter["owner"].cast<std::vector<std::string>>(),
                     .around = parameter["around"].cast<std::vector<std::string>>(),
                     .other_names = parameter["other_names"].cast<std::vector<std::string>>(),
                     .embedding = parameter["embedding"].cast<bool>(),
                     .output = parameter["output"].cast<bool>(),
                     .trainable = parameter["trainable"].cast<bool>(),
                     .described = parameter["described"].cast<bool>()};
  info.number = [number = parameter["number"].cast<py::function>()](const std::string& name) {
    return number(name).cast<std::optional<Index>>();
  };
  return info;
}

/// (whether to the matrix rule, reason, role, whether it is a guess, how it is cut) of each parameter.
py::list routed(const py::list& parameters, const std::vector<std::pair<std::string, bool>>& patterns,
                bool backbone) {
  std::vector<ParameterInfo> infos;
  for (const auto& parameter : parameters) infos.push_back(info_of(parameter.cast<py::dict>()));
  std::vector<RoutePattern> all;
  for (const auto& [pattern, matrix] : patterns) {
    all.push_back({pattern, matrix ? Route::matrix : Route::adamw});
  }
  py::list result;
  for (const auto& entry : route(infos, all, backbone ? UnnamedHead::none : UnnamedHead::last_linear)) {
    const bool matrix = entry.route == Route::matrix;
    const py::dict keys =
        matrix && entry.dimensions ? keys_of(*entry.dimensions, entry.shape.size()) : py::dict();
    result.append(py::make_tuple(matrix, entry.reason, entry.role, entry.guessed, keys));
  }
  return result;
}

/// (name, shape, whether to the matrix rule, reason, whether it is a guess, how it is cut, method)
using Line = std::tuple<std::string, std::vector<Index>, bool, std::string, bool, py::dict, std::string>;

Dimensions cut_of(const py::dict& keys, std::span<const Index> shape) {
  return dimensions_of(keys, shape).value_or(default_dimensions(shape.size()));
}

std::string table(const std::vector<Line>& lines, const std::string& matrix_name) {
  std::vector<RoutedParameter> all;
  for (const auto& [name, shape, matrix, reason, guessed, keys, method] : lines) {
    RoutedParameter& entry = all.emplace_back(
        RoutedParameter{name, shape, matrix ? Route::matrix : Route::adamw, reason, {}, guessed, {}});
    entry.method = method;
    if (matrix && shape.size() >= 2) entry.dimensions = cut_of(keys, shape);
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
                   heads = optional_at(group, "heads"), repeats = optional_at(group, "repeats");
  const bool whole = blocks.is_none() && heads.is_none() && repeats.is_none();
  if (description.is_none() && whole) return std::nullopt;
  if (shape.size() < 2) return std::nullopt;  // no matrix: refused, with its place, by the step
  Dimensions dimensions = description.is_none() ? default_dimensions(shape.size()) : described(description);
  if (whole) return dimensions;
  Index rows = 1;
  for (const int axis : dimensions.rows) {
    if (axis < 0 || static_cast<std::size_t>(axis) >= shape.size()) {
      refuse("[aurora_optim] dimensions: there is no axis ", axis, ": shape ", shape_text(shape));
    }
    rows *= shape[static_cast<std::size_t>(axis)];
  }
  dimensions.repeats = repeats_of(repeats, rows, shape);
  dimensions.row_blocks = lengths_of(blocks, rows / dimensions.repeats, shape);
  if (heads.is_none()) return dimensions;
  if (dimensions.repeats > 1)
    refuse("[aurora_optim] heads cannot be said of blocks that repeat: shape ", shape_text(shape));
  dimensions.row_blocks = split_by_heads(heads, dimensions.row_blocks, shape);
  return dimensions;
}

void add_groups(py::module_& module) {
  module.attr("RULES") = py::tuple(py::cast(rule_names()));
  module.def("hyperparameters", &hyperparameter_list, py::arg("rule"));
  module.def(
      "rule_texts",
      [](const std::string& rule) {
        const Rule found = rule_of(rule);
        return py::make_tuple(std::string(class_name(found)), std::string(meaning(found)),
                              std::string(formula(found)));
      },
      py::arg("rule"));
  module.attr("SCHEDULES") = [] {
    py::list names;
    for (const auto& schedule : kPolarSchedules) names.append(std::string(schedule.name));
    return py::tuple(names);
  }();
  module.def(
      "row_state_name", [](const py::dict& group) { return std::string(row_state_name(options_of(group))); },
      py::arg("group"));
  module.def(
      "scale_of", [](const py::dict& group) { return applied_scale_name(options_of(group)); },
      py::arg("group"));
  module.def(
      "nearest",
      [](const std::string& text, const std::vector<std::string>& candidates) {
        return nearest(text, candidates);
      },
      py::arg("text"), py::arg("candidates"));
  module.def("route", &routed, py::arg("parameters"), py::arg("patterns"), py::arg("backbone"));
  module.def(
      "matrices_text",
      [](const std::vector<Index>& shape, const py::dict& keys) {
        return matrices_text(shape, cut_of(keys, shape));
      },
      py::arg("shape"), py::arg("keys"));
  module.def(
      "matches", [](const std::string& pattern, const std::string& name) { return matches(pattern, name); },
      py::arg("pattern"), py::arg("name"));
  module.def("routing_table", &table, py::arg("lines"), py::arg("matrix_name"));
}

}  // namespace aurora::python
