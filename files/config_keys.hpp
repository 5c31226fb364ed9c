#pragma once

#include <cstddef>
#include <string_view>

#include "aurora/matrix.hpp"

namespace aurora::trainer {

/// The first line, from 1, with a TOML key of more than `most_bytes` bytes or `most_parts` parts with dots
/// between them; 0 where there is none. Comments and values that are strings are passed over. Of text that is
/// no TOML the lines before the first mistake count.
Index line_of_a_long_key(std::string_view text, std::size_t most_bytes, std::size_t most_parts);

}  // namespace aurora::trainer
