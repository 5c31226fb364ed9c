#pragma once

#include <string>

#include "comparison.hpp"

namespace aurora::compare {

// Sections of the report without figures. Empty where the comparison has nothing to say.

std::string equal_rates_table(const Comparison& comparison);
/// Starved since when, and which: shares of all rows, and the rows of the first seed by number.
std::string which_neurons(const Comparison& comparison);
std::string sweep_table(const Comparison& comparison);
std::string warning_list(const Comparison& comparison);
/// Every optimizer's; what is not equal is marked.
std::string hyperparameter_table(const Comparison& comparison);
std::string how_it_was_run(const Comparison& comparison);
std::string definitions();

/// " Evaluated: 32,768 of 111,540 tokens."
std::string evaluated(const Comparison& comparison);

}  // namespace aurora::compare
