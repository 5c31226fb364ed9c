#include "report_figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "design.hpp"
#include "report_text.hpp"

namespace aurora::compare {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Keeps the page small whatever it is made of: points of one curve, cells of one heat map.
std::size_t points_per_curve(const Comparison& comparison) {
  return std::clamp<std::size_t>(1600 / std::max<std::size_t>(1, comparison.optimizers.size()), 20, 160);
}
std::size_t cells_per_map(const Comparison& comparison) {
  return std::clamp<std::size_t>(6000 / std::max<std::size_t>(1, comparison.optimizers.size()), 200, 1500);
}
constexpr std::size_t kMostLayers = 48;

/// Every k-th index, counted from the last, so that at most `most` are left.
std::vector<std::size_t> thinned(std::size_t size, std::size_t most) {
  const std::size_t every = std::max<std::size_t>(1, (size + most - 1) / most);
  std::vector<std::size_t> kept;
  for (std::size_t i = size == 0 ? 0 : (size - 1) % every; i < size; i += every) kept.push_back(i);
  return kept;
}

std::string with_band(const std::string& mean, double low, double high, const std::string& band) {
  return std::isfinite(low) && std::isfinite(high) ? fmt::format("{} ({})", mean, band) : mean;
}

std::string loss_text(double mean, double low, double high) {
  return with_band(number(mean, kLossDecimals), low, high, range(low, high, kLossDecimals));
}

std::string share_text(double mean, double low, double high) {
  return with_band(percent(mean), low, high, range(100 * low, 100 * high, 1));
}

/// A chart of one curve per optimizer; nothing where no curve has a point.
template <class PointsOf>
std::optional<Chart> of_each(const Comparison& comparison, Chart chart, const PointsOf& points_of) {
  bool any = false;
  for (std::size_t i = 0; i < comparison.optimizers.size(); ++i) {
    const OptimizerResult& result = comparison.optimizers[i];
    chart.series.push_back({i, result.name, points_of(result)});
    any = any || std::any_of(chart.series.back().points.begin(), chart.series.back().points.end(),
                             [](const Point& point) { return std::isfinite(point.y); });
  }
  if (!any) return std::nullopt;
  return chart;
}

std::string step_text(Index step) { return "step " + grouped_digits(step); }

std::vector<Point> loss_by_step(const Comparison& comparison, const OptimizerResult& result, Index first) {
  Band band;
  std::copy_if(result.validation.begin(), result.validation.end(), std::back_inserter(band),
               [&](const BandPoint& point) { return point.step >= first; });
  std::vector<Point> points;
  for (const std::size_t i : thinned(band.size(), points_per_curve(comparison))) {
    const BandPoint& p = band[i];
    points.push_back({static_cast<double>(p.step), p.mean, p.low, p.high, step_text(p.step),
                      loss_text(p.mean, p.low, p.high)});
  }
  return points;
}

std::vector<Point> share_by_step(const Comparison& comparison, const Band& band) {
  std::vector<Point> points;
  for (const std::size_t i : thinned(band.size(), points_per_curve(comparison))) {
    const BandPoint& p = band[i];
    points.push_back({static_cast<double>(p.step), 100 * p.mean, 100 * std::max(0.0, p.low),
                      100 * std::min(1.0, p.high), step_text(p.step), share_text(p.mean, p.low, p.high)});
    if (!std::isfinite(p.low) || !std::isfinite(p.high)) points.back().low = points.back().high = kNaN;
  }
  return points;
}

std::vector<Point> by_quantile(const std::vector<double>& quantiles) {
  static constexpr std::array<const char*, 7> kNames = {
      "lowest", "1 % quantile", "10 % quantile", "median", "90 % quantile", "99 % quantile", "highest"};
  std::vector<Point> points;
  if (quantiles.size() != kNames.size()) return points;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    points.push_back({static_cast<double>(i), quantiles[i], kNaN, kNaN, kNames.at(i),
                      fmt::format("{:.3g}", quantiles[i])});
  }
  return points;
}

Chart leverage_chart(const std::string& which) {
  return {
      "Leverage of " + which + " at the end",
      "Quantiles of the leverage score over the balanced value, mean over layers and seeds, log scale.",
      {.label = "quantile of the " + which,
       .ticks = {{0, "0 %"}, {1, "1 %"}, {2, "10 %"}, {3, "50 %"}, {4, "90 %"}, {5, "99 %"}, {6, "100 %"}}},
      {.label = "leverage / balanced value (log scale)", .logarithmic = true},
      {},
      {{1, "balanced"}, {0.1, "starved below this"}}};
}

struct TimeUnit {
  const char* name;
  double seconds;
};

