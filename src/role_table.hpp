#pragma once

#include <span>
#include <string_view>

#include "aurora/roles.hpp"

namespace aurora {

/// How the axes of a stored weight are read.
enum class Stored : std::uint8_t {
  as_owner,                // as its module stores it: linear [out, in], Conv1D [in, out], convolutions
  in_out,                  // [in, out]
  experts,                 // [e, out, in], where the down projection beside it does not say otherwise
  experts_in_out,          // [e, in, out]
  rows_of_experts,         // [e * out, in]
  rows_of_experts_in_out,  // [e * in, out], which no cut describes
  in_heads,                // [in, heads, size]
  out_heads,               // [out, heads, size]
};

/// One row of the table of roles. A parameter has the first row that fits.
struct RoleRow {
  /// Beginning of the class of a module around it, or of a model type, in small letters without "_":
  /// "gptneox" for GPTNeoXAttention. Empty: any.
  std::string_view family = {};
  /// Last parts of its name, ".weight" left out.
  std::string_view end;
  std::string_view role;
  NeuronSide neurons = NeuronSide::output;
  Stored stored = Stored::as_owner;
  /// Row blocks of one run, in proportion: sums of products of numbers and names of numbers; empty: one block.
  /// "square": as many blocks as there are squares in [n * cols, cols].
  std::string_view blocks = {};
  /// Runs of the blocks; "rows": as many as make each block one row.
  std::string_view repeats = "1";
  std::string_view when = {};  // a number that must be there and not zero
  bool guess = false;          // the name alone does not tell how it is cut
};

/// Hidden matrices, cut or not.
std::span<const RoleRow> hidden_rows();

/// What goes to AdamW by the end of its name.
struct OtherRow {
  std::string_view end;
  std::string_view role;       // "embedding", "position_embedding", "output_head", "router"
  bool inside_blocks = false;  // also where it stands in one of several layers ("layers.3.x")
};
std::span<const OtherRow> other_rows();

/// Other names under which modules and configurations keep a number, the name itself first.
std::span<const std::string_view> names_of_number(std::string_view name);

/// Whether a parameter's own name (the last part, "weight" excepted) says that it is a bias, a scale, a table
/// of positions or tokens.
bool is_table_or_bias(std::string_view own_name);

}  // namespace aurora
