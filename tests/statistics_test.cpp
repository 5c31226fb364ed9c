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

TEST(Statistics, TheMedianIsTheMiddleInAnyOrder) {
  EXPECT_EQ(median({5, 1, 3}), 3);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
  EXPECT_EQ(median({7}), 7);
  EXPECT_TRUE(std::isnan(median({})));
}

}  // namespace
}  // namespace aurora::compare
