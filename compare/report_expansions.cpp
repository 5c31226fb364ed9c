#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "aurora/value_text.hpp"
#include "design.hpp"
#include "report_figures.hpp"
#include "report_page.hpp"
#include "report_text.hpp"

namespace aurora::compare {

namespace {

/// Whether each optimizer's gain over the baseline changes from the smallest to the largest expansion factor.
std::string growth(const std::vector<ExpansionResult>& expansions) {
  if (expansions.size() < 2) return "One expansion factor: whether a gain grows with it cannot be said.";
  const auto [smallest, largest] =
      std::minmax_element(expansions.begin(), expansions.end(),
                          [](const auto& a, const auto& b) { return a.expansion < b.expansion; });
  std::string grows, shrinks, open;
  for (const OptimizerResult& optimizer : smallest->comparison.optimizers) {
    const Difference* before = against_baseline(smallest->comparison, optimizer.name);
    const Difference* after = against_baseline(largest->comparison, optimizer.name);
    if (before == nullptr || after == nullptr) continue;
    const Estimate &from = before->validation_loss, &to = after->validation_loss;
    std::string& list = to.high < from.low ? grows : to.low > from.high ? shrinks : open;
    list += (list.empty() ? "" : ", ") + optimizer.name;
  }
  std::string text;
  const auto add = [&](const std::string& what, const std::string& list) {
    if (!list.empty()) text += (text.empty() ? "" : "; it ") + what + list;
  };
  add("grows for ", grows);
  add("shrinks for ", shrinks);
  add("is not shown to change for ", open);
  if (text.empty()) return "Whether a gain grows with the expansion factor cannot be said yet.";
  return fmt::format("From expansion factor {} to {} the gain over {} {}.", number_text(smallest->expansion),
                     number_text(largest->expansion), smallest->comparison.baseline, text);
}

/// One optimizer at one expansion factor.
std::string cells(const ExpansionResult& result, const std::string& name) {
  for (const OptimizerResult& optimizer : result.comparison.optimizers) {
    if (optimizer.name != name) continue;
    return fmt::format("<td data-expansion=\"{}\" data-field=\"val_loss\">{}</td>",
                       number_text(result.expansion), number(optimizer.validation_loss.mean, kLossDecimals)) +
           difference_cell(against_baseline(result.comparison, name), name == result.comparison.baseline) +
           fmt::format("<td data-field=\"starved\">{}</td>", percent(optimizer.starved.mean));
  }
  return "<td class=\"group\">–</td><td>–</td><td>–</td>";
}

/// Optimizers down, expansion factors across.
std::string result_table(const std::vector<ExpansionResult>& expansions,
                         const std::vector<std::string>& names) {
  std::string factors, columns, rows;
  for (const ExpansionResult& result : expansions) {
    factors +=
        fmt::format("<th scope=\"colgroup\" colspan=\"3\">expansion {}</th>", number_text(result.expansion));
    columns += fmt::format(
        "<th scope=\"col\" class=\"group\">loss</th><th scope=\"col\">difference to {}</th><th "
        "scope=\"col\">starved</th>",
        escape(result.comparison.baseline));
  }
  const auto slots = series_slots(names);
  for (std::size_t i = 0; i < names.size(); ++i) {
    rows += fmt::format("<tr data-optimizer=\"{}\">", escape(names[i])) + optimizer_cell(slots[i], names[i]);
    for (const ExpansionResult& result : expansions) rows += cells(result, names[i]);
    rows += "</tr>\n";
  }
  return table("<thead><tr><th></th>" + factors + "</tr>\n<tr><th scope=\"col\">optimizer</th>" + columns +
                   "</tr></thead>\n<tbody>\n" + rows + "</tbody>\n",
               "Results by expansion factor");
}

std::string answers(const std::vector<ExpansionResult>& expansions) {
  std::string items;
  for (const ExpansionResult& result : expansions) {
    items += fmt::format("<li><a href=\"expansion-{0}/report.html\">Expansion {0}</a>: {1} {2}</li>\n",
                         number_text(result.expansion), escape(typeset(answer(result.comparison))),
                         escape(progress(result.comparison)));
  }
  return section("answers", "By expansion factor", "", "<ul>\n" + items + "</ul>\n");
}

}  // namespace

std::string report_html(const std::vector<ExpansionResult>& expansions) {
  const std::vector<std::string> names = curve_names(expansions);
  const std::string drawn = figures({gain_chart(expansions), starved_by_expansion_chart(expansions)});
  return page(
      "Aurora: comparison by expansion factor",
      fmt::format("<header>\n<p class=\"brand\">Aurora · comparison by expansion factor</p>\n"
                  "<h1 id=\"answer\">{}</h1>\n</header>\n",
                  escape(growth(expansions))) +
          answers(expansions) +
          section("expansions", "Gain and starved rows",
                  "Below zero is better than the baseline. A gain is said to change where the 95 % intervals "
                  "at the smallest and the largest factor do not overlap.",
                  drawn.empty() ? drawn : legend(names) + drawn) +
          section("optimizers", "All results", "Losses and differences in nats per token.",
                  result_table(expansions, names)));
}

}  // namespace aurora::compare
