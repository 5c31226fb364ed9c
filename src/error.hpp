#pragma once

#include <sstream>
#include <stdexcept>
#include <string_view>

namespace aurora {

/// Throws std::invalid_argument "[aurora::where] rule values".
template <class... Values>
[[noreturn]] void fail(std::string_view where, std::string_view rule, const Values&... values) {
  std::ostringstream text;
  text << "[aurora::" << where << "] " << rule;
  ((text << values), ...);
  throw std::invalid_argument(text.str());
}

}  // namespace aurora
