#include "statistics.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <numeric>

namespace aurora::compare {

namespace {
constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();
}

double t_quantile(double p, double degrees) {
  return boost::math::quantile(boost::math::students_t(degrees), p);
}

Estimate estimate(std::span<const double> values) {
  Estimate result{kNotDefined, kNotDefined, kNotDefined, {values.begin(), values.end()}};
  if (values.empty()) return result;
  const auto n = static_cast<double>(values.size());
  result.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  if (values.size() < 2) return result;
  double squares = 0;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  const double half_width = t_quantile(0.975, n - 1) * std::sqrt(squares / (n - 1) / n);
  if (!std::isfinite(half_width)) return result;  // of numbers near the end of double
  result.low = result.mean - half_width;
  result.high = result.mean + half_width;
  return result;
}

double median(std::vector<double> values) {
  if (values.empty()) return kNotDefined;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace aurora::compare
