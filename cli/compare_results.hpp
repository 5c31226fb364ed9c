#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "comparison.hpp"

namespace aurora::cli {

/// The table of each comparison, its answer, what the columns mean, and where the report in OUT lies.
void print_results(const std::vector<compare::ExpansionResult>& results, const std::filesystem::path& out);

/// On standard error, a line each, with the command that warns.
void print_warnings(const compare::Comparison& comparison, std::string_view command);

}  // namespace aurora::cli
