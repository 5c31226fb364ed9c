#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "report_figures.hpp"
#include "report_page.hpp"
#include "report_sections.hpp"
#include "report_text.hpp"

namespace aurora::compare {

namespace {

/// Indices of the optimizers, lowest validation loss first, those without one last.
std::vector<std::size_t> by_loss(const Comparison& comparison) {
  std::vector<std::size_t> order(comparison.optimizers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto loss = [&](std::size_t i) {
    const double mean = comparison.optimizers[i].validation_loss.mean;
    return std::isfinite(mean) ? mean : HUGE_VAL;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return loss(a) < loss(b); });
  return order;
}

std::string heading(const Comparison& comparison) {
  std::string facts = counted(static_cast<Index>(comparison.optimizers.size()), "optimizer");
  if (!comparison.seeds.empty())
    facts += " · " + counted(static_cast<Index>(comparison.seeds.size()), "seed");
  if (comparison.steps > 0) facts += " · " + counted(comparison.steps, "step");
  if (comparison.parameters > 0) facts += " · " + counted(comparison.parameters, "parameter");
  if (!comparison.device_name.empty()) facts += " · " + comparison.device_name;
  const std::string unfinished = progress(comparison);
  std::string html = fmt::format(
      "<header>\n<p class=\"brand\">Aurora · comparison of optimizers</p>\n"
      "<h1 id=\"answer\">{}</h1>\n<p class=\"facts\">{}</p>\n",
      escape(typeset(answer(comparison))), escape(facts));
  if (!unfinished.empty())
    html += fmt::format("<p class=\"notice\" id=\"progress\">{}</p>\n", escape(unfinished));
  if (!comparison.warnings.empty()) {
    html += fmt::format(
        "<p class=\"notice\"><a href=\"#warnings\">{} below</a> what limits this comparison.</p>\n",
        comparison.warnings.size() == 1 ? "1 warning says"
                                        : fmt::format("{} warnings say", comparison.warnings.size()));
  }
  return html + "</header>\n";
}

std::string estimate_cell(const std::string& field, const std::string& mean, const std::string& interval,
                          bool bold) {
  return fmt::format("<td data-field=\"{}\">{}{}</td>", field, bold ? "<b>" + mean + "</b>" : mean,
                     interval.empty() ? "" : "<small>" + interval + "</small>");
}

std::string loss_cell(const std::string& field, const Estimate& e, bool best) {
  return estimate_cell(field, number(e.mean, kLossDecimals),
                       std::isfinite(e.low) ? range(e.low, e.high, kLossDecimals) : "", best);
}

std::string share_cell(const std::string& field, const Estimate& e) {
  return estimate_cell(field, percent(e.mean),
                       std::isfinite(e.low) ? range(100 * std::max(0.0, e.low), 100 * e.high, 1) : "", false);
}

/// The interval of each difference beside zero, all on one scale; what is far from the others ends in an
/// arrow.
class DifferencePicture {
 public:
  explicit DifferencePicture(const Comparison& comparison) {
    std::vector<double> reach;
    for (const Difference& d : comparison.differences) {
      double farthest = 0;
      for (const double value : {d.validation_loss.mean, d.validation_loss.low, d.validation_loss.high}) {
        if (std::isfinite(value)) farthest = std::max(farthest, std::abs(value));
      }
      if (farthest > 0) reach.push_back(farthest);
    }
    if (reach.empty()) return;
    std::sort(reach.begin(), reach.end());
    std::size_t last = reach.size() / 2;
    while (last + 1 < reach.size() && reach[last + 1] <= 3 * reach[last]) ++last;
    reach_ = reach[last];
  }

  bool empty() const { return reach_ == 0; }

