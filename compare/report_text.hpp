#pragma once

#include <string>

#include "comparison.hpp"

namespace aurora::compare {

// Numbers as the page shows them: a true minus sign, and a dash for what is not defined.
std::string number(double value, int decimals);
std::string signed_number(double value, int decimals);  // "+0.0120"
std::string percent(double share);                      // "4.7 %"
std::string range(double low, double high, int decimals);
std::string counted(Index count, const std::string& singular);  // "1 seed", "5 seeds"
std::string grouped_digits(Index value);                        // "1,115,394"

/// Plain text with true minus signs, and with percent signs that stay beside their numbers.
std::string typeset(const std::string& text);

/// Decimals that losses are shown with.
inline constexpr int kLossDecimals = 4;

/// The difference of an optimizer to the baseline; null for the baseline itself and where there is none.
const Difference* against_baseline(const Comparison& comparison, const std::string& optimizer);

enum class Verdict { lower, higher, open };

/// Whether the interval of a difference lies on one side of zero.
Verdict verdict(const Estimate& difference);

/// How far an unfinished comparison has come; empty for a complete one.
std::string progress(const Comparison& comparison);

}  // namespace aurora::compare
