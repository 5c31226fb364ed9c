#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "comparison.hpp"

namespace aurora::compare {
namespace {

using Ranked = std::vector<const OptimizerResult*>;

std::string decimals(double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.4f", value == 0 ? 0.0 : value);
  return buffer.data();
}

std::string interval(double low, double high) {
  if (!std::isfinite(low)) return "95 % interval not defined";
  return "95 % interval " + decimals(low) + " to " + decimals(high);
}

/// Lowest loss first. Whoever lost a seed is not the winner, whatever the mean of its others.
Ranked ranked_of(const Comparison& comparison, std::size_t seeds) {
  Ranked ranked;
  for (const OptimizerResult& result : comparison.optimizers) {
    if (result.seeds.size() == seeds && result.diverged.empty() && std::isfinite(result.validation_loss.mean))
      ranked.push_back(&result);
  }
  std::ranges::stable_sort(ranked, {}, [](const auto* result) { return result->validation_loss.mean; });
  return ranked;
}

/// Of the best against the second, adjusted for its having been picked among all pairs.
Difference among_all_pairs(const Ranked& ranked) {
  std::vector<Difference> pairs = {difference(*ranked[0], *ranked[1])};
  for (std::size_t i = 0; i < ranked.size(); ++i)
    for (std::size_t j = std::max<std::size_t>(i + 1, 2); j < ranked.size(); ++j)
      pairs.push_back(difference(*ranked[i], *ranked[j]));
  adjust(pairs);
  return pairs.front();
}

/// "0.0190 below muon (95 % interval 0.0100 to 0.0280)": how far below, so that words and interval have one
/// sign.
std::string clause(const Difference& gain) {
  const Adjusted& adjusted = gain.adjusted;
  const std::string size = decimals(-gain.validation_loss.mean) + " below " + gain.b;
  const std::string range = interval(-adjusted.high, -adjusted.low);
  return adjusted.high < 0 ? size + " (" + range + ")"
                           : size + ", which is within the seeds' spread (" + range + " includes 0)";
}

}  // namespace

std::string answer(const Comparison& comparison) {
  if (!comparison.incomparable.empty())
    return "These runs are not comparable, so none is named best: " + comparison.incomparable.front() +
           (comparison.incomparable.size() > 1
                ? ", and " + std::to_string(comparison.incomparable.size() - 1) + " more."
                : ".");
  std::size_t seeds = 0;
  for (const OptimizerResult& result : comparison.optimizers) seeds = std::max(seeds, result.seeds.size());
  const Ranked ranked = ranked_of(comparison, seeds);
  if (seeds == 0 || ranked.empty())
    return comparison.complete ? "No optimizer finished all of its runs." : "No run has finished yet.";
  const OptimizerResult& best = *ranked.front();
  const std::string loss = decimals(best.validation_loss.mean);
  if (comparison.optimizers.size() == 1) {
    return best.name + " reached a validation loss of " + loss + " nats per token" +
           (seeds > 1 ? " (" + interval(best.validation_loss.low, best.validation_loss.high) + ")" : "") +
           "; there is nothing to compare it with.";
  }
  if (ranked.size() == 1) return "Only " + best.name + " finished its runs: validation loss " + loss + ".";
  const OptimizerResult& second = *ranked[1];
  if (seeds < kLeastForAConclusion) {
    return std::string(seeds == 1 ? "With one seed" : "With two seeds") +
           " nothing can be concluded: " + best.name + " has the lowest validation loss, " + loss +
           ", before " + second.name + " with " + decimals(second.validation_loss.mean) + ".";
  }
  const std::string lead = best.name + " has the lowest validation loss, " + loss + " nats per token over " +
                           std::to_string(seeds) + " seeds, ";
  const auto against_baseline = std::ranges::find(comparison.differences, best.name, &Difference::a);
  const bool baseline_is_ranked = std::ranges::find(ranked, comparison.baseline, [](const auto* result) {
                                    return result->name;
                                  }) != ranked.end();
  if (against_baseline == comparison.differences.end() || !baseline_is_ranked)
    return lead + clause(among_all_pairs(ranked)) + ".";
  if (second.name == comparison.baseline) return lead + clause(*against_baseline) + ".";
  return lead + clause(*against_baseline) + " and " + clause(among_all_pairs(ranked)) + ".";
}

}  // namespace aurora::compare
