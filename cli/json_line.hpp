#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace aurora::cli {

/// The object on one line. Bytes that are no UTF-8, as a path may have, become U+FFFD.
inline std::string json_line(const nlohmann::ordered_json& object) {
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace aurora::cli
