#pragma once

#include <string_view>

namespace aurora::compare {

/// report.css and report.js, put into the binary by report.cmake.
extern const std::string_view kReportStyle, kReportScript;

}  // namespace aurora::compare