  std::string cell(std::size_t index, const Difference* difference) const {
    if (empty()) return {};
    std::string marks = fmt::format("<path class=\"zero\" d=\"M{} 1V21\"/>", kMiddle);
    if (difference != nullptr && std::isfinite(difference->validation_loss.mean)) {
      const Estimate& d = difference->validation_loss;
      if (std::isfinite(d.low) && std::isfinite(d.high))
        marks += fmt::format("<path class=\"line\" d=\"M{:.1f} 11H{:.1f}\"/>", at(d.low), at(d.high));
      if (std::abs(d.mean) > reach_) {
        const double tip = d.mean < 0 ? 0 : 2 * kMiddle;
        marks += fmt::format("<path class=\"arrow\" d=\"M{} 11l{} -5v10z\"/>", tip, d.mean < 0 ? 9 : -9);
      } else {
        marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"11\" r=\"4\"/>", at(d.mean));
      }
    }
    return fmt::format(
        "<td class=\"picture\"><svg class=\"interval c{}\" aria-hidden=\"true\" viewBox=\"0 0 120 "
        "22\">{}</svg></td>",
        index % kColors, marks);
  }

 private:
  static constexpr double kMiddle = 60;
  double at(double value) const { return kMiddle + std::clamp(value / reach_, -1.0, 1.0) * (kMiddle - 6); }
  double reach_ = 0;
};

std::string diverged_text(const OptimizerResult& result) {
  std::string text;
  for (const Divergence& d : result.diverged)
    text += fmt::format("{}seed {}, step {}", text.empty() ? "" : "; ", d.seed, grouped_digits(d.step));
  return text;
}

std::string optimizer_row(const Comparison& comparison, const OptimizerResult& result, std::size_t slot,
                          bool best, const DifferencePicture& picture) {
  const Difference* found = against_baseline(comparison, result.name);
  std::string seeds = counted(static_cast<Index>(result.seeds.size()), "seed");
  if (!result.running.empty()) seeds += fmt::format(", {} running", result.running.size());
  std::string row =
      fmt::format("<tr data-optimizer=\"{}\">", escape(result.name)) +
      optimizer_cell(slot, result.name,
                     std::isfinite(result.lr) ? fmt::format("lr {:g}, {}", result.lr, seeds) : seeds);
  if (comparison.optimizers.size() > 1)
    row += difference_cell(found, result.name == comparison.baseline) + picture.cell(slot, found);
  row += loss_cell("val_loss", result.validation_loss, best);
  row += estimate_cell("bits_per_byte", number(result.bits_per_byte.mean, kLossDecimals), "", false);
  row += share_cell("starved", result.starved);
  row += share_cell("dead", result.dead);
  row +=
      fmt::format("<td data-field=\"update_row_norm_cv\">{}</td>", number(result.update_row_norm_cv.mean, 3));
  row += fmt::format("<td data-field=\"step_ms\">{}</td>", number(result.step_ms, 1));
  row += fmt::format("<td data-field=\"optimizer_share\">{}<small>{}</small></td>",
                     percent(result.optimizer_share),
                     std::isfinite(result.optimizer_ms) ? number(result.optimizer_ms, 1) + " ms" : "");
  return row + fmt::format("<td data-field=\"diverged\">{}<small>{}</small></td></tr>\n",
                           result.diverged.size(), result.diverged.empty() ? "" : diverged_text(result));
}

std::string column(std::string_view name, std::string_view unit = {}) {
  return fmt::format("<th scope=\"col\">{}{}</th>", name,
                     unit.empty() ? "" : fmt::format("<small>{}</small>", unit));
}

std::string optimizer_table(const Comparison& comparison) {
  const DifferencePicture picture(comparison);
  std::string content = "<thead><tr>" + column("optimizer");
  if (comparison.optimizers.size() > 1) {
    content += fmt::format("<th scope=\"col\">difference to {}<small>nats per token</small></th>{}",
                           escape(comparison.baseline), picture.empty() ? "" : "<th class=\"picture\"></th>");
  }
  content += column("validation loss", "nats per token") + column("bits per byte") +
             column("starved", "gate, up rows") + column("dead", "neurons") +
             column("row-norm CV", "of update") + column("step", "ms") + column("optimizer", "of a step") +
             column("diverged", "seeds") + "</tr></thead>\n<tbody>\n";
  bool first = true;
  const auto slots = series_slots(names_of(comparison));
  for (const std::size_t index : by_loss(comparison)) {
    const OptimizerResult& result = comparison.optimizers[index];
    const bool best = first && comparison.incomparable.empty() && std::isfinite(result.validation_loss.mean);
    content += optimizer_row(comparison, result, slots[index], best, picture);
    first = false;
  }
  return section(
      "optimizers", "Optimizers",
      "At the last step, mean over seeds with the 95 % interval below it; of a difference also Holm's, which "
      "allows for there being several. Lowest validation loss first." +
          evaluated(comparison),
      table(content + "</tbody>\n", "Optimizers") + equal_rates_table(comparison));
}

std::string heat_maps(const Comparison& comparison) {
  std::string content;
  const auto slots = series_slots(names_of(comparison));
  for (std::size_t i = 0; i < comparison.optimizers.size(); ++i) {
    const auto map = starved_map(comparison, comparison.optimizers[i]);
    if (!map) continue;
    content += fmt::format("<figure data-series=\"{}\"><figcaption>{}{}</figcaption>\n{}</figure>\n",
                           slots[i], swatch(slots[i]), escape(comparison.optimizers[i].name), heat_map(*map));
  }
  if (content.empty()) return {};
  return section(
      "layers", "Starved rows by layer",
      "Share of gate and up rows with leverage below 0.1 of the balanced value, by layer and step, mean over "
      "seeds. One shading for all.",
      heat_key(heat_top(comparison)) + "<div class=\"maps\">\n" + content + "</div>\n");
}

}  // namespace

