#pragma once

#include <vector>

#include "compare_design.hpp"

namespace aurora::cli {

/// The runs that the comparisons are made of, which of them are there, and how long the others take: from one
/// measured step of every optimizer, with an evaluation and a look at the neurons, in a temporary folder.
/// Trains nothing else and writes nothing into the folders of the comparisons.
void print_plan(const std::vector<ComparisonPart>& parts, int jobs);

}  // namespace aurora::cli
