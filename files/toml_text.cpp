#include "toml_text.hpp"

#include <stdexcept>

#include "aurora/matrix.hpp"
#include "config_keys.hpp"

namespace aurora::trainer {

toml::table parse_toml(std::string_view text) {
  constexpr std::size_t kLongestKey = 1024, kMostKeyParts = 8;
  if (text.size() > kLongestConfig)
    throw std::runtime_error("is longer than the " + std::to_string(kLongestConfig) + " bytes that are read");
  if (const Index line = line_of_a_long_key(text, kLongestKey, kMostKeyParts); line > 0)
    throw std::runtime_error("line " + std::to_string(line) + " has a key of more than " +
                             std::to_string(kLongestKey) + " bytes or " + std::to_string(kMostKeyParts) +
                             " parts");
  return toml::parse(text);
}

std::string toml_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      out += "\\u00";
      out += kDigits[static_cast<std::size_t>(c) >> 4];
      out += kDigits[static_cast<std::size_t>(c) & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace aurora::trainer
