#include <algorithm>
#include <cmath>

#include "aurora/value_text.hpp"
#include "design.hpp"
#include "report_figures.hpp"
#include "report_text.hpp"

namespace aurora::compare {

namespace {

/// One curve for each optimizer over the expansions.
template <class PointOf>
std::optional<Chart> by_expansion(const std::vector<ExpansionResult>& expansions, Chart chart,
                                  const PointOf& point_of) {
  bool any = false;
  const auto names = curve_names(expansions);
  const auto slots = series_slots(names);
  for (std::size_t i = 0; i < names.size(); ++i) chart.series.push_back({slots[i], names[i], {}});
  for (const ExpansionResult& result : expansions) {
    chart.x.ticks.push_back({result.expansion, number_text(result.expansion)});
    for (const OptimizerResult& optimizer : result.comparison.optimizers) {
      const auto point = point_of(result, optimizer);
      if (!point || !std::isfinite(point->y)) continue;
      const auto series = std::find_if(chart.series.begin(), chart.series.end(),
                                       [&](const Series& s) { return s.name == optimizer.name; });
      series->points.push_back(*point);
      any = true;
    }
  }
  if (!any) return std::nullopt;
  return chart;
}

std::string expansion_text(double expansion) { return "expansion " + number_text(expansion); }

}  // namespace

std::vector<std::string> curve_names(const std::vector<ExpansionResult>& expansions) {
  std::vector<std::string> names;
  for (const ExpansionResult& result : expansions) {
    for (const OptimizerResult& optimizer : result.comparison.optimizers) {
      if (std::find(names.begin(), names.end(), optimizer.name) == names.end())
        names.push_back(optimizer.name);
    }
  }
  return names;
}

std::optional<Chart> gain_chart(const std::vector<ExpansionResult>& expansions) {
  return zoomed(by_expansion(
      expansions,
      {"Difference to the baseline by expansion factor",
       "Validation loss minus that of the baseline, paired by seed, with its 95 % interval.",
       {.label = "expansion factor of the MLP (log scale)", .logarithmic = true},
       {.label = "nats per token"},
       {},
       {{0, "baseline"}}},
      [](const ExpansionResult& result, const OptimizerResult& optimizer) -> std::optional<Point> {
        const Difference* found = against_baseline(result.comparison, optimizer.name);
        if (found == nullptr) return std::nullopt;
        const Estimate& d = found->validation_loss;
        return Point{result.expansion,
                     d.mean,
                     d.low,
                     d.high,
                     expansion_text(result.expansion),
                     with_band(signed_number(d.mean, kLossDecimals), d.low, d.high,
                               range(d.low, d.high, kLossDecimals))};
      }));
}

std::optional<Chart> starved_by_expansion_chart(const std::vector<ExpansionResult>& expansions) {
  return by_expansion(
      expansions,
      {"Starved rows by expansion factor",
       "Share of starved gate and up rows at the last step, with its 95 % interval.",
       {.label = "expansion factor of the MLP (log scale)", .logarithmic = true},
       {.label = "% of gate and up rows", .from_zero = true},
       {}},
      [](const ExpansionResult& result, const OptimizerResult& optimizer) -> std::optional<Point> {
        const Estimate& s = optimizer.starved;
        return Point{result.expansion,
                     100 * s.mean,
                     100 * s.low,
                     100 * s.high,
                     expansion_text(result.expansion),
                     share_text(s.mean, s.low, s.high)};
      });
}

}  // namespace aurora::compare