TimeUnit time_unit(const Comparison& comparison) {
  double longest = 0;
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const BandPoint& point : result.validation) {
      if (std::isfinite(point.seconds)) longest = std::max(longest, point.seconds);
    }
  }
  if (longest < 180) return {"s", 1};
  return longest < 3 * 3600 ? TimeUnit{"min", 60} : TimeUnit{"h", 3600};
}

std::vector<Point> loss_by_time(const Comparison& comparison, const OptimizerResult& result, TimeUnit unit,
                                Index first) {
  std::vector<Point> points = loss_by_step(comparison, result, first);
  for (Point& point : points) {
    const auto same_step =
        std::find_if(result.validation.begin(), result.validation.end(),
                     [&](const BandPoint& p) { return static_cast<double>(p.step) == point.x; });
    point.x = same_step->seconds / unit.seconds;
    point.at = fmt::format("{} {}, {}", number(point.x, 1), unit.name, point.at);
  }
  return points;
}

/// First step of the last third of the longest curve.
Index last_third(const Comparison& comparison) {
  Index last = comparison.steps;
  for (const OptimizerResult& result : comparison.optimizers) {
    if (!result.validation.empty()) last = std::max(last, result.validation.back().step);
  }
  return last - last / 3;
}

/// Without the curves whose end is more than eight times as far above the lowest as the middle one's: they
/// would press the others into one line. Nothing where no curve has two points.
std::optional<Chart> zoomed(std::optional<Chart> chart) {
  if (!chart) return chart;
  std::vector<double> lasts;
  bool curve = false;
  for (const Series& series : chart->series) {
    curve = curve || series.points.size() > 1;
    if (!series.points.empty() && std::isfinite(series.points.back().y))
      lasts.push_back(series.points.back().y);
  }
  if (!curve) return std::nullopt;
  std::sort(lasts.begin(), lasts.end());
  const double highest =
      lasts.empty() ? HUGE_VAL : lasts.front() + 8 * (lasts[lasts.size() / 2] - lasts.front());
  for (Series& series : chart->series) {
    if (series.points.empty() || series.points.back().y <= highest) continue;
    chart->note += (chart->note.empty() ? "Above the picture: " : ", ") + series.name;
    series.points.clear();
  }
  return chart;
}

std::vector<double> factors_tried(const Comparison& comparison) {
  std::vector<double> factors;
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const SweptRate& rate : result.swept) factors.push_back(rate.factor);
  }
  std::sort(factors.begin(), factors.end());
  factors.erase(std::unique(factors.begin(), factors.end()), factors.end());
  return factors;
}

/// One curve for each optimizer over the expansions.
template <class PointOf>
std::optional<Chart> by_expansion(const std::vector<ExpansionResult>& expansions, Chart chart,
                                  const PointOf& point_of) {
  bool any = false;
  for (const auto& name : curve_names(expansions)) chart.series.push_back({chart.series.size(), name, {}});
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

std::optional<Chart> validation_chart(const Comparison& comparison) {
  return of_each(comparison,
                 {"Validation loss by step",
                  "Mean over seeds; the band is its 95 % interval.",
                  {.label = "step"},
                  {.label = "nats per token"},
                  {}},
                 [&](const OptimizerResult& result) { return loss_by_step(comparison, result, 0); });
}

std::optional<Chart> validation_last_third_chart(const Comparison& comparison) {
  const Index first = last_third(comparison);
  return zoomed(
      of_each(comparison,
              {"Last third of the steps",
               "Validation loss, mean over seeds; the band is its 95 % interval.",
               {.label = "step"},
               {.label = "nats per token"},
               {}},
              [&](const OptimizerResult& result) { return loss_by_step(comparison, result, first); }));
}

std::optional<Chart> wall_time_chart(const Comparison& comparison) {
  const TimeUnit unit = time_unit(comparison);
  return of_each(
      comparison,
      {"Validation loss by wall time",
       "Mean over seeds against the time since a run's start on this machine, evaluation included.",
       {.label = fmt::format("time since the start, {}", unit.name), .from_zero = true},
       {.label = "nats per token"},
       {}},
      [&](const OptimizerResult& result) { return loss_by_time(comparison, result, unit, 0); });
}

std::optional<Chart> wall_time_last_third_chart(const Comparison& comparison) {
  const TimeUnit unit = time_unit(comparison);
  const Index first = last_third(comparison);
  return zoomed(
      of_each(comparison,
              {"Last third of the steps by wall time",
               "Validation loss, mean over seeds, against the time since a run's start.",
               {.label = fmt::format("time since the start, {}", unit.name)},
               {.label = "nats per token"},
               {}},
              [&](const OptimizerResult& result) { return loss_by_time(comparison, result, unit, first); }));
}

std::optional<Chart> starved_chart(const Comparison& comparison) {
  return of_each(
      comparison,
      {"Starved rows",
       "Share of gate and up rows whose momentum has leverage below 0.1 of the balanced value, mean over "
       "layers and seeds; the band is the 95 % interval over seeds.",
       {.label = "step"},
       {.label = "% of gate and up rows", .from_zero = true},
       {}},
      [&](const OptimizerResult& result) { return share_by_step(comparison, result.starved_share); });
}

std::optional<Chart> dead_chart(const Comparison& comparison) {
  return of_each(
      comparison,
      {"Dead neurons",
       "Share of neurons whose activation is below 0.1 of their layer's median, mean over layers and "
       "seeds; the band is the 95 % interval over seeds.",
       {.label = "step"},
       {.label = "% of neurons", .from_zero = true},
       {}},
      [&](const OptimizerResult& result) { return share_by_step(comparison, result.dead_share); });
}

std::optional<Chart> leverage_gate_up_chart(const Comparison& comparison) {
  return of_each(comparison, leverage_chart("gate and up rows"),
                 [](const OptimizerResult& result) { return by_quantile(result.leverage_gate_up); });
}

std::optional<Chart> leverage_down_chart(const Comparison& comparison) {
  return of_each(comparison, leverage_chart("down columns"),
                 [](const OptimizerResult& result) { return by_quantile(result.leverage_down); });
}

std::optional<Chart> sweep_chart(const Comparison& comparison) {
  Chart chart = {
      "Loss above the optimizer's own best",
      "Validation loss of every learning rate that was tried, less that of the best one, against the factor "
      "on the configured rate, log scale.",
      {.label = "factor on the learning rate (log scale)", .logarithmic = true},
      {.label = "nats per token", .from_zero = true},
      {}};
  for (const double factor : factors_tried(comparison))
    chart.x.ticks.push_back({factor, fmt::format("{:g}", factor)});
  return of_each(comparison, chart, [](const OptimizerResult& result) {
    std::vector<Point> points;
    const SweptRate* best = best_rate(result);
    if (best == nullptr) return points;
    for (const SweptRate& rate : result.swept) {
      points.push_back({rate.factor, rate.validation_loss - best->validation_loss, kNaN, kNaN,
                        fmt::format("factor {:g}", rate.factor),
                        fmt::format("{} at lr {:g}", number(rate.validation_loss, kLossDecimals), rate.lr)});
    }
    std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.x < b.x; });
    return points;
  });
}

