#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "report_figures.hpp"
#include "report_page.hpp"
#include "report_text.hpp"

namespace aurora::compare {

namespace {

std::vector<std::string> names(const Comparison& comparison) {
  std::vector<std::string> result;
  for (const OptimizerResult& optimizer : comparison.optimizers) result.push_back(optimizer.name);
  return result;
}

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
                       std::isfinite(e.low) ? range(100 * e.low, 100 * e.high, 1) : "", false);
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

std::string optimizer_row(const Comparison& comparison, std::size_t index, bool best,
                          const DifferencePicture& picture) {
  const OptimizerResult& result = comparison.optimizers[index];
  const Difference* found = against_baseline(comparison, result.name);
  std::string seeds = counted(static_cast<Index>(result.seeds.size()), "seed");
  if (!result.running.empty()) seeds += fmt::format(", {} running", result.running.size());
  std::string row =
      fmt::format("<tr data-optimizer=\"{}\">", escape(result.name)) +
      optimizer_cell(index, result.name,
                     std::isfinite(result.lr) ? fmt::format("lr {:g}, {}", result.lr, seeds) : seeds);
  row += loss_cell("val_loss", result.validation_loss, best);
  if (comparison.optimizers.size() > 1) {
    row += difference_cell(found, result.name == comparison.baseline) + picture.cell(index, found);
  }
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
  std::string content = "<thead><tr>" + column("optimizer") + column("validation loss", "nats per token");
  if (comparison.optimizers.size() > 1) {
    content += fmt::format("<th scope=\"col\"{}>difference to {}<small>nats per token</small></th>",
                           picture.empty() ? "" : " colspan=\"2\"", escape(comparison.baseline));
  }
  content += column("bits per byte") + column("starved", "gate, up rows") + column("dead", "neurons") +
             column("row-norm CV", "of update") + column("step", "ms") + column("optimizer", "of a step") +
             column("diverged", "seeds") + "</tr></thead>\n<tbody>\n";
  bool first = true;
  for (const std::size_t index : by_loss(comparison)) {
    const bool best = first && std::isfinite(comparison.optimizers[index].validation_loss.mean);
    content += optimizer_row(comparison, index, best, picture);
    first = false;
  }
  return section(
      "optimizers", "Optimizers",
      "At the last step, mean over seeds with the 95 % interval below it. Lowest validation loss first.",
      table(content + "</tbody>\n", "Optimizers"));
}

std::string heat_maps(const Comparison& comparison) {
  std::string content;
  for (std::size_t i = 0; i < comparison.optimizers.size(); ++i) {
    const auto map = starved_map(comparison, comparison.optimizers[i]);
    if (!map) continue;
    content += fmt::format("<figure data-series=\"{}\"><figcaption>{}{}</figcaption>\n{}</figure>\n", i,
                           swatch(i), escape(comparison.optimizers[i].name), heat_map(*map));
  }
  if (content.empty()) return {};
  return section(
      "layers", "Starved rows by layer",
      "Share of gate and up rows with leverage below 0.1 of the balanced value, by layer and step, mean over "
      "seeds. One shading for all.",
      heat_key(heat_top(comparison)) + "<div class=\"maps\">\n" + content + "</div>\n");
}

std::string sweep_table(const Comparison& comparison) {
  std::string rows, at_edge;
  for (std::size_t i = 0; i < comparison.optimizers.size(); ++i) {
    const OptimizerResult& result = comparison.optimizers[i];
    if (result.swept.empty()) continue;
    const SweptRate* best = best_rate(result);
    std::string tried;
    for (const SweptRate& rate : result.swept) {
      const std::string value =
          std::isfinite(rate.validation_loss) ? number(rate.validation_loss, kLossDecimals) : "diverged";
      tried +=
          fmt::format("<li{}><b>{:g}</b> {}</li>", &rate == best ? " class=\"best\"" : "", rate.lr, value);
    }
    rows += fmt::format("<tr>{}<td class=\"rates\"><ul>{}</ul></td></tr>\n", optimizer_cell(i, result.name),
                        tried);
    if (best_is_at_edge(result))
      at_edge += fmt::format("{}{} ({:g})", at_edge.empty() ? "" : ", ", escape(result.name), best->lr);
  }
  if (rows.empty()) return {};
  const std::string warning =
      at_edge.empty()
          ? ""
          : "<p class=\"notice\">The best rate lies at the edge of the sweep, so one beyond it may be better "
            "still: " +
                at_edge + ".</p>\n";
  return warning +
         table(
             "<thead><tr><th scope=\"col\">optimizer</th><th scope=\"col\" class=\"rates\">validation "
             "loss by learning rate<small>lowest underlined</small></th></tr></thead>\n<tbody>\n" +
                 rows + "</tbody>\n",
             "Learning rates tried");
}

std::string warning_list(const Comparison& comparison) {
  std::string items;
  for (const auto& warning : comparison.warnings) items += "<li>" + escape(warning) + "</li>\n";
  return section("warnings", "Warnings", "",
                 items.empty() ? "<p>None.</p>\n" : "<ul class=\"warnings\">\n" + items + "</ul>\n");
}

std::string hash_cell(const std::vector<std::string>& hashes, std::size_t seed) {
  if (seed >= hashes.size() || hashes[seed].empty()) return "<td class=\"higher\">not shown to agree</td>";
  return fmt::format("<td><span class=\"lower\">the same</span> <code>{}</code></td>",
                     escape(std::string_view(hashes[seed]).substr(0, 16)));
}

/// Whether all optimizers started from the same weights and saw the same text, seed by seed.
std::string agreement(const Comparison& comparison) {
  if (comparison.seeds.empty()) return {};
  std::string rows;
  for (std::size_t i = 0; i < comparison.seeds.size(); ++i) {
    rows += fmt::format("<tr><th scope=\"row\">{}</th>{}{}</tr>\n", comparison.seeds[i],
                        hash_cell(comparison.initial_weights_sha256, i),
                        hash_cell(comparison.data_order_sha256, i));
  }
  return table(
      "<thead><tr><th scope=\"col\">seed</th><th scope=\"col\">initial weights</th>"
      "<th scope=\"col\">data order</th></tr></thead>\n<tbody>\n" +
          rows + "</tbody>\n",
      "Initial weights and data order over all optimizers (SHA-256)");
}

std::string how_it_was_run(const Comparison& comparison) {
  const std::string command = comparison.command.empty()
                                  ? "<p>Runs that were trained separately.</p>\n"
                                  : "<pre class=\"command\">" + escape(comparison.command) + "</pre>\n";
  std::string data;
  if (comparison.data_files > 0) {
    data =
        fmt::format("{}, {}", counted(comparison.data_files, "file"), counted(comparison.data_bytes, "byte"));
    if (!comparison.data_sha256.empty()) data += ", SHA-256 " + comparison.data_sha256;
  }
  const std::string list =
      entry("data", data) +
      entry("tokens per step",
            comparison.tokens_per_step > 0 ? grouped_digits(comparison.tokens_per_step) : "") +
      entry("device", comparison.device) +
      entry("threads", comparison.threads > 0 ? std::to_string(comparison.threads) : "") +
      entry("BLAS", comparison.blas) + entry("PyTorch", comparison.torch) +
      entry("aurora", comparison.version) + entry("first run started", comparison.started);
  std::string config;
  if (!comparison.config.empty()) {
    config = fmt::format(
        "<details><summary>Configuration of the first run</summary><pre>{}</pre></details>\n",
        escape(comparison.config.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)));
  }
  return section(
      "run", "How it was run", "",
      command + (list.empty() ? "" : "<dl>\n" + list + "</dl>\n") + agreement(comparison) + config);
}

