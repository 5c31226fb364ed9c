#include "svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "text_data.hpp"

namespace aurora::compare {

namespace {

// Of a line chart, in units of its view box. Text grows on narrow screens, so margins leave room for it.
constexpr double kWidth = 540, kHeight = 330, kLeft = 58, kRight = 18, kTop = 36, kBottom = 52;

// Differences and ratios of what is larger do not fit into a double.
constexpr double kLargestDrawn = 1e100;

bool is_drawn(double value, const Axis& axis) {
  return std::abs(value) <= kLargestDrawn && (!axis.logarithmic || value >= 1 / kLargestDrawn);
}

/// From values to pixels.
class Scale {
 public:
  Scale(double low, double high, double from, double to, bool logarithmic)
      : low_(logarithmic ? std::log10(low) : low),
        high_(logarithmic ? std::log10(high) : high),
        from_(from),
        to_(to),
        logarithmic_(logarithmic) {}

  double operator()(double value) const {
    const double v = logarithmic_ ? std::log10(value) : value;
    return from_ + (v - low_) / (high_ - low_) * (to_ - from_);
  }

 private:
  double low_, high_, from_, to_;
  bool logarithmic_;
};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void add(double value, const Axis& axis) {
    if (!is_drawn(value, axis)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }

  /// Never empty and with some air at both ends.
  Range padded(const Axis& axis, double air) const {
    if (low > high) return {axis.logarithmic ? 0.1 : 0.0, 1};
    if (axis.logarithmic) {
      const double factor = low == high ? 2 : std::pow(high / low, air);
      return {low / factor, high * factor};
    }
    const double width = high > low ? high - low : std::max(std::abs(high), 1e-3) * 0.2;
    if (axis.from_zero) return {0, std::max(high, 1e-9) + air * width};
    return {low - air * width, high + air * width};
  }
};

bool drawn(const Point& point, const Chart& chart) {
  return is_drawn(point.x, chart.x) && is_drawn(point.y, chart.y);
}

std::string tick_label(double value, double distance) {
  const int decimals = distance >= 1 ? 0 : static_cast<int>(std::ceil(-std::log10(distance) - 1e-9));
  const double shown = std::abs(value) < distance * 1e-9 ? 0 : value;
  return fmt::format("{}{:.{}f}", shown < 0 ? "−" : "", std::abs(shown), decimals);
}

std::vector<Tick> ticks(const Axis& axis, const Range& range, int count) {
  std::vector<Tick> result;
  if (!axis.ticks.empty()) {
    for (const Tick& tick : axis.ticks) {
      if (tick.at >= range.low && tick.at <= range.high) result.push_back(tick);
    }
    return result;
  }
  if (axis.logarithmic) {
    const auto decades = decade_ticks(range.low, range.high, count);
    for (const double at : decades) result.push_back({at, fmt::format("{:g}", at)});
    if (result.size() > 1) return result;
    result.clear();
  }
  const auto at = round_ticks(range.low, range.high, count);
  const double distance = at.size() > 1 ? at[1] - at[0] : std::max(range.high - range.low, 1e-9);
  for (const double value : at) result.push_back({value, tick_label(value, distance)});
  return result;
}

/// A number of pixels, short.
std::string px(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + '"';
}

std::string curve(const Series& series, const Chart& chart, const Scale& x, const Scale& y) {
  std::string path, band_up, band_down, data, marks;
  bool pen_down = false;
  const bool marked = series.points.size() <= 16;
  for (const Point& point : series.points) {
    if (!drawn(point, chart)) {
      pen_down = false;
      continue;
    }
    const std::string at = px(x(point.x)), to = px(y(point.y));
    path += fmt::format("{}{} {}", pen_down ? "L" : "M", at, to);
    pen_down = true;
    if (is_drawn(point.low, chart.y) && is_drawn(point.high, chart.y)) {
      band_up += fmt::format("{}{} {}", band_up.empty() ? "M" : "L", at, px(y(point.high)));
      band_down.insert(0, fmt::format("L{} {}", at, px(y(point.low))));
    }
    if (marked) marks += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"2.6\"/>", at, to);
    data += fmt::format("{}[{},{},{},{}]", data.empty() ? "" : ",", at, to, json_text(point.at),
                        json_text(point.value));
  }
  if (path.empty()) return {};
  std::string out =
      fmt::format("<g class=\"series c{}\" data-series=\"{}\" data-name=\"{}\" data-points=\"{}\">",
                  series.index % kColors, series.index, escape(series.name), escape("[" + data + "]"));
  if (!band_up.empty()) out += fmt::format("<path class=\"band\" d=\"{}{}Z\"/>", band_up, band_down);
  out += fmt::format("<path class=\"line\" d=\"{}\"{}/>{}</g>\n", path, dash(series.index), marks);
  return out;
}

/// The last point of every curve in words, so that the picture can be done without.
std::string ends(const Chart& chart) {
  std::string text;
  for (const Series& series : chart.series) {
    const auto last = std::find_if(series.points.rbegin(), series.points.rend(),
                                   [&](const Point& point) { return drawn(point, chart); });
    if (last == series.points.rend()) continue;
    text += fmt::format("{} {} {} ({})", text.empty() ? " Ends:" : ";", series.name, last->value, last->at);
  }
  return text.empty() ? text : text + ".";
}

std::string opening(std::string_view kind, double width, double height, const std::string& title,
                    const std::string& description) {
  return fmt::format(
      "<svg class=\"{}\" role=\"img\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"xMidYMid meet\">"
      "<title>{}</title><desc>{}</desc>\n",
      kind, px(width), px(height), escape(title), escape(description));
}

}  // namespace

