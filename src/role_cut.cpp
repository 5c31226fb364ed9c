#include "role_cut.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "role_names.hpp"

namespace aurora {
namespace {

/// A product of numbers and names of numbers: "heads*size".
std::optional<Index> product(const ParameterInfo& parameter, std::string_view text) {
  Index value = 1;
  for (const std::string_view factor : split(text, '*')) {
    Index number = 0;
    const auto read = std::from_chars(factor.data(), factor.data() + factor.size(), number);
    if (read.ec != std::errc{}) {
      const auto found = number_of(parameter, factor);
      if (!found) return std::nullopt;
      number = *found;
    }
    value *= number;
  }
  return value;
}

/// A sum of such products.
std::optional<Index> sum(const ParameterInfo& parameter, std::string_view text) {
  Index value = 0;
  for (const std::string_view term : split(text, '+')) {
    const auto number = product(parameter, term);
    if (!number) return std::nullopt;
    value += *number;
  }
  return value;
}

Index size_of(std::span<const int> axes, std::span<const Index> shape) {
  Index size = 1;
  for (const int axis : axes) size *= shape[static_cast<std::size_t>(axis)];
  return size;
}

/// All axes but the first two are columns.
Dimensions in_out(std::size_t axes) {
  Dimensions dimensions{.batch = {}, .rows = {1}, .cols = {0}, .row_blocks = {}};
  for (std::size_t axis = 2; axis < axes; ++axis) dimensions.cols.push_back(static_cast<int>(axis));
  return dimensions;
}

/// The axes of a weight by the class of its owner; nothing for a class that is not known.
Cut cut_by_owner(const ParameterInfo& parameter) {
  const std::size_t axes = parameter.shape.size();
  const Index groups = number_of(parameter, "groups").value_or(1);
  const bool transpose = owner_contains(parameter, "ConvTranspose");
  if (transpose && groups > 1 && parameter.shape[1] > 1) {
    return {.dimensions = {},
            .unknown =
                "a grouped transposed convolution is cut along its inputs, which no "
                "rule for matrices takes"};
  }
  if (transpose) return {in_out(axes)};
  if (owner_is(parameter, "Conv1D") && axes == 2) return {in_out(axes)};  // of transformers
  if (is_convolution(parameter) && axes >= 3) {
    Dimensions dimensions = default_dimensions(axes);
    if (groups > 1 && parameter.shape[0] % groups == 0) {
      dimensions.row_blocks.assign(static_cast<std::size_t>(groups), parameter.shape[0] / groups);
    }
    return {dimensions};
  }
  if (owner_is(parameter, "Bilinear")) return {default_dimensions(axes)};
  if (axes == 2) {
    Dimensions dimensions = default_dimensions(axes);
    const Index gates = owner_is(parameter, "LSTM") || owner_is(parameter, "LSTMCell") ? 4
                        : owner_is(parameter, "GRU") || owner_is(parameter, "GRUCell") ? 3
                                                                                       : 1;
    const bool projection = parameter.name.find("weight_hr") != std::string::npos;
    if (gates > 1 && !projection && parameter.shape[0] % gates == 0) {
      dimensions.row_blocks.assign(static_cast<std::size_t>(gates), parameter.shape[0] / gates);
    }
    const bool known = owner_is(parameter, "Linear") || owner_is(parameter, "StoredWeight") || gates > 1 ||
                       owner_contains(parameter, "RNN") || owner_is(parameter, "MultiheadAttention") ||
                       owner_is(parameter, "Conv1D");
    return {dimensions, {}, !known};
  }
  return {.dimensions = {}, .unknown = "it is not known which of its axes are rows"};
}

/// Stacked experts store [e, out, in] or [e, in, out]: the down projection beside a gate-and-up tells.
bool experts_store_in_out(const ParameterInfo& parameter, std::span<const ParameterInfo> all) {
  const std::string_view name = parameter.name;
  const auto dot = name.rfind('.');
  const std::string beside(name.substr(0, dot == std::string_view::npos ? 0 : dot + 1));
  const auto shape_at = [&](const char* own) -> const std::vector<Index>* {
    const auto found = std::ranges::find(all, beside + own, &ParameterInfo::name);
    return found == all.end() || found->shape.size() != 3 ? nullptr : &found->shape;
  };
  const auto* gate_up = shape_at("gate_up_proj");
  const auto* down = shape_at("down_proj");
  // gate_up [e, h, 2i] beside down [e, i, h], not gate_up [e, 2i, h] beside down [e, h, i].
  return gate_up != nullptr && down != nullptr && (*gate_up)[1] == (*down)[2] &&
         (*gate_up)[2] == 2 * (*down)[1];
}

/// Experts one after the other in the rows of one matrix.
Cut cut_into_experts(const ParameterInfo& parameter) {
  const Index rows = parameter.shape[0], experts = number_of(parameter, "num_experts").value_or(0);
  if (parameter.shape.size() != 2 || experts < 1 || rows % experts != 0) {
    return {.dimensions = {},
            .unknown = "it is a stack of experts, and which of its rows belong together is not known"};
  }
  Dimensions dimensions = default_dimensions(2);
  dimensions.row_blocks.assign(static_cast<std::size_t>(experts), rows / experts);
  return {dimensions};
}

Cut cut_axes_of(const RoleRow& row, const ParameterInfo& parameter, std::span<const ParameterInfo> all) {
  if (row.stored == Stored::as_owner) return cut_by_owner(parameter);
  if (row.stored == Stored::in_out) return {in_out(parameter.shape.size())};
  if (row.stored == Stored::rows_of_experts) return cut_into_experts(parameter);
  if (row.stored == Stored::rows_of_experts_in_out) {
    return {
        .dimensions = {},
        .unknown = "its rows are the inputs of one expert after the other, which no blocks of rows describe"};
  }
  if (parameter.shape.size() != 3) {
    if (parameter.shape.size() == 2) return cut_by_owner(parameter);
    return {.dimensions = {}, .unknown = "three axes were expected"};
  }
  switch (row.stored) {
    case Stored::in_heads:
      return {Dimensions{.batch = {}, .rows = {1, 2}, .cols = {0}, .row_blocks = {}}};
    case Stored::out_heads:
      return {Dimensions{.batch = {}, .rows = {0}, .cols = {1, 2}, .row_blocks = {}}};
    default:
      break;
  }
  if (row.stored == Stored::experts_in_out || experts_store_in_out(parameter, all)) {
    return {Dimensions{.batch = {0}, .rows = {2}, .cols = {1}, .row_blocks = {}}};
  }
  return {Dimensions{.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {}}};
}

/// Blocks in proportion, as lengths in each run.
void cut_rows(const RoleRow& row, const ParameterInfo& parameter, Cut& cut) {
  if (row.blocks.empty() || !cut.dimensions) return;
  const Index rows = size_of(cut.dimensions->rows, parameter.shape);
  const Index cols = size_of(cut.dimensions->cols, parameter.shape);
  std::vector<Index> shares;
  Index repeats = row.repeats == "rows" ? 0 : product(parameter, row.repeats).value_or(0);
  if (row.blocks == "square") {
    // Fewer keys and values than queries, where the model says how many.
    const auto heads = number_of(parameter, "num_attention_heads");
    const auto few = number_of(parameter, "num_key_value_heads");
    if (row.guess && heads && few && *few > 0 && *few < *heads && rows % (*heads + 2 * *few) == 0) {
      shares = {*heads, *few, *few};
    } else if (cols > 0 && rows % cols == 0 && rows / cols <= 3) {
      shares.assign(static_cast<std::size_t>(rows / cols), 1);
    }
  } else {
    for (const std::string_view text : split(row.blocks, ' ')) {
      const auto share = sum(parameter, text);
      if (!share || *share < 0) {
        shares.clear();
        break;
      }
      if (*share > 0) shares.push_back(*share);
    }
    if (row.repeats == "rows" && !shares.empty()) repeats = rows / std::ssize(shares);
  }
  const Index run = std::accumulate(shares.begin(), shares.end(), Index{0});
  const bool divides = !shares.empty() && repeats >= 1 && std::ranges::all_of(shares, [&](Index share) {
    return rows * share % (run * repeats) == 0;
  });
  if (!divides) {
    cut.dimensions.reset();
    cut.unknown = "it is a fused " + std::string(row.role) + ", and which of its " + std::to_string(rows) +
                  " rows belong together is not known";
    return;
  }
  for (Index& share : shares) share = rows * share / (run * repeats);
  if (shares.size() == 1) return;
  cut.dimensions->row_blocks = std::move(shares);
  cut.dimensions->repeats = repeats;
  cut.guessed = cut.guessed || row.guess;
}

}  // namespace

Cut cut_of(const ParameterInfo& parameter, const RoleRow* row, std::span<const ParameterInfo> all) {
  if (row == nullptr) return cut_by_owner(parameter);
  Cut cut = cut_axes_of(*row, parameter, all);
  cut_rows(*row, parameter, cut);
  return cut;
}

}  // namespace aurora
