#include "compare_results.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "aurora/value_text.hpp"
#include "command.hpp"
#include "design.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {

using compare::Comparison;
using compare::Estimate;
using compare::OptimizerResult;

std::string decimals(double value) { return std::isfinite(value) ? fmt::format("{:.4f}", value) : "-"; }

std::string with_interval(const Estimate& value) {
  if (!std::isfinite(value.low)) return decimals(value.mean);
  return fmt::format("{:.4f} [{:.4f}, {:.4f}]", value.mean, value.low, value.high);
}

/// Without a sign where nothing is left of the number.
std::string signed_decimals(double value) {
  const std::string text = fmt::format("{:+.4f}", value);
  return text.find_first_of("123456789") == std::string::npos ? text.substr(1) : text;
}

std::string bounds(double low, double high) {
  return std::isfinite(low) ? fmt::format("[{}, {}]", signed_decimals(low), signed_decimals(high)) : "-";
}

std::string signed_interval(const Estimate& value) {
  if (!std::isfinite(value.mean)) return "-";
  const std::string mean = signed_decimals(value.mean);
  return std::isfinite(value.low) ? mean + " " + bounds(value.low, value.high) : mean;
}

Table result_table(const Comparison& comparison) {
  Table table{.heads = {"optimizer", "lr", "val loss", "minus " + comparison.baseline, "Holm 95 %",
                        "bits/byte", "starved", "dead", "row CV", "step ms", "optimizer"},
              .rows = {},
              .left = {0}};
  for (const OptimizerResult& result : comparison.optimizers) {
    const auto found = std::ranges::find(comparison.differences, result.name, &compare::Difference::a);
    std::string loss = with_interval(result.validation_loss);
    if (!result.diverged.empty()) {
      const auto& end = result.diverged.front();
      const std::string text =
          fmt::format("diverged at {}{}", end.step,
                      result.diverged.size() > 1 ? fmt::format(" ({} seeds)", result.diverged.size())
                                                 : fmt::format(" (seed {})", end.seed));
      loss = result.seeds.empty() ? text : loss + ", " + text;
    }
    const bool compared = found != comparison.differences.end();
    table.rows.push_back({result.name, std::isfinite(result.lr) ? number_text(result.lr) : "-", loss,
                          compared                             ? signed_interval(found->validation_loss)
                          : result.name == comparison.baseline ? "baseline"
                                                               : "-",
                          compared ? bounds(found->adjusted.low, found->adjusted.high) : "",
                          decimals(result.bits_per_byte.mean), percent(result.starved.mean),
                          percent(result.dead.mean), decimals(result.update_row_norm_cv.mean),
                          std::isfinite(result.step_ms) ? fmt::format("{:.1f}", result.step_ms) : "-",
                          percent(result.optimizer_share)});
  }
  return table;
}

/// Where the sweep chose other rates than the configured ones: the comparison without its help.
void print_equal_rates(const Comparison& comparison) {
  if (!comparison.equal_rates) return;
  const compare::EqualRates& rates = *comparison.equal_rates;
  Table table{
      .heads = {"at the configured rates", "lr", "val loss", "minus " + comparison.baseline, "Holm 95 %"},
      .rows = {},
      .left = {0}};
  for (const OptimizerResult& result : rates.optimizers) {
    const auto found = std::ranges::find(rates.differences, result.name, &compare::Difference::a);
    const bool compared = found != rates.differences.end();
    table.rows.push_back({result.name, number_text(result.lr), with_interval(result.validation_loss),
                          compared ? signed_interval(found->validation_loss) : "baseline",
                          compared ? bounds(found->adjusted.low, found->adjusted.high) : ""});
  }
  fmt::print("\n");
  print(table, stdout);
  if (rates.of_the_sweep) {
    fmt::print("{}\n",
               wrapped(fmt::format("from the sweep's {} alone; --equal-rates makes the result's seeds too",
                                   rates.optimizers.front().seeds.size() == 1 ? "seed" : "seeds"),
                       stdout));
  }
}

/// " 32,768 of 111,540 tokens evaluated."
std::string evaluated(const Comparison& comparison) {
  if (comparison.eval_tokens <= 0 || comparison.validation_bytes <= 0) return {};
  return fmt::format(
      " Losses: {} of the {} tokens of the validation text{}.",
      grouped(static_cast<double>(comparison.eval_tokens)),
      grouped(static_cast<double>(comparison.validation_bytes)),
      comparison.eval_tokens < comparison.validation_bytes / 2 ? " (--eval-tokens all: all)" : "");
}

}  // namespace

void print_results(const std::vector<compare::ExpansionResult>& results, const std::filesystem::path& out) {
  for (const auto& [expansion, comparison] : results) {
    if (results.size() > 1) {
      fmt::print("{}\n", bold(fmt::format("expansion {}, {} parameters", number_text(expansion),
                                          grouped(static_cast<double>(comparison.parameters))),
                              stdout));
    }
    print(result_table(comparison), stdout);
    print_equal_rates(comparison);
    fmt::print("\n{}\n\n", wrapped(printable(compare::answer(comparison)), stdout));
  }
  std::string explanation =
      "95 % intervals over seeds, Holm's adjusted for the number of differences; starved: momentum leverage "
      "below 0.1 of "
      "balanced; dead: activation below 0.1 of its layer's median; both at the last step, over layers.";
  explanation += evaluated(results.front().comparison);
  fmt::print("{}\nreport: {}\n", wrapped(explanation, stdout), (out / "report.html").string());
}

void print_warnings(const Comparison& comparison, std::string_view command) {
  std::fflush(stdout);
  for (const std::string& warning : comparison.warnings)
    show(stderr, wrapped(fmt::format("aurora {}: warning: {}", command, printable(warning)), stderr) + "\n");
}

}  // namespace aurora::cli
