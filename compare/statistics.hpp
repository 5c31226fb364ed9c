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

/// The middle value, of an even number the mean of the two in the middle; NaN for none.
double median(std::vector<double> values);

}  // namespace aurora::compare
