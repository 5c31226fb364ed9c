#include "statistics.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

namespace aurora::compare {
namespace {

TEST(Statistics, QuantilesOfStudentsTAreThoseOfTheTables) {
  EXPECT_NEAR(t_quantile(0.975, 1), 12.706204736174694, 1e-9);
  EXPECT_NEAR(t_quantile(0.975, 2), 4.302652729749462, 1e-10);
  EXPECT_NEAR(t_quantile(0.975, 4), 2.7764451051977934, 1e-10);
  EXPECT_NEAR(t_quantile(0.975, 9), 2.262157162798205, 1e-10);
  EXPECT_NEAR(t_quantile(0.975, 30), 2.0422724563012378, 1e-10);
  EXPECT_NEAR(t_quantile(0.025, 4), -2.7764451051977934, 1e-10);
}

TEST(Statistics, TheIntervalIsSciPysOfFiveValues) {
  const Estimate five = estimate(std::vector{1.6349, 1.6211, 1.6402, 1.6278, 1.6305});
  EXPECT_NEAR(five.mean, 1.6309, 1e-12);
  EXPECT_NEAR(five.low, 1.6219397788586458, 1e-12);
  EXPECT_NEAR(five.high, 1.6398602211413542, 1e-12);
  EXPECT_THAT(five.values, testing::SizeIs(5));
}

TEST(Statistics, TheIntervalIsSciPysOfTwoValues) {
  const Estimate two = estimate(std::vector{0.3, -1.25});
  EXPECT_NEAR(two.mean, -0.475, 1e-15);
  EXPECT_NEAR(two.low, -10.322308670535389, 1e-11);
  EXPECT_NEAR(two.high, 9.37230867053539, 1e-11);
}

TEST(Statistics, OneValueHasAMeanAndNoInterval) {
  const Estimate one = estimate(std::vector{2.5});
  EXPECT_EQ(one.mean, 2.5);
  EXPECT_TRUE(std::isnan(one.low) && std::isnan(one.high));
  EXPECT_TRUE(std::isnan(estimate({}).mean));
}

TEST(Statistics, AValueThatIsNotANumberLeavesNothingDefined) {
  const Estimate value = estimate(std::vector{1.0, std::numeric_limits<double>::quiet_NaN(), 2.0});
  EXPECT_TRUE(std::isnan(value.mean) && std::isnan(value.low) && std::isnan(value.high));
}

/// Five values whose mean is `mean` and whose two-sided p value, by SciPy's ttest_1samp, follows from mean
/// alone: their standard error is 1 / sqrt(2).
Estimate around(double mean) { return estimate(std::vector{mean - 2, mean - 1, mean, mean + 1, mean + 2}); }

TEST(Statistics, HolmsIntervalsHaveTheLevelsOfTheStepsTheyAreTestedAt) {
  // t = 8, 4 and 1 over the standard error; p by scipy.stats.t.sf(t, 4) * 2.
  const double error = std::sqrt(0.5);
  const std::vector<Estimate> three = {around(4 * error), around(8 * error), around(1 * error)};
  const auto adjusted = holm(three);
  EXPECT_NEAR(adjusted[1].p, 3 * 0.0013238969092171672, 1e-9);
  EXPECT_NEAR(adjusted[0].p, 2 * 0.016130089900092546, 1e-9);
  EXPECT_NEAR(adjusted[2].p, 0.37390096630005887, 1e-9);
  EXPECT_NEAR(adjusted[1].low, 8 * error - t_quantile(1 - 0.025 / 3, 4) * error, 1e-12);
  EXPECT_NEAR(adjusted[0].low, 4 * error - t_quantile(1 - 0.025 / 2, 4) * error, 1e-12);
  EXPECT_NEAR(adjusted[2].high, 1 * error + t_quantile(1 - 0.025, 4) * error, 1e-12);
}

TEST(Statistics, AfterHolmsFirstFailureNothingIsRejected) {
  // Alone each of the two would be: p = 0.0467 and 0.0464.
  const double error = std::sqrt(0.5);
  const std::vector<Estimate> two = {around(2.84 * error), around(2.845 * error)};
  EXPECT_GT(two[0].low, 0);
  EXPECT_GT(two[1].low, 0);
  for (const Adjusted& one : holm(two)) {
    EXPECT_LT(one.low, 0);
    EXPECT_GT(one.p, 0.05);
  }
}

TEST(Statistics, AnIntervalOfHolmExcludesZeroExactlyWhereItsPIsBelowFivePercent) {
  for (double shift = 0; shift < 8; shift += 0.1) {
    const std::vector<Estimate> many = {around(shift), around(-1.5 * shift), around(2.5), around(0.5 * shift),
                                        around(-3)};
    for (const Adjusted& one : holm(many)) EXPECT_EQ(one.low > 0 || one.high < 0, one.p < 0.05) << shift;
  }
}

TEST(Statistics, WhatHasNoIntervalTakesNoPartInHolm) {
  const std::vector<Estimate> mixed = {around(3), estimate(std::vector{1.0}), estimate({})};
  const auto adjusted = holm(mixed);
  EXPECT_NEAR(adjusted[0].low, mixed[0].low, 1e-12);
  EXPECT_TRUE(std::isnan(adjusted[1].low) && std::isnan(adjusted[1].p) && std::isnan(adjusted[2].p));
}

TEST(Statistics, TheMedianIsTheMiddleInAnyOrder) {
  EXPECT_EQ(median({5, 1, 3}), 3);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
  EXPECT_EQ(median({7}), 7);
  EXPECT_TRUE(std::isnan(median({})));
  EXPECT_EQ(median({5, std::numeric_limits<double>::quiet_NaN(), 1}), 3);
}

}  // namespace
}  // namespace aurora::compare
