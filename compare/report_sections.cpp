#include "report_sections.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "aurora/value_text.hpp"
#include "report_figures.hpp"
#include "report_page.hpp"
#include "report_text.hpp"

namespace aurora::compare {

namespace {

/// Of a list of neurons, so many are printed.
constexpr std::size_t kMostListed = 24;

std::string head_cell(std::string_view text, std::string_view below = {}) {
  return fmt::format("<th scope=\"col\">{}{}</th>", escape(text),
                     below.empty() ? "" : fmt::format("<small>{}</small>", escape(below)));
}

std::string share_cell(const Estimate& share) {
  return fmt::format("<td>{}{}</td>", percent(share.mean),
                     std::isfinite(share.low)
                         ? "<small>" + range(100 * std::max(0.0, share.low), 100 * share.high, 1) + "</small>"
                         : "");
}

/// "layer 2 gate: 3 (step 50), 17 (step 200)", starved at the end, with the step since when.
std::string listed(const std::vector<NeuronFate>& fates, std::uint64_t seed) {
  std::map<std::string, std::pair<std::string, std::size_t>> places;
  for (const NeuronFate& fate : fates) {
    if (fate.seed != seed || fate.since < 0) continue;
    auto& [text, count] =
        places[fmt::format("layer {}, {}", fate.layer, fate.what == "dead" ? "dead" : fate.what + " rows")];
    if (++count <= kMostListed)
      text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", fate.neuron, grouped_digits(fate.since));
  }
  std::string entries;
  for (const auto& [place, list] : places) {
    const auto& [text, count] = list;
    entries +=
        entry(place, count > kMostListed ? fmt::format("{} and {} more", text, count - kMostListed) : text);
  }
  return entries.empty() ? "" : "<dl>\n" + entries + "</dl>\n";
}

std::string swept_text(const SweptRate& rate) {
  std::string text = fmt::format("<b>{:g}", rate.lr);
  for (const auto& [key, value] : rate.others) text += fmt::format(", {} {:g}", escape(key), value);
  text += "</b> ";
  if (rate.running > 0) return text + fmt::format("not at its end ({} running)", rate.running);
  if (rate.diverged > 0) return text + "diverged";
  text += number(rate.validation_loss, kLossDecimals);
  return std::isfinite(rate.starved) ? text + " (" + percent(rate.starved) + ")" : text;
}

std::string evaluated_tokens(const Comparison& comparison) {
  if (comparison.eval_tokens <= 0) return {};
  std::string text = grouped_digits(comparison.eval_tokens);
  if (comparison.validation_bytes > 0) text += " of " + grouped_digits(comparison.validation_bytes);
  return text + " tokens of the validation text";
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

/// "train: steps 500, batch 16", every section of the configuration but the optimizers'.
std::string configuration(const Comparison& comparison) {
  std::string entries;
  if (!comparison.config.is_object()) return {};
  for (const auto& [name, values] : comparison.config.items()) {
    if (name == "optim" || name == "adamw" || !values.is_object()) continue;
    std::string text;
    for (const auto& [key, value] : values.items()) {
      if (name == "train" && key == "seed") continue;
      const std::string shown =
          value.is_string() ? value.get<std::string>()
                            : value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
      text += (text.empty() ? "" : ", ") + key + " " + shown;
    }
    entries += entry(name, text);
  }
  return entries.empty() ? ""
                         : "<h3>Configuration of the first run</h3>\n<dl class=\"configuration\">\n" +
                               entries + "</dl>\n";
}

}  // namespace

std::string evaluated(const Comparison& comparison) {
  const std::string tokens = evaluated_tokens(comparison);
  return tokens.empty() ? "" : " Losses are of " + tokens + ".";
}

std::string equal_rates_table(const Comparison& comparison) {
  if (!comparison.equal_rates) return {};
  const EqualRates& rates = *comparison.equal_rates;
  const auto slots = series_slots(names_of(comparison));
  std::string rows;
  for (const OptimizerResult& result : rates.optimizers) {
    const auto found = std::ranges::find(rates.differences, result.name, &Difference::a);
    const auto names = names_of(comparison);
    const auto place = static_cast<std::size_t>(std::ranges::find(names, result.name) - names.begin());
    rows +=
        fmt::format("<tr data-equal=\"{}\">", escape(result.name)) +
        optimizer_cell(slots[place], result.name, fmt::format("lr {:g}", result.lr)) +
        difference_cell(found == rates.differences.end() ? nullptr : &*found,
                        result.name == comparison.baseline) +
        fmt::format("<td>{}{}</td></tr>\n", number(result.validation_loss.mean, kLossDecimals),
                    std::isfinite(result.validation_loss.low)
                        ? "<small>" +
                              range(result.validation_loss.low, result.validation_loss.high, kLossDecimals) +
                              "</small>"
                        : "");
  }
  const std::string of = rates.of_the_sweep
                             ? "The same at the configured rates, without the help of the sweep: by the "
                               "seeds of the sweep, which are fewer."
                             : "The same at the configured rates, without the help of the sweep.";
  return "<p class=\"intro below\">" + of + "</p>\n" +
         table("<thead><tr>" + head_cell("optimizer") + head_cell("difference to " + comparison.baseline) +
                   head_cell("validation loss") + "</tr></thead>\n<tbody>\n" + rows + "</tbody>\n",
               "At the configured rates");
}

std::string which_neurons(const Comparison& comparison) {
  std::string rows, lists;
  const auto slots = series_slots(names_of(comparison));
  for (std::size_t i = 0; i < comparison.optimizers.size(); ++i) {
    const OptimizerResult& result = comparison.optimizers[i];
    if (result.persistence.ever.values.empty() || !std::isfinite(result.persistence.ever.mean)) continue;
    rows += "<tr>" + optimizer_cell(slots[i], result.name) + share_cell(result.persistence.ever) +
            share_cell(result.persistence.at_end) + share_cell(result.persistence.lasting) +
            share_cell(result.persistence.revived) + "</tr>\n";
    if (result.seeds.empty()) continue;
    const std::string list = listed(result.fates, result.seeds.front());
    if (!list.empty())
      lists += fmt::format("<details><summary>{} by number, seed {}</summary>{}</details>\n",
                           escape(result.name), result.seeds.front(), list);
  }
  if (rows.empty()) return {};
  return section(
      "which", "Which neurons",
      "Shares of all rows of gate and up: whether a row that starves stays starved. In the lists, the number "
      "of "
      "each row that is starved, or neuron that is dead, at the end, and in brackets the step since when.",
      table("<thead><tr>" + head_cell("optimizer") + head_cell("ever starved", "in a record") +
                head_cell("at the end") + head_cell("lasting", "since half or longer") +
                head_cell("revived", "not at the end") + "</tr></thead>\n<tbody>\n" + rows + "</tbody>\n",
            "Starved rows over time") +
          lists);
}

std::string sweep_table(const Comparison& comparison) {
  std::string rows, at_edge;
  const auto slots = series_slots(names_of(comparison));
  for (std::size_t i = 0; i < comparison.optimizers.size(); ++i) {
    const OptimizerResult& result = comparison.optimizers[i];
    if (result.swept.empty()) continue;
    const SweptRate* best = best_rate(result);
    std::string tried;
    for (const SweptRate& rate : result.swept)
      tried += fmt::format("<li{}>{}</li>", &rate == best ? " class=\"best\"" : "", swept_text(rate));
    rows += fmt::format("<tr>{}<td class=\"rates\"><ul>{}</ul></td></tr>\n",
                        optimizer_cell(slots[i], result.name), tried);
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
             "loss by learning rate<small>lowest underlined; starved rows in "
             "brackets</small></th></tr></thead>\n<tbody>\n" +
                 rows + "</tbody>\n",
             "Learning rates tried");
}

std::string warning_list(const Comparison& comparison) {
  std::string items;
  for (const auto& warning : comparison.warnings) items += "<li>" + escape(warning) + "</li>\n";
  return section("warnings", "Warnings", "",
                 items.empty() ? "<p>None.</p>\n" : "<ul class=\"warnings\">\n" + items + "</ul>\n");
}

std::string hyperparameter_table(const Comparison& comparison) {
  const auto unequal = unequal_hyperparameters(comparison);
  std::vector<std::string> keys;
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const auto& [key, value] : result.hyperparameters)
      if (std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
  }
  if (keys.empty()) return {};
  std::stable_partition(keys.begin(), keys.end(),
                        [](const std::string& key) { return key.starts_with("optim."); });
  std::string heads = head_cell("setting"), rows;
  for (const OptimizerResult& result : comparison.optimizers) heads += head_cell(result.name);
  for (const std::string& key : keys) {
    const bool marked = std::ranges::find(unequal, key) != unequal.end();
    rows += fmt::format("<tr data-setting=\"{}\"{}><th scope=\"row\">{}{}</th>", escape(key),
                        marked ? " class=\"unequal\"" : "", escape(key),
                        marked ? "<small>not equal</small>" : "");
    for (const OptimizerResult& result : comparison.optimizers) {
      const auto found =
          std::ranges::find(result.hyperparameters, key, &std::pair<std::string, std::string>::first);
      rows += "<td>" + (found == result.hyperparameters.end() ? "–" : escape(found->second)) + "</td>";
    }
    rows += "</tr>\n";
  }
  return section("hyperparameters", "Hyperparameters",
                 "Of the runs of the result. The adamw. settings are of what the matrix optimizers do not "
                 "step; of adamw, of "
                 "everything.",
                 table("<thead><tr>" + heads + "</tr></thead>\n<tbody>\n" + rows + "</tbody>\n",
                       "Hyperparameters of every optimizer"));
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
      entry("evaluated", evaluated_tokens(comparison)) + entry("device", comparison.device) +
      entry("machine", comparison.device_name) +
      entry("threads", comparison.threads > 0 ? std::to_string(comparison.threads) : "") +
      entry("threads wait", comparison.wait_policy) + entry("BLAS", comparison.blas) +
      entry("PyTorch", comparison.torch) +
      entry("aurora",
            comparison.version + (comparison.commit.empty() ? "" : ", commit " + comparison.commit)) +
      entry("first run started", comparison.started);
  return section("run", "How it was run", "",
                 command + (list.empty() ? "" : "<dl>\n" + list + "</dl>\n") + agreement(comparison) +
                     configuration(comparison));
}

std::string definitions() {
  return section(
      "definitions", "What the numbers mean", "",
      "<dl class=\"definitions\">\n" +
          entry("loss",
                "nats per token on the validation text, a token being a byte; bits per byte = loss / ln 2") +
          entry("interval",
                "95 %, by Student's t over seeds. A difference is the optimizer's loss minus the "
                "baseline's, paired by seed. Holm's intervals allow for there being several: the i-th "
                "smallest p value "
                "of m is tested at 5 % / (m - i + 1), until the first that fails; verdicts and the sentence "
                "at the top "
                "follow them. With fewer than three seeds nothing is concluded.") +
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
          entry("lasting, revived",
                "starved at the last record without a break since half of the steps or longer; starved at an "
                "earlier "
                "record and not at the last") +
          entry("row-norm CV",
                "standard deviation / mean of the norms of the last update along the neuron axis; not "
                "defined under AdamW") +
          entry("step, optimizer",
                "median time of a training step, and of the optimizer in it, over the steps of a "
                "run, mean over seeds; the share is the quotient of the two") +
          "</dl>\n");
}

}  // namespace aurora::compare
