#pragma once

#include <span>
#include <vector>

namespace aurora::compare {

/// The p-quantile of Student's t with `degrees` degrees of freedom, by Boost.Math; 0 < p < 1, degrees > 0.
double t_quantile(double p, double degrees);

/// Mean with its 95 % interval by Student's t over independent values: mean -+ t_{0.975, n-1} s / sqrt(n),
/// s^2 = sum (x - mean)^2 / (n - 1). low and high are NaN with fewer than two values, the mean with none; all
/// three where a value is NaN.
struct Estimate {
  double mean, low, high;
  std::vector<double> values;
};
Estimate estimate(std::span<const double> values);

/// Fewer values than these draw no conclusion: the interval of two has one degree of freedom, t = 12.7.
inline constexpr std::size_t kLeastForAConclusion = 3;

/// What one of several means, each tested against 0, comes to when all are looked at together.
struct Adjusted {
  double low, high;  // interval of the mean; NaN with fewer than two values
  double p;          // Holm's adjusted two-sided p value of Student's t; NaN likewise
};

/// Holm's step-down procedure at a family-wise error rate of 5 % (Holm 1979): with the p values in ascending
/// order, p_1 <= ... <= p_m, the i-th is tested at 0.05 / (m - i + 1), until the first that is not below its
/// level; those after it are not rejected either. Adjusted p: max over j <= i of min(1, (m - j + 1) p_j). The
/// interval of each mean has the level that it was tested at, those after the first failure the level of that
/// one, so an interval excludes 0 exactly where the adjusted p is below 0.05. Estimates without an interval
/// take no part.
std::vector<Adjusted> holm(std::span<const Estimate> estimates);

/// The middle value, of an even number the mean of the two in the middle, by aurora::quantile; values that
/// are NaN are left out, and NaN comes back for none.
double median(std::vector<double> values);

}  // namespace aurora::compare
