#pragma once

#include <filesystem>
#include <string>

#include "comparison.hpp"
#include "svg.hpp"

namespace aurora::compare {

/// Writes what a paper takes from a comparison into FOLDER, which is made:
///   NAME.svg, NAME.csv   every figure of the report, with a legend and without a style sheet; and its
/// numbers
///   optimizers.csv       what each optimizer came to, means with their intervals
///   runs.csv             the finished runs behind them, one a line
///   differences.csv      with plain and Holm's intervals, of the result and at the configured rates
///   sweep.csv, hyperparameters.csv
///   neurons.csv          every row that was ever starved and every neuron that was ever dead, by number
///   starved-by-layer.csv, starved-by-layer-OPTIMIZER.svg
///   results.tex          the table of the optimizers, for LaTeX without packages
///   environment.json     machine, versions, commit, command, configuration
/// Numbers read back exactly; what is not defined is an empty field. Throws std::runtime_error naming the
/// file.
void export_comparison(const Comparison& comparison, const std::filesystem::path& folder);

/// The figures over the expansions, and each of them below FOLDER/expansion-<e>.
void export_comparison(const std::vector<ExpansionResult>& expansions, const std::filesystem::path& folder);

/// A figure that stands alone: white, with its title and a legend, its colours as attributes of a style of
/// its own.
std::string standalone_svg(const Chart& chart);
std::string standalone_svg(const HeatMap& map);

/// A field of a CSV file as RFC 4180 quotes it.
std::string csv_field(const std::string& text);

/// The table of the optimizers; LaTeX's own characters in names are escaped.
std::string latex_table(const Comparison& comparison);

}  // namespace aurora::compare
