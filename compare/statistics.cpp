#include "statistics.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "aurora/diagnostics.hpp"

namespace aurora::compare {

namespace {

constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();
constexpr double kErrorRate = 0.05;

double standard_error(const Estimate& value) {
  const auto n = static_cast<double>(value.values.size());
  double squares = 0;
  for (const double x : value.values) squares += (x - value.mean) * (x - value.mean);
  return std::sqrt(squares / (n - 1) / n);
}

double degrees(const Estimate& value) { return static_cast<double>(value.values.size() - 1); }

/// Two-sided, of the mean being 0.
double p_value(const Estimate& value) {
  const double error = standard_error(value);
  if (error == 0) return value.mean == 0 ? 1 : 0;
  const boost::math::students_t distribution(degrees(value));
  return 2 * boost::math::cdf(boost::math::complement(distribution, std::fabs(value.mean) / error));
}

}  // namespace

double t_quantile(double p, double degrees) {
  return boost::math::quantile(boost::math::students_t(degrees), p);
}

Estimate estimate(std::span<const double> values) {
  Estimate result{kNotDefined, kNotDefined, kNotDefined, {values.begin(), values.end()}};
  if (values.empty()) return result;
  result.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  if (values.size() < 2) return result;
  const double half_width = t_quantile(1 - kErrorRate / 2, degrees(result)) * standard_error(result);
  if (!std::isfinite(half_width)) return result;  // of numbers near the end of double
  result.low = result.mean - half_width;
  result.high = result.mean + half_width;
  return result;
}

std::vector<Adjusted> holm(std::span<const Estimate> estimates) {
  std::vector<Adjusted> adjusted(estimates.size(), {kNotDefined, kNotDefined, kNotDefined});
  std::vector<std::size_t> order;
  std::vector<double> p(estimates.size());
  for (std::size_t i = 0; i < estimates.size(); ++i) {
    if (!std::isfinite(estimates[i].low)) continue;
    p[i] = p_value(estimates[i]);
    order.push_back(i);
  }
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return p[i]; });
  double largest = 0, level = kErrorRate;
  bool rejected = true;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const std::size_t i = order[rank];
    const auto left = static_cast<double>(order.size() - rank);
    largest = std::max(largest, std::min(1.0, left * p[i]));
    if (rejected) level = kErrorRate / left;
    rejected = rejected && p[i] < level;
    const double half_width = t_quantile(1 - level / 2, degrees(estimates[i])) * standard_error(estimates[i]);
    adjusted[i] = {estimates[i].mean - half_width, estimates[i].mean + half_width, largest};
  }
  return adjusted;
}

double median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  return values.empty() ? kNotDefined : quantile(values, 0.5);
}

}  // namespace aurora::compare