std::string report_html(const Comparison& comparison) {
  const std::string switches = legend(names_of(comparison));
  const auto pictures = [&](std::string_view id, std::string_view title, std::string_view introduction,
                            const std::vector<std::optional<Chart>>& charts, const std::string& beside = {}) {
    const std::string drawn = figures(charts, beside);
    return section(id, title, introduction, drawn.empty() ? drawn : switches + drawn);
  };
  const std::string starvation =
      pictures("neurons", "Starved rows and dead neurons", "",
               {starved_chart(comparison), dead_chart(comparison)}) +
      heat_maps(comparison) + which_neurons(comparison) +
      pictures("cost", "What starvation costs",
               "If starvation were all that matters, the marks of all optimizers would lie on one curve.",
               {starvation_cost_chart(comparison)}) +
      pictures("leverage", "Leverage at the end",
               "How evenly the last momentum reaches the neurons: all would lie at 1 if it did so perfectly. "
               "Quantiles, "
               "mean over layers and seeds.",
               {leverage_gate_up_chart(comparison), leverage_down_chart(comparison)});
  const std::string without_records =
      starvation.empty() ? section("neurons", "Starved rows and dead neurons", "",
                                   comparison.complete ? "<p>These runs have no neuron records.</p>\n"
                                                       : "<p>No neuron records yet.</p>\n")
                         : "";
  const std::string loss =
      pictures("loss", "Validation loss", "Mean over seeds; the band is its 95 % interval.",
               {validation_chart(comparison), validation_last_third_chart(comparison)});
  return page(
      "Aurora: comparison of optimizers",
      heading(comparison) + optimizer_table(comparison) +
          (loss.empty() ? section("loss", "Validation loss", "", "<p>No evaluation yet.</p>\n") : loss) +
          starvation + without_records +
          pictures("time", "Loss against wall time",
                   "Steps times the median time of a step: neither evaluations nor a busy hour of the "
                   "machine count.",
                   {wall_time_chart(comparison), wall_time_last_third_chart(comparison)}) +
          pictures("sweep", "Learning-rate sweep",
                   "Every rate was tried on seeds that are not used for the result.",
                   {sweep_chart(comparison), sweep_starved_chart(comparison)}, sweep_table(comparison)) +
          warning_list(comparison) + hyperparameter_table(comparison) + how_it_was_run(comparison) +
          definitions());
}

}  // namespace aurora::compare
