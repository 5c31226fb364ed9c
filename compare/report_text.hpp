#pragma once

#include <string>
#include <vector>

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

/// A mean with its interval in brackets, where there is one.
std::string with_band(const std::string& mean, double low, double high, const std::string& band);
std::string loss_text(double mean, double low, double high);
std::string share_text(double mean, double low, double high);

/// Of the optimizers, in their order.
std::vector<std::string> names_of(const Comparison& comparison);

/// Decimals that losses are shown with.
inline constexpr int kLossDecimals = 4;

/// The difference of an optimizer to the baseline; null for the baseline itself and where there is none.
const Difference* against_baseline(const Comparison& comparison, const std::string& optimizer);

enum class Verdict { lower, higher, open };

/// Whether Holm's interval of a difference lies on one side of zero; open with too few seeds for a
/// conclusion.
Verdict verdict(const Difference& difference);

/// How far an unfinished comparison has come; empty for a complete one.
std::string progress(const Comparison& comparison);

}  // namespace aurora::compare
