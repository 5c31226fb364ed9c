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

/// Keeps the page small whatever it is made of: cells of one heat map.
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

/// A chart of one curve per optimizer; nothing where no curve has a point.
template <class PointsOf>
std::optional<Chart> of_each(const Comparison& comparison, Chart chart, const PointsOf& points_of) {
  bool any = false;
  const auto slots = series_slots(names_of(comparison));
  for (std::size_t i = 0; i < comparison.optimizers.size(); ++i) {
    const OptimizerResult& result = comparison.optimizers[i];
    chart.series.push_back({slots[i], result.name, points_of(result)});
    any = any || std::any_of(chart.series.back().points.begin(), chart.series.back().points.end(),
                             [](const Point& point) { return std::isfinite(point.y); });
  }
  if (!any) return std::nullopt;
  return chart;
}

std::string step_text(Index step) { return "step " + grouped_digits(step); }

/// A loss is never below 0, whatever the interval says.
std::vector<Point> loss_by_step(const OptimizerResult& result, Index first) {
  std::vector<Point> points;
  for (const BandPoint& p : result.validation) {
    if (p.step < first) continue;
    const double low = std::isfinite(p.low) ? std::max(0.0, p.low) : kNaN;
    points.push_back({static_cast<double>(p.step), p.mean, low, p.high, step_text(p.step),
                      loss_text(p.mean, p.low, p.high)});
  }
  return points;
}

std::vector<Point> share_by_step(const Band& band) {
  std::vector<Point> points;
  for (const BandPoint& p : band) {
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

std::vector<Point> loss_by_time(const OptimizerResult& result, TimeUnit unit, Index first) {
  std::vector<Point> points = loss_by_step(result, first);
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

/// The points of a sweep that differ from the configuration by the rate alone, by factor.
std::vector<const SweptRate*> rates_alone(const OptimizerResult& result) {
  std::vector<const SweptRate*> rates;
  for (const SweptRate& rate : result.swept)
    if (rate.others.empty()) rates.push_back(&rate);
  std::ranges::sort(rates, {}, &SweptRate::factor);
  return rates;
}

std::vector<Tick> factor_ticks(const Comparison& comparison) {
  std::vector<double> factors;
  for (const OptimizerResult& result : comparison.optimizers)
    for (const SweptRate* rate : rates_alone(result)) factors.push_back(rate->factor);
  std::sort(factors.begin(), factors.end());
  factors.erase(std::unique(factors.begin(), factors.end()), factors.end());
  std::vector<Tick> ticks;
  for (const double factor : factors) ticks.push_back({factor, fmt::format("{:g}", factor)});
  return ticks;
}

/// Without the marks more than eight times as far above the lowest as the middle one, which the note says.
std::optional<Chart> without_outliers(std::optional<Chart> chart) {
  if (!chart) return chart;
  std::vector<double> values;
  for (const Series& series : chart->series)
    for (const Point& point : series.points)
      if (std::isfinite(point.y) && std::isfinite(point.x)) values.push_back(point.y);
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const double highest = values.front() + 8 * (values[values.size() / 2] - values.front());
  std::size_t left_out = 0;
  for (Series& series : chart->series)
    left_out += std::erase_if(series.points, [&](const Point& point) { return point.y > highest; });
  if (left_out > 0) chart->note = counted(static_cast<Index>(left_out), "mark") + " above the picture";
  return chart;
}

}  // namespace

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

std::optional<Chart> validation_chart(const Comparison& comparison) {
  return of_each(comparison,
                 {"Validation loss by step",
                  "Mean over seeds; the band is its 95 % interval.",
                  {.label = "step"},
                  {.label = "nats per token"},
                  {}},
                 [&](const OptimizerResult& result) { return loss_by_step(result, 0); });
}

std::optional<Chart> validation_last_third_chart(const Comparison& comparison) {
  const Index first = last_third(comparison);
  return zoomed(of_each(comparison,
                        {"Last third of the steps",
                         "Validation loss, mean over seeds; the band is its 95 % interval.",
                         {.label = "step"},
                         {.label = "nats per token"},
                         {}},
                        [&](const OptimizerResult& result) { return loss_by_step(result, first); }));
}

std::optional<Chart> wall_time_chart(const Comparison& comparison) {
  const TimeUnit unit = time_unit(comparison);
  return of_each(
      comparison,
      {"Validation loss by wall time",
       "Mean over seeds against training time: steps times the median time of a step, without evaluations.",
       {.label = fmt::format("training time, {}", unit.name), .from_zero = true},
       {.label = "nats per token"},
       {}},
      [&](const OptimizerResult& result) { return loss_by_time(result, unit, 0); });
}

std::optional<Chart> wall_time_last_third_chart(const Comparison& comparison) {
  const TimeUnit unit = time_unit(comparison);
  const Index first = last_third(comparison);
  return zoomed(of_each(comparison,
                        {"Last third of the steps by wall time",
                         "Validation loss, mean over seeds, against training time.",
                         {.label = fmt::format("training time, {}", unit.name)},
                         {.label = "nats per token"},
                         {}},
                        [&](const OptimizerResult& result) { return loss_by_time(result, unit, first); }));
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
      [&](const OptimizerResult& result) { return share_by_step(result.starved_share); });
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
      [&](const OptimizerResult& result) { return share_by_step(result.dead_share); });
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
  chart.x.ticks = factor_ticks(comparison);
  return of_each(comparison, chart, [](const OptimizerResult& result) {
    std::vector<Point> points;
    const SweptRate* best = best_rate(result);
    if (best == nullptr) return points;
    for (const SweptRate* rate : rates_alone(result)) {
      points.push_back(
          {rate->factor, rate->validation_loss - best->validation_loss, kNaN, kNaN,
           fmt::format("factor {:g}", rate->factor),
           fmt::format("{} at lr {:g}", number(rate->validation_loss, kLossDecimals), rate->lr)});
    }
    return points;
  });
}

