#include "sweep.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "support/temporary_folder.hpp"
#include "support/written_run.hpp"

namespace aurora::compare {
namespace {

using test::config_of;
using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const SweepPoint kCentre, kLow = {{"optim.lr", 0.5}}, kHigh = {{"optim.lr", 2}};

Sweep rates(std::vector<double> factors) { return {.axes = {{"optim.lr", std::move(factors)}}}; }

TEST(Sweep, ANameComesBackAsItsPoint) {
  for (const SweepPoint& point :
       {kCentre, kLow, SweepPoint{{"adamw.lr", 2}}, SweepPoint{{"adamw.lr", 0.25}, {"optim.lr", 1e-7}},
        SweepPoint{{"optim.lr", 1e21}, {"optim.weight_decay", 0}}})
    EXPECT_EQ(point_of(point_name(point)), point) << point_name(point);
  EXPECT_EQ(point_name({{"optim.lr", 2}}), "lr-2");
  for (const char* other : {"", "lr", "lr-", "lr-x", "-1", "lr--1", "momentum-2", "lr-2+", "+", "+lr-2"})
    EXPECT_FALSE(point_of(other)) << other;
}

TEST(Sweep, EachAxisAloneSharesItsCentre) {
  Sweep sweep = rates({0.5, 1, 2});
  sweep.axes.push_back({"optim.weight_decay", {0, 1}});
  EXPECT_THAT(points_of(sweep, config_of({})),
              ElementsAre(kLow, kCentre, kHigh, SweepPoint{{"optim.weight_decay", 0}}));
  sweep.jointly = true;
  EXPECT_EQ(points_of(sweep, config_of({})).size(), 6U);
}

TEST(Sweep, AdamWHasNoAuxiliaryAdamWAndNoDecayToMultiply) {
  Sweep sweep = rates({1, 2});
  sweep.axes.push_back({"adamw.lr", {0.5, 1}});
  sweep.axes.push_back({"optim.weight_decay", {0, 1}});
  EXPECT_EQ(axes_of(sweep, config_of({})).size(), 3U);
  const auto adamw = config_of({.variant = "adamw"});
  EXPECT_THAT(axes_of(sweep, adamw), ElementsAre(sweep.axes[0])) << "its weight decay is 0";
  auto config = adamw;
  apply(kHigh, config);
  EXPECT_EQ(config.adamw.lr, 2 * adamw.adamw.lr);
}

TEST(Sweep, TheBestIsTakenOnEachAxisAloneOrAmongAll) {
  Sweep sweep = rates({1, 2});
  sweep.axes.push_back({"adamw.lr", {1, 2}});
  const SweepPoint other = {{"adamw.lr", 2}}, both = {{"adamw.lr", 2}, {"optim.lr", 2}};
  const std::vector<TriedPoint> alone = {{kCentre, 1.5}, {kHigh, 1.4}, {other, 1.45}};
  EXPECT_EQ(best_point(sweep, config_of({}), alone), both);
  sweep.jointly = true;
  EXPECT_EQ(best_point(sweep, config_of({}), {{kCentre, 1.5}, {kHigh, 1.4}, {other, 1.45}, {both, 1.6}}),
            kHigh);
  EXPECT_EQ(best_point(rates({1, 2}), config_of({}), {{kCentre, 1.5}, {kHigh, 1.5}}), kCentre)
      << "the least of equal ones";
}

TEST(Sweep, AnAutomaticOneNeedsAFactorBeyondTheEdgeWhereTheBestLies) {
  Sweep sweep = rates({0.5, 1, 2});
  const auto next = [&](double low, double centre, double high) {
    return next_point(sweep, config_of({}), {{kLow, low}, {kCentre, centre}, {kHigh, high}});
  };
  EXPECT_FALSE(next(3, 2, 1)) << "not automatic";
  sweep.automatic = true;
  EXPECT_EQ(next(3, 2, 1), (SweepPoint{{"optim.lr", 4}}));
  EXPECT_EQ(next(1, 2, 3), (SweepPoint{{"optim.lr", 0.25}}));
  EXPECT_FALSE(next(2, 1, 2));
  EXPECT_EQ(next(INFINITY, INFINITY, INFINITY), (SweepPoint{{"optim.lr", 0.25}})) << "all diverged";
  EXPECT_FALSE(next_point(sweep, config_of({}), {{kCentre, 2}, {{{"optim.lr", kLargestFactor}}, 1}}));
}

TEST(Sweep, WhatIsNoneIsRefused) {
  const auto refusal = [](const Sweep& sweep) {
    return error_of<std::invalid_argument>([&] { validate(sweep, {config_of({})}); });
  };
  EXPECT_THAT(refusal(rates({0, 1})), HasSubstr("--sweep-lr takes numbers > 0: 0"));
  EXPECT_THAT(refusal({.axes = {{"optim.weight_decay", {-1}}}}), HasSubstr(">= 0: -1"));
  EXPECT_THAT(refusal({.axes = {{"optim.beta2", {1, 2}}}}), HasSubstr("no optimizer here has such a number"));
  EXPECT_THAT(refusal({.axes = {{"optim.nesterov", {1, 2}}}}), HasSubstr("optim.nesterov"));
  EXPECT_THAT(refusal({.axes = {{"optim.lr", {1, 2}}}, .jointly = true}), HasSubstr("two swept settings"));
  EXPECT_THAT(refusal({.equal_rates = true}), HasSubstr("--equal-rates"));
  EXPECT_THAT(refusal({.seeds = 0}), HasSubstr("--sweep-seeds"));
  EXPECT_THAT(refusal({.seeds = 1001}), HasSubstr("--sweep-seeds must be from 1 to 1000, not 1001"));
  EXPECT_NO_THROW(validate({.axes = {{"optim.weight_decay", {0, 1}}}}, {config_of({})}));
}

TEST(Sweep, MorePointsThanCanBePlannedAreRefused) {
  std::vector<double> factors;
  for (int i = 1; i <= 40; ++i) factors.push_back(i);
  Sweep sweep = rates(factors);
  sweep.axes.push_back({"adamw.lr", factors});
  EXPECT_NO_THROW(validate(sweep, {config_of({})}));
  sweep.jointly = true;
  EXPECT_THAT(error_of<std::invalid_argument>([&] { validate(sweep, {config_of({})}); }),
              HasSubstr("more than 1000 points"));
}

}  // namespace
}  // namespace aurora::compare