std::string escape(std::string_view text) {
  const bool utf8 = trainer::is_utf8(text, false);
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f || (byte >= 0x80 && !utf8)) {
      out += "\uFFFD";
    } else {
      out += c;
    }
  }
  return out;
}

std::vector<double> round_ticks(double low, double high, int count) {
  if (!(high > low) || !std::isfinite(high - low)) return {};
  const double rough = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double distance = power * (rough <= power ? 1 : rough <= 2 * power ? 2 : rough <= 5 * power ? 5 : 10);
  std::vector<double> result;
  const double first = std::ceil(low / distance - 1e-9);
  for (int i = 0; (first + i) * distance <= high + 1e-9 * distance; ++i)
    result.push_back((first + i) * distance);
  return result;
}

std::vector<double> decade_ticks(double low, double high, int count) {
  if (!(low > 0) || !(high > low) || !std::isfinite(high)) return {};
  const int first = static_cast<int>(std::ceil(std::log10(low) - 1e-9));
  const int last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
  const int every = std::max(1, (last - first + count) / count);
  std::vector<double> result;
  for (int power = first; power <= last; power += every) result.push_back(std::pow(10.0, power));
  return result;
}

std::string_view dash(std::size_t index) {
  if (index < kColors) return "";
  return index < 2 * kColors ? " stroke-dasharray=\"7 4\"" : " stroke-dasharray=\"2 3\"";
}

std::string line_chart(const Chart& chart) {
  Range x_range, y_range;
  for (const Series& series : chart.series) {
    for (const Point& point : series.points) {
      if (!drawn(point, chart)) continue;
      x_range.add(point.x, chart.x);
      for (const double value : {point.y, point.low, point.high}) y_range.add(value, chart.y);
    }
  }
  for (const Tick& reference : chart.references) y_range.add(reference.at, chart.y);
  x_range = x_range.padded(chart.x, chart.x.logarithmic ? 0.06 : 0.02);
  y_range = y_range.padded(chart.y, 0.05);
  const Scale x(x_range.low, x_range.high, kLeft, kWidth - kRight, chart.x.logarithmic);
  const Scale y(y_range.low, y_range.high, kHeight - kBottom, kTop, chart.y.logarithmic);

  std::string out = opening("chart", kWidth, kHeight, chart.title, chart.description + ends(chart));
  out += "<g class=\"grid\">";
  for (const Tick& tick : ticks(chart.y, y_range, 7)) {
    const std::string at = px(y(tick.at));
    out += fmt::format("<path d=\"M{} {}H{}\"/><text class=\"y\" x=\"{}\" y=\"{}\">{}</text>", px(kLeft), at,
                       px(kWidth - kRight), px(kLeft - 8), at, escape(tick.label));
  }
  for (const Tick& tick : ticks(chart.x, x_range, 6)) {
    const std::string at = px(x(tick.at));
    out += fmt::format("<path d=\"M{} {}v5\"/><text class=\"x\" x=\"{}\" y=\"{}\">{}</text>", at,
                       px(kHeight - kBottom), at, px(kHeight - kBottom + 19), escape(tick.label));
  }
  out += fmt::format("<path class=\"axis\" d=\"M{} {}H{}\"/></g>\n", px(kLeft), px(kHeight - kBottom),
                     px(kWidth - kRight));
  out += fmt::format(
      "<text class=\"label\" x=\"4\" y=\"16\">{}</text>"
      "<text class=\"label end\" x=\"{}\" y=\"{}\">{}</text>\n",
      escape(chart.y.label), px(kWidth - kRight), px(kHeight - 8), escape(chart.x.label));
  for (const Tick& reference : chart.references) {
    out += fmt::format(
        "<g class=\"reference\"><path d=\"M{} {}H{}\"/><text class=\"end\" x=\"{}\" y=\"{}\">{}</text></g>\n",
        px(kLeft), px(y(reference.at)), px(kWidth - kRight), px(kWidth - kRight), px(y(reference.at) - 5),
        escape(reference.label));
  }
  for (const Series& series : chart.series) out += curve(series, chart, x, y);
  return out + "</svg>\n";
}

