#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace aurora::compare {

/// Text that can stand in HTML and SVG, as content and in quoted attributes: & < > " ' as entities, control
/// characters and what is no UTF-8 as U+FFFD.
std::string escape(std::string_view text);

/// The multiples of 1, 2 or 5 times a power of ten within [low, high], about `count` of them.
std::vector<double> round_ticks(double low, double high, int count);

/// The powers of ten within [low, high], thinned to at most `count`.
std::vector<double> decade_ticks(double low, double high, int count);

struct Tick {
  double at;
  std::string label;
};

struct Axis {
  std::string label;         // with its unit
  bool logarithmic = false;  // values <= 0 are left out
  bool from_zero = false;
  std::vector<Tick> ticks = {};  // none: chosen
};

struct Point {
  double x, y;
  double low, high;       // of the band; NaN without one
  std::string at, value;  // what hovering shows of x and y
};

/// One curve. `index` chooses colour and dash (kColors solid ones, then dashed, then dotted) and is what the
/// legend switches off.
struct Series {
  std::size_t index;
  std::string name;
  std::vector<Point> points;
};
inline constexpr std::size_t kColors = 8;

/// stroke-dasharray of a series, as an attribute; empty for a solid line.
std::string_view dash(std::size_t index);

struct Chart {
  std::string title, description;  // the text alternative, to which the ends of the curves are added
  Axis x, y;
  std::vector<Series> series;
  std::vector<Tick> references = {};  // horizontal lines
  std::string note = {};              // below the title
  bool joined = true;                 // false: marks alone
};

/// The places in the colours and dashes of Series::index for these names: each of the library's optimizers
/// has its own wherever it stands, other names follow in alphabetical order, so that a name keeps its colour
/// when others come or the order changes.
std::vector<std::size_t> series_slots(const std::vector<std::string>& names);

/// Curves with bands as one <svg>; points that are not finite interrupt a curve. Of a long curve every k-th
/// point is drawn, and the last. Bands end where the picture of the curves does.
std::string line_chart(const Chart& chart);

/// A matrix of shares, one row a layer (layer 0 at the bottom), shaded from 0 to `top`.
struct HeatMap {
  std::string title, description;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> shares;  // [row][column]; NaN is left out
  double top;
};
std::string heat_map(const HeatMap& map);

/// The shading of heat maps with its labels.
std::string heat_key(double top);

}  // namespace aurora::compare