std::optional<Chart> sweep_starved_chart(const Comparison& comparison) {
  Chart chart = {"Starved rows by learning rate",
                 "Share of starved gate and up rows at the last step of every learning rate that was tried.",
                 {.label = "factor on the learning rate (log scale)", .logarithmic = true},
                 {.label = "% of gate and up rows", .from_zero = true},
                 {}};
  chart.x.ticks = factor_ticks(comparison);
  return of_each(comparison, chart, [](const OptimizerResult& result) {
    std::vector<Point> points;
    for (const SweptRate* rate : rates_alone(result)) {
      points.push_back({rate->factor, 100 * rate->starved, kNaN, kNaN,
                        fmt::format("factor {:g}", rate->factor),
                        fmt::format("{} starved, {} dead", percent(rate->starved), percent(rate->dead))});
    }
    return points;
  });
}

std::optional<Chart> starvation_cost_chart(const Comparison& comparison) {
  Chart chart = {
      "What starvation costs",
      "Validation loss against the share of starved gate and up rows, both at the last step: a mark for each "
      "rate of the sweep, and for each seed of the result.",
      {.label = "% of gate and up rows starved", .from_zero = true},
      {.label = "validation loss, nats per token"},
      {}};
  chart.joined = false;
  const auto mark = [](double starved, double loss, const std::string& of) {
    return Point{100 * starved,
                 loss,
                 kNaN,
                 kNaN,
                 percent(starved) + " starved",
                 number(loss, kLossDecimals) + " " + of};
  };
  return without_outliers(of_each(comparison, chart, [&](const OptimizerResult& result) {
    std::vector<Point> points;
    for (const SweptRate& rate : result.swept)
      points.push_back(mark(rate.starved, rate.validation_loss, fmt::format("at lr {:g}", rate.lr)));
    for (std::size_t i = 0; i < std::min(result.seeds.size(), result.starved.values.size()); ++i) {
      points.push_back(mark(result.starved.values[i], result.validation_loss.values[i],
                            fmt::format("of seed {}", result.seeds[i])));
    }
    std::ranges::sort(points, {}, &Point::x);
    return points;
  }));
}

std::vector<NamedChart> charts_of(const Comparison& comparison) {
  const std::pair<const char*, std::optional<Chart> (*)(const Comparison&)> all[] = {
      {"validation", validation_chart},
      {"validation-last-third", validation_last_third_chart},
      {"starved", starved_chart},
      {"dead", dead_chart},
      {"starvation-cost", starvation_cost_chart},
      {"leverage-gate-up", leverage_gate_up_chart},
      {"leverage-down", leverage_down_chart},
      {"wall-time", wall_time_chart},
      {"wall-time-last-third", wall_time_last_third_chart},
      {"sweep", sweep_chart},
      {"sweep-starved", sweep_starved_chart}};
  std::vector<NamedChart> charts;
  for (const auto& [name, chart_of] : all)
    if (auto chart = chart_of(comparison)) charts.push_back({name, std::move(*chart)});
  return charts;
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

const SweptRate* best_rate(const OptimizerResult& result) {
  const SweptRate* best = nullptr;
  for (const SweptRate* rate : rates_alone(result)) {
    if (std::isfinite(rate->validation_loss) &&
        (best == nullptr || rate->validation_loss < best->validation_loss))
      best = rate;
  }
  return best;
}

bool best_is_at_edge(const OptimizerResult& result) {
  const SweptRate* best = best_rate(result);
  const auto rates = rates_alone(result);
  return best != nullptr && rates.size() > 1 && (best == rates.front() || best == rates.back());
}

}  // namespace aurora::compare