std::string heat_map(const HeatMap& map) {
  constexpr double kMapWidth = 340, kMapLeft = 30, kMapTop = 6, kMapBottom = 40;
  const auto rows = static_cast<double>(std::max<std::size_t>(1, map.rows.size()));
  const auto columns = static_cast<double>(std::max<std::size_t>(1, map.columns.size()));
  const double cell_height = std::clamp(120 / rows, 6.0, 24.0);
  const double cell_width = (kMapWidth - kMapLeft - 8) / columns;
  const double height = kMapTop + rows * cell_height + kMapBottom;

  std::string out = opening("heat", kMapWidth, height, map.title, map.description);
  for (std::size_t row = 0; row < map.shares.size(); ++row) {
    const double top = kMapTop + (rows - 1 - static_cast<double>(row)) * cell_height;
    const auto every = static_cast<std::size_t>(std::ceil(16 / cell_height));
    if (row % every == 0) {
      out += fmt::format("<text class=\"y\" x=\"{}\" y=\"{}\">{}</text>", px(kMapLeft - 6),
                         px(top + cell_height / 2), escape(map.rows[row]));
    }
    for (std::size_t column = 0; column < map.shares[row].size(); ++column) {
      const double share = map.shares[row][column];
      if (!std::isfinite(share)) continue;
      out += fmt::format(
          "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill-opacity=\"{:.3g}\" "
          "data-tip=\"{:.1f}\u00a0% · layer {} · step {}\"/>",
          px(kMapLeft + static_cast<double>(column) * cell_width), px(top),
          px(std::max(cell_width - 1, 0.6 * cell_width)), px(std::max(cell_height - 1, 0.8 * cell_height)),
          std::clamp(share / map.top, 0.0, 1.0), 100 * share, escape(map.rows[row]),
          escape(map.columns[column]));
    }
    out += '\n';
  }
  const double bottom = kMapTop + rows * cell_height;
  const std::size_t every = std::max<std::size_t>(1, (map.columns.size() + 4) / 5);
  for (std::size_t column = 0; column < map.columns.size(); ++column) {
    if ((map.columns.size() - 1 - column) % every != 0) continue;
    out += fmt::format("<text class=\"x\" x=\"{}\" y=\"{}\">{}</text>",
                       px(kMapLeft + (static_cast<double>(column) + 0.5) * cell_width), px(bottom + 14),
                       escape(map.columns[column]));
  }
  out += fmt::format(
      "<text class=\"label end\" x=\"{}\" y=\"{}\">step</text>"
      "<text class=\"label\" x=\"2\" y=\"{}\">layer</text></svg>\n",
      px(kMapWidth - 8), px(bottom + 32), px(bottom + 32));
  return out;
}

std::string heat_key(double top) {
  std::string cells;
  for (int i = 0; i < 20; ++i) {
    cells += fmt::format("<rect x=\"{}\" y=\"2\" width=\"8.2\" height=\"12\" fill-opacity=\"{:.2f}\"/>",
                         34 + 8 * i, (i + 0.5) / 20);
  }
  return fmt::format(
      "<svg class=\"heat key\" role=\"img\" viewBox=\"0 0 240 16\"><title>Shading</title>"
      "<desc>From 0 to {0:.0f} percent starved</desc><text x=\"0\" y=\"13\">0 %</text>{1}"
      "<text x=\"202\" y=\"13\">{0:.0f} %</text></svg>\n",
      100 * top, cells);
}

}  // namespace aurora::compare
