#include "report_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace aurora::compare {

namespace {

constexpr std::string_view kNotDefined = "–";

}  // namespace

std::string number(double value, int decimals) {
  if (!std::isfinite(value)) return std::string(kNotDefined);
  const std::string digits = fmt::format("{:.{}f}", std::abs(value), decimals);
  const bool zero = digits.find_first_not_of("0.") == std::string::npos;
  return (value < 0 && !zero ? "−" : "") + digits;
}

std::string signed_number(double value, int decimals) {
  const std::string text = number(value, decimals);
  const bool positive =
      std::isfinite(value) && value > 0 && text.find_first_not_of("0.") != std::string::npos;
  return (positive ? "+" : "") + text;
}

std::string percent(double share) {
  return std::isfinite(share) ? number(100 * share, 1) + "\u00a0%" : std::string(kNotDefined);
}

std::string range(double low, double high, int decimals) {
  return number(low, decimals) + " to " + number(high, decimals);
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

std::string typeset(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool after_space = i > 0 && text[i - 1] == ' ';
    const char next = i + 1 < text.size() ? text[i + 1] : ' ';
    if (text[i] == '-' && after_space && next >= '0' && next <= '9') {
      out += "−";
    } else if (text[i] == ' ' && next == '%') {
      out += "\u00a0";
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string counted(Index count, const std::string& singular) {
  return fmt::format("{} {}{}", grouped_digits(count), singular, count == 1 ? "" : "s");
}

std::string grouped_digits(Index value) {
  std::string digits = std::to_string(value);
  for (auto at = static_cast<Index>(digits.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

std::vector<std::string> names_of(const Comparison& comparison) {
  std::vector<std::string> names;
  for (const OptimizerResult& optimizer : comparison.optimizers) names.push_back(optimizer.name);
  return names;
}

const Difference* against_baseline(const Comparison& comparison, const std::string& optimizer) {
  const auto found =
      std::find_if(comparison.differences.begin(), comparison.differences.end(),
                   [&](const Difference& d) { return d.a == optimizer && d.b == comparison.baseline; });
  return found == comparison.differences.end() ? nullptr : &*found;
}

Verdict verdict(const Difference& difference) {
  if (difference.validation_loss.values.size() < kLeastForAConclusion) return Verdict::open;
  if (difference.adjusted.high < 0) return Verdict::lower;
  return difference.adjusted.low > 0 ? Verdict::higher : Verdict::open;
}

std::string progress(const Comparison& comparison) {
  if (comparison.complete) return {};
  std::size_t ended = 0, running = 0;
  for (const OptimizerResult& result : comparison.optimizers) {
    ended += result.seeds.size() + result.diverged.size();
    running += result.running.size();
  }
  std::string text = fmt::format("Not complete: {} ended, {} not at the last step yet",
                                 counted(static_cast<Index>(ended), "run"), running);
  const std::size_t planned = comparison.optimizers.size() * comparison.seeds.size();
  if (planned > ended + running) text += fmt::format(", {} not begun", planned - ended - running);
  int sweep_ended = 0, sweep_running = 0;
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const SweptRate& rate : result.swept) {
      sweep_ended += rate.finished + rate.diverged;
      sweep_running += rate.running;
    }
  }
  if (sweep_running > 0)
    text += fmt::format("; of the sweep {} ended, {} not at the last step yet", counted(sweep_ended, "run"),
                        sweep_running);
  return text + ".";
}

}  // namespace aurora::compare
