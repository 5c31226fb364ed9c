#include "config_keys.hpp"

#include <algorithm>
#include <string>

namespace aurora::trainer {
namespace {

/// The string that `text` begins with, quotes included; all of `text` where it has no end.
std::string_view quoted(std::string_view text) {
  const char quote = text.front();
  const std::string_view three = quote == '"' ? "\"\"\"" : "'''";
  const std::string_view closing = text.starts_with(three) ? three : three.substr(0, 1);
  for (std::size_t i = closing.size(); i < text.size(); ++i) {
    if (text[i] == '\\' && quote == '"') {
      ++i;
    } else if (text.substr(i).starts_with(closing)) {
      // Up to two quotes may stand before three that close.
      while (closing.size() > 1 && i + closing.size() < text.size() && text[i + closing.size()] == quote) ++i;
      return text.substr(0, i + closing.size());
    } else if (closing.size() == 1 && text[i] == '\n') {
      return text.substr(0, i);
    }
  }
  return text;
}

}  // namespace

Index line_of_a_long_key(std::string_view text, std::size_t most_bytes, std::size_t most_parts) {
  Index line = 1;
  std::string open;       // brackets around
  bool is_value = false;  // else a key
  std::size_t bytes = 0, parts = 1;
  const auto expect = [&](bool value) { is_value = value, bytes = 0, parts = 1; };
  while (!text.empty()) {
    std::size_t taken = 1;
    const char c = text.front();
    if (c == '#') {
      taken = std::min(text.find('\n'), text.size());
    } else if (c == '"' || c == '\'') {
      const std::string_view string = quoted(text);
      taken = string.size();
      bytes += taken;
      if (!is_value && bytes > most_bytes) return line;
      line += std::ranges::count(string, '\n');
    } else if (c == '\n') {
      ++line;
      expect(!open.empty());
    } else if (c == '=') {
      expect(true);
    } else if (c == '{' || (c == '[' && is_value)) {
      open += c;
      expect(c == '[');
    } else if ((c == '}' || c == ']') && !open.empty()) {
      open.pop_back();
      expect(true);
    } else if (c == ',' && !open.empty()) {
      expect(open.back() == '[');
    } else if (!is_value) {
      ++bytes;
      if (c == '.') ++parts;
      if (bytes > most_bytes || parts > most_parts) return line;
    }
    text.remove_prefix(taken);
  }
  return 0;
}

}  // namespace aurora::trainer
