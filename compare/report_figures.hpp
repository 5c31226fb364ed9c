#pragma once

#include <optional>
#include <string>

#include "comparison.hpp"
#include "svg.hpp"

namespace aurora::compare {

// One function per figure; empty where the comparison has nothing to draw.

std::optional<Chart> validation_chart(const Comparison& comparison);
std::optional<Chart> wall_time_chart(const Comparison& comparison);
// The same over the last third of the steps; optimizers far above the others are left out, which the note
// says.
std::optional<Chart> validation_last_third_chart(const Comparison& comparison);
std::optional<Chart> wall_time_last_third_chart(const Comparison& comparison);
std::optional<Chart> starved_chart(const Comparison& comparison);
std::optional<Chart> dead_chart(const Comparison& comparison);
std::optional<Chart> leverage_gate_up_chart(const Comparison& comparison);
std::optional<Chart> leverage_down_chart(const Comparison& comparison);
std::optional<Chart> sweep_chart(const Comparison& comparison);
/// Starved share at the last step by factor on the rate, of the sweep.
std::optional<Chart> sweep_starved_chart(const Comparison& comparison);
/// What starvation costs: a mark for each rate of each optimizer, loss against starved share.
std::optional<Chart> starvation_cost_chart(const Comparison& comparison);

/// All of the above that there are, under names that files can have: "validation", "wall-time".
struct NamedChart {
  std::string name;
  Chart chart;
};
std::vector<NamedChart> charts_of(const Comparison& comparison);

/// Without the curves whose end is more than eight times as far above the lowest as the middle one's: they
/// would press the others into one line. Nothing where no curve has two points.
std::optional<Chart> zoomed(std::optional<Chart> chart);

/// Upper end of the shading that all heat maps share; 0 without neuron records.
double heat_top(const Comparison& comparison);
std::optional<HeatMap> starved_map(const Comparison& comparison, const OptimizerResult& result);

/// All optimizers of all expansions; a place in it is the index of the series.
std::vector<std::string> curve_names(const std::vector<ExpansionResult>& expansions);
/// Validation loss minus that of the baseline, against the expansion factor.
std::optional<Chart> gain_chart(const std::vector<ExpansionResult>& expansions);
/// Starved share of the end, against the expansion factor.
std::optional<Chart> starved_by_expansion_chart(const std::vector<ExpansionResult>& expansions);

/// The best of the rates tried with everything else as configured, by validation loss; null without one that
/// finished.
const SweptRate* best_rate(const OptimizerResult& result);
/// Whether a lower or higher rate than the best was not tried.
bool best_is_at_edge(const OptimizerResult& result);

}  // namespace aurora::compare