std::string definitions() {
  return section(
      "definitions", "What the numbers mean", "",
      "<dl class=\"definitions\">\n" +
          entry("loss",
                "nats per token on the validation text, a token being a byte; bits per byte = loss / ln 2") +
          entry("interval",
                "95 %, by Student's t over seeds. A difference is the optimizer's loss minus the "
                "baseline's, paired by seed; intervals are not adjusted for there being several.") +
          entry("leverage",
                "of row i of a tall matrix X: |u_i|² with U the exact polar factor of X; in [0, 1]. "
                "Here X is the momentum (under AdamW the first moment), by rows of gate and up and by "
                "columns of down: the same index is the same neuron. The balanced value is n/m for an m x n "
                "matrix.") +
          entry("starved",
                "a row of gate or up with leverage below 0.1 of the balanced value; mean over layers and "
                "over gate and up") +
          entry("dead",
                "a neuron whose SwiGLU activation, RMS over a fixed validation batch, is below 0.1 of its "
                "layer's median; mean over layers") +
          entry("row-norm CV",
                "standard deviation / mean of the norms of the last update along the neuron axis; not "
                "defined under AdamW") +
          entry("step, optimizer",
                "median time of a training step, and of the optimizer in it, over the steps of a "
                "run; mean over seeds") +
          "</dl>\n");
}

}  // namespace

std::string report_html(const Comparison& comparison) {
  const std::string switches = legend(names(comparison));
  const auto pictures = [&](std::string_view id, std::string_view title, std::string_view introduction,
                            const std::vector<std::optional<Chart>>& charts, const std::string& beside = {}) {
    const std::string drawn = figures(charts, beside);
    return section(id, title, introduction, drawn.empty() ? drawn : switches + drawn);
  };
  const std::string starvation =
      pictures("neurons", "Starved rows and dead neurons", "",
               {starved_chart(comparison), dead_chart(comparison)}) +
      heat_maps(comparison) +
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
          pictures("time", "Loss against wall time", "",
                   {wall_time_chart(comparison), wall_time_last_third_chart(comparison)}) +
          pictures("sweep", "Learning-rate sweep",
                   "Every rate was tried on seeds that are not used for the result.",
                   {sweep_chart(comparison)}, sweep_table(comparison)) +
          warning_list(comparison) + how_it_was_run(comparison) + definitions());
}

}  // namespace aurora::compare
