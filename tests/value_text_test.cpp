#include "aurora/value_text.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace aurora {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(ValueText, OfANumberIsTheShortestThatReadsBack) {
  EXPECT_EQ(number_text(0.02), "0.02");
  EXPECT_EQ(number_text(1e-300), "1e-300");
  EXPECT_EQ(number_text(500), "500");
  EXPECT_EQ(number_text(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
  for (const double value : {0.1, 1.0 / 3, 2.0 / 3e-7, -5e-324, 1.7976931348623157e308}) {
    double read = 0;
    EXPECT_TRUE(read_number(read, number_text(value)));
    EXPECT_EQ(read, value);
  }
}

TEST(ValueText, WhatIsNoNumberAsAWholeIsNotStored) {
  int integer = 7;
  double number = 7;
  for (const char* text : {"", " 1", "1 ", "1x", "x", "+1", "0x1", "1e", "--1"}) {
    EXPECT_FALSE(read_number(integer, text)) << text;
    EXPECT_FALSE(read_number(number, text)) << text;
  }
  EXPECT_FALSE(read_number(integer, "1.5"));
  EXPECT_FALSE(read_number(integer, "2147483648"));
  EXPECT_FALSE(read_number(number, "1e999"));
  EXPECT_EQ(integer, 7);
  EXPECT_EQ(number, 7);
}

TEST(ValueText, OfAnIntervalSaysWhichEndsBelongToIt) {
  EXPECT_EQ((Integers{-1, 1024}).text(), "an integer from -1 to 1024");
  EXPECT_EQ(Numbers{}.text(), "a finite number >= 0");
  EXPECT_EQ((Numbers{.low = 0.5, .high = 1, .low_open = true}).text(), "a finite number > 0.5 and <= 1");
  EXPECT_EQ((Numbers{.high = 1, .high_open = true}).text(), "a finite number >= 0 and < 1");
}

TEST(ValueText, AnIntervalHasItsClosedEndsAndNoOpenOne) {
  const Integers bytes{0, 255};
  EXPECT_TRUE(bytes.contains(0) && bytes.contains(255));
  EXPECT_FALSE(bytes.contains(-1) || bytes.contains(256));
  EXPECT_FALSE((Integers{-1, 1}).contains(std::numeric_limits<std::uint64_t>::max()));  // -1 of 64 bits
  const Numbers closed{.low = 1, .high = 2}, open{.low = 1, .high = 2, .low_open = true, .high_open = true};
  EXPECT_TRUE(closed.contains(1) && closed.contains(2) && open.contains(1.5));
  EXPECT_FALSE(open.contains(1) || open.contains(2) || closed.contains(0.5) || closed.contains(2.5));
  for (const double none : {kInfinity, -kInfinity, kNaN}) EXPECT_FALSE(Numbers{}.contains(none)) << none;
}

TEST(ValueText, ANumberOutsideItsIntervalIsNotStored) {
  double number = 7;
  EXPECT_FALSE(read_number(number, "1.5", Numbers{.high = 1}));
  EXPECT_FALSE(read_number(number, "inf", Numbers{}));
  EXPECT_EQ(number, 7);
  EXPECT_TRUE(read_number(number, "0.5", Numbers{.high = 1}));
  EXPECT_EQ(number, 0.5);
}

TEST(ValueText, NamesAreListedWithCommas) {
  EXPECT_EQ(listed(std::vector<std::string>{"a", "b"}), "a, b");
  EXPECT_EQ(listed(std::vector<std::string_view>{"a"}), "a");
  EXPECT_EQ(listed(std::vector<std::string>{}), "");
}

}  // namespace
}  // namespace aurora