double heat_top(const Comparison& comparison) {
  double highest = -1;
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const auto& layer : result.starved_by_layer) {
      for (const double share : layer) {
        if (std::isfinite(share)) highest = std::max(highest, share);
      }
    }
  }
  if (highest < 0) return 0;
  return std::clamp(std::ceil(highest * 20) / 20, 0.05, 1.0);
}

std::optional<HeatMap> starved_map(const Comparison& comparison, const OptimizerResult& result) {
  const double top = heat_top(comparison);
  if (top == 0 || result.starved_by_layer.empty() || result.neuron_steps.empty()) return std::nullopt;
  const auto layers = thinned(result.starved_by_layer.size(), kMostLayers);
  const auto steps = thinned(result.neuron_steps.size(),
                             std::max<std::size_t>(10, cells_per_map(comparison) / layers.size()));
  HeatMap map = {"Starved rows of " + result.name, {}, {}, {}, {}, top};
  for (const std::size_t step : steps) map.columns.push_back(grouped_digits(result.neuron_steps[step]));
  std::string last_record;
  for (const std::size_t layer : layers) {
    map.rows.push_back(std::to_string(layer));
    auto& row = map.shares.emplace_back();
    for (const std::size_t step : steps) {
      const auto& shares = result.starved_by_layer[layer];
      row.push_back(step < shares.size() ? shares[step] : kNaN);
    }
    last_record += fmt::format("{} layer {}: {}", last_record.empty() ? "" : ",", layer, percent(row.back()));
  }
  map.description =
      fmt::format("Share of starved gate and up rows by layer and step, mean over seeds. At step {}:{}.",
                  map.columns.back(), last_record);
  return map;
}

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

const SweptRate* best_rate(const OptimizerResult& result) {
  const SweptRate* best = nullptr;
  for (const SweptRate& rate : result.swept) {
    if (std::isfinite(rate.validation_loss) &&
        (best == nullptr || rate.validation_loss < best->validation_loss))
      best = &rate;
  }
  return best;
}

bool best_is_at_edge(const OptimizerResult& result) {
  const SweptRate* best = best_rate(result);
  if (best == nullptr || result.swept.size() < 2) return false;
  const auto [lowest, highest] =
      std::minmax_element(result.swept.begin(), result.swept.end(),
                          [](const SweptRate& a, const SweptRate& b) { return a.factor < b.factor; });
  return best->factor == lowest->factor || best->factor == highest->factor;
}

}  // namespace aurora::compare
