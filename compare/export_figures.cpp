#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "export.hpp"
#include "report_assets.hpp"

namespace aurora::compare {
namespace {

constexpr int kWidth = 540, kHeight = 330, kMargin = 14, kTitle = 26, kLegendLine = 20, kLegendColumn = 256;

/// The first value of a variable of the report's style sheet: that of the light page.
std::string style_variable(const std::string& name) {
  const std::string head = "--" + name + ": ";
  const auto begin = kReportStyle.find(head);
  if (begin == std::string_view::npos) throw std::logic_error("no variable " + name + " in report.css");
  const auto value = kReportStyle.substr(begin + head.size());
  return std::string(value.substr(0, value.find(';')));
}

/// Without variables and media queries, which programs that draw SVG for print do not know.
std::string style() {
  const std::string ink = style_variable("ink"), quiet = style_variable("quiet"),
                    line = style_variable("line");
  std::string text = fmt::format(
      "text{{font-family:sans-serif;font-size:13px;fill:{1}}}.label,.name{{fill:{0}}}.title{{fill:{0};font-"
      "size:15px;"
      "font-weight:bold}}.end,.y{{text-anchor:end}}.x{{text-anchor:middle}}.y{{dominant-baseline:central}}"
      ".line{{fill:none;stroke-width:2.2;stroke-linejoin:round}}.band{{fill-opacity:.16;stroke:none}}"
      ".grid path{{stroke:{2};fill:none}}.reference path{{stroke:{1};stroke-dasharray:3 3;fill:none}}",
      ink, quiet, line);
  text += fmt::format(".heat rect{{fill:{};stroke:{};stroke-width:.5}}.heat text{{font-size:11px}}",
                      style_variable("heat"), line);
  for (std::size_t i = 0; i < kColors; ++i) {
    const std::string color = style_variable(fmt::format("c{}", i));
    text += fmt::format(".c{0} .line{{stroke:{1}}}.c{0} .band,.c{0} circle{{fill:{1}}}", i, color);
  }
  return text;
}

std::string legend_entry(const Series& series, std::size_t place, int top) {
  const int x = kMargin + static_cast<int>(place % 2) * kLegendColumn;
  const int y = top + static_cast<int>(place / 2) * kLegendLine;
  return fmt::format(
      "<g class=\"c{}\"><path class=\"line\" d=\"M{} {}h26\"{}/><text class=\"name\" x=\"{}\" "
      "y=\"{}\">{}</text></g>\n",
      series.index % kColors, x, y, dash(series.index), x + 34, y + 4, escape(series.name));
}

std::string framed(const std::string& title, int width, int height, const std::string& content) {
  return fmt::format(
             "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" "
             "width=\"{0}\" "
             "height=\"{1}\" viewBox=\"0 0 {0} {1}\">\n<style>{2}</style>\n<rect width=\"{0}\" "
             "height=\"{1}\" "
             "fill=\"#ffffff\"/>\n<text class=\"title\" x=\"{3}\" y=\"{4}\">{5}</text>\n",
             width, height, style(), kMargin, kMargin + 12, escape(title)) +
         content + "</svg>\n";
}

}  // namespace

std::string standalone_svg(const HeatMap& map) {
  constexpr int kMapWidth = 340, kMapHeight = 190, kTop = kMargin + kTitle + 22;
  std::string picture = heat_map(map), key = heat_key(map.top);
  picture.insert(picture.find("<svg") + 4, fmt::format(" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
                                                       kMargin, kTop, kMapWidth, kMapHeight));
  key.insert(key.find("<svg") + 4,
             fmt::format(" x=\"{}\" y=\"{}\" width=\"240\" height=\"16\"", kMargin, kMargin + kTitle));
  return framed(map.title, kMapWidth + 2 * kMargin, kTop + kMapHeight + kMargin, key + picture);
}

std::string standalone_svg(const Chart& chart) {
  std::string legend;
  std::size_t shown = 0;
  for (const Series& series : chart.series) {
    const bool any = std::ranges::any_of(series.points, [](const Point& p) { return std::isfinite(p.y); });
    if (any) legend += legend_entry(series, shown++, kMargin + kTitle + 6);
  }
  const int legend_height = static_cast<int>((shown + 1) / 2) * kLegendLine;
  const int top = kMargin + kTitle + legend_height;
  std::string picture = line_chart(chart);
  picture.insert(picture.find("<svg") + 4,
                 fmt::format(" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", kMargin, top, kWidth, kHeight));
  const int width = kWidth + 2 * kMargin, height = top + kHeight + kMargin;
  return framed(chart.title, width, height, legend + picture);
}

}  // namespace aurora::compare
