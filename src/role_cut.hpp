#pragma once

#include <optional>
#include <span>
#include <string>

#include "role_table.hpp"

namespace aurora {

/// How a parameter is cut into matrices, or what would have to be said for that.
struct Cut {
  std::optional<Dimensions> dimensions;
  std::string unknown = {};
  bool guessed = false;
};

/// By the row of the table that it has, or by the class of its owner alone where it has none. `all` are the
/// parameters of the model: the shape of one expert's weight tells how the other is stored.
Cut cut_of(const ParameterInfo& parameter, const RoleRow* row, std::span<const ParameterInfo> all);

}  // namespace aurora
