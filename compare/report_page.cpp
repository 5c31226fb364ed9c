#include "report_page.hpp"

#include <fmt/format.h>

#include <cmath>

#include "report_assets.hpp"
#include "report_text.hpp"

namespace aurora::compare {

std::string page(const std::string& title, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      "<title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{}</main>\n<script>\n{}</script>\n"
      "</body>\n</html>\n",
      escape(title), kReportStyle, body, kReportScript);
}

std::string section(std::string_view id, std::string_view heading, std::string_view introduction,
                    const std::string& content) {
  if (content.empty()) return {};
  return fmt::format(
      "<section id=\"{}\">\n<h2>{}</h2>\n{}{}</section>\n", id, escape(heading),
      introduction.empty() ? "" : fmt::format("<p class=\"intro\">{}</p>\n", escape(introduction)), content);
}

std::string figures(const std::vector<std::optional<Chart>>& charts, const std::string& beside) {
  std::string content;
  for (const auto& chart : charts) {
    if (!chart) continue;
    content += fmt::format("<figure><figcaption>{}{}</figcaption>\n{}</figure>\n", escape(chart->title),
                           chart->note.empty() ? "" : "<small>" + escape(chart->note) + "</small>",
                           line_chart(*chart));
  }
  if (content.empty()) return beside;
  return "<div class=\"figures\">\n" + content + (beside.empty() ? "" : "<div>\n" + beside + "</div>\n") +
         "</div>\n";
}

std::string legend(const std::vector<std::string>& names) {
  std::string content;
  const auto slots = series_slots(names);
  for (std::size_t i = 0; i < names.size(); ++i) {
    content += fmt::format("<button type=\"button\" aria-pressed=\"true\" data-switch=\"{}\">{}{}</button>\n",
                           slots[i], swatch(slots[i]), escape(names[i]));
  }
  return "<div class=\"legend\" role=\"group\" aria-label=\"Optimizers shown\">\n" + content + "</div>\n";
}

std::string swatch(std::size_t index) {
  return fmt::format(
      "<svg class=\"swatch c{}\" aria-hidden=\"true\" viewBox=\"0 0 26 10\"><path class=\"line\" d=\"M1 "
      "5H25\"{}/>"
      "</svg>",
      index % kColors, dash(index));
}

std::string optimizer_cell(std::size_t index, const std::string& name, const std::string& below) {
  std::string shown;
  for (const char c : escape(name)) {
    shown += c;
    if (c == ':' || c == '+' || c == '=') shown += "<wbr>";
  }
  return fmt::format("<th scope=\"row\"><div>{}<span>{}{}</span></div></th>", swatch(index), shown,
                     below.empty() ? "" : "<small>" + escape(below) + "</small>");
}

std::string table(const std::string& content, std::string_view caption) {
  return fmt::format(
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"{0}\"><table>\n<caption>{0}</caption>\n"
      "{1}</table></div>\n",
      escape(caption), content);
}

std::string entry(const std::string& name, const std::string& value) {
  if (value.empty()) return {};
  return fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value));
}

std::string difference_cell(const Difference* difference, bool is_baseline) {
  if (is_baseline) return "<td class=\"quiet\" data-field=\"difference\">baseline</td>";
  if (difference == nullptr) return "<td class=\"quiet\" data-field=\"difference\">–</td>";
  const Estimate& d = difference->validation_loss;
  const Adjusted& adjusted = difference->adjusted;
  const auto bounds = [](double low, double high) {
    return fmt::format("{} to {}", signed_number(low, kLossDecimals), signed_number(high, kLossDecimals));
  };
  std::string intervals;
  if (std::isfinite(d.low)) intervals = "<small>" + bounds(d.low, d.high) + "</small>";
  // Of one difference both are the same.
  if (std::isfinite(adjusted.low) && (adjusted.low != d.low || adjusted.high != d.high))
    intervals += "<small>Holm " + bounds(adjusted.low, adjusted.high) + "</small>";
  const Verdict side = verdict(*difference);
  return fmt::format("<td class=\"{}\" data-field=\"difference\"><b>{}</b>{}</td>",
                     side == Verdict::lower    ? "lower"
                     : side == Verdict::higher ? "higher"
                                               : "open",
                     signed_number(d.mean, kLossDecimals), intervals);
}

}  // namespace aurora::compare
