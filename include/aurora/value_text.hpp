#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

namespace aurora {

// How a setting of a rule, of a run or of the command is said and read: numbers as text, intervals of numbers,
// lists of names.

/// The shortest text that reads back as the same number: "0.02", "500".
template <class Number>
std::string number_text(Number value) {
  std::array<char, 32> buffer{};
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr};
}

/// Whether the whole text is a number of this type, which is then stored.
template <class Number>
bool read_number(Number& number, std::string_view text) {
  Number read{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, read);
  if (error != std::errc{} || stop != end) return false;
  number = read;
  return true;
}

/// Integers from low to high, both included.
struct Integers {
  std::int64_t low, high;
  template <std::integral Integer>
  bool contains(Integer value) const {
    return std::cmp_greater_equal(value, low) && std::cmp_less_equal(value, high);
  }
  std::string text() const { return "an integer from " + number_text(low) + " to " + number_text(high); }
};

/// Finite numbers; open ends are excluded.
struct Numbers {
  double low = 0, high = std::numeric_limits<double>::infinity();
  bool low_open = false, high_open = false;
  bool contains(double value) const {
    return std::isfinite(value) && (low_open ? value > low : value >= low) &&
           (high_open ? value < high : value <= high);
  }
  std::string text() const {
    std::string text = std::string("a finite number ") + (low_open ? "> " : ">= ") + number_text(low);
    if (std::isfinite(high)) text += (high_open ? " and < " : " and <= ") + number_text(high);
    return text;
  }
};

/// read_number of what lies in an interval; nothing else is stored.
template <class Number, class Interval>
bool read_number(Number& number, std::string_view text, const Interval& interval) {
  Number read{};
  if (!read_number(read, text) || !interval.contains(read)) return false;
  number = read;
  return true;
}

/// "aurora, muon, adamw": the names of these entries.
template <class Entries, class Name = std::identity>
std::string listed(const Entries& entries, Name name = {}) {
  std::string list;
  for (const auto& entry : entries) (list += list.empty() ? "" : ", ") += std::invoke(name, entry);
  return list;
}

}  // namespace aurora
