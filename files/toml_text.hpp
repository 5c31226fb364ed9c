#pragma once

#include <toml++/toml.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace aurora::trainer {

constexpr std::size_t kLongestConfig = std::size_t{1} << 20;

/// The one place where TOML is parsed. The parser is quadratic in a key's length and recursive in its parts.
/// Throws toml::parse_error, or std::runtime_error beyond the limits.
toml::table parse_toml(std::string_view text);

/// Text as a TOML string, in quotes.
std::string toml_string(std::string_view text);

}  // namespace aurora::trainer
