#pragma once

#include <toml++/toml.h>

#include <charconv>
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

/// The shortest text that reads back as the same number.
std::string number_text(double value);

/// Whether the whole text is a number, which is then stored.
template <class Number>
bool read_number(Number& number, std::string_view text) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc{} && stop == end;
}

}  // namespace aurora::trainer
