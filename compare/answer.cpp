#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>

#include "comparison.hpp"

namespace aurora::compare {
namespace {

std::string decimals(double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.4f", value);
  return buffer.data();
}

std::string interval(const Estimate& value) {
  if (!std::isfinite(value.low)) return "95 % interval not defined";
  return "95 % interval " + decimals(value.low) + " to " + decimals(value.high);
}

bool excludes_zero(const Estimate& value) { return value.high < 0 || value.low > 0; }

}  // namespace

std::string answer(const Comparison& comparison) {
  // Whoever lost a seed is not the winner, whatever the mean of its others.
  std::vector<const OptimizerResult*> ranked;
  std::size_t most_seeds = 0;
  for (const OptimizerResult& result : comparison.optimizers)
    most_seeds = std::max(most_seeds, result.seeds.size());
  for (const OptimizerResult& result : comparison.optimizers) {
    if (result.seeds.size() == most_seeds && result.diverged.empty() &&
        std::isfinite(result.validation_loss.mean))
      ranked.push_back(&result);
  }
  std::ranges::stable_sort(ranked, {}, [](const auto* result) { return result->validation_loss.mean; });
  if (most_seeds == 0 || ranked.empty()) {
    return comparison.complete ? "No optimizer finished all of its runs." : "No run has finished yet.";
  }
  const OptimizerResult& best = *ranked.front();
  const std::string loss = decimals(best.validation_loss.mean);
  if (comparison.optimizers.size() == 1) {
    return best.name + " reached a validation loss of " + loss + " nats per token" +
           (most_seeds > 1 ? " (" + interval(best.validation_loss) + ")" : "") +
           "; there is nothing to compare it with.";
  }
  if (ranked.size() == 1) return "Only " + best.name + " finished its runs: validation loss " + loss + ".";
  const OptimizerResult& second = *ranked[1];
  if (most_seeds == 1) {
    return "With one seed nothing can be concluded: " + best.name + " has the lowest validation loss, " +
           loss + ", before " + second.name + " with " + decimals(second.validation_loss.mean) + ".";
  }

  const auto baseline =
      std::ranges::find_if(ranked, [&](const auto* result) { return result->name == comparison.baseline; });
  const bool against_baseline = baseline != ranked.end() && baseline != ranked.begin();
  const OptimizerResult& other = against_baseline ? **baseline : second;
  const auto clause = [&](const OptimizerResult& against) {
    const Estimate gain = difference(best, against).validation_loss;
    const std::string size = decimals(-gain.mean) + " below " + against.name;
    return excludes_zero(gain) ? size + " (" + interval(gain) + " of the difference)"
                               : size + ", which is within the seeds' spread (" + interval(gain) +
                                     " of the difference includes 0)";
  };
  std::string text = best.name + " has the lowest validation loss, " + loss + " nats per token over " +
                     std::to_string(most_seeds) + " seeds, " + clause(other);
  if (&other != &second) text += " and " + clause(second);
  return text + ".";
}

}  // namespace aurora::compare
