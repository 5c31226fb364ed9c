#include "optimizer_result.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "support/written_comparison.hpp"

namespace aurora::compare {
namespace {

using aurora::test::TemporaryFolder;
using aurora::test::write_run;
using test::of;
using test::rate;
using test::write_result;
using test::write_three_seeds;
using testing::AllOf;
using testing::Contains;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Design swept_design() {
  Design design;
  design.sweep.axes = {{"optim.lr", {1, 2}}};
  for (const char* name : {"muon", "aurora"})
    design.contenders.push_back({name, aurora::test::config_of({.variant = name})});
  return design;
}

TEST(OptimizerResults, BandsRunOverAllSeedsAsFarAsTheyCame) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  write_result(folder.path(), {.variant = "muon", .seed = 2, .loss = 1.52, .steps_taken = 7});
  const Comparison comparison = read_comparison(folder.path());
  const OptimizerResult& muon = of(comparison, "muon");
  ASSERT_EQ(muon.validation.size(), 2U);
  EXPECT_EQ(muon.validation[0].step, 5);
  EXPECT_NEAR(muon.validation[0].mean, 2 * 1.51, 1e-12);
  // Of the steps' median in the finished runs, whatever the clock says.
  EXPECT_NEAR(muon.validation[0].seconds, 5 * 0.1055, 1e-12);
  EXPECT_NEAR(muon.validation[1].mean, 1.505, 1e-12);
  EXPECT_LT(muon.validation[1].low, 1.5);
  ASSERT_EQ(muon.dead_share.size(), 2U);
  EXPECT_NEAR(muon.dead_share[0].mean, 0.25 * 0.75 / 2, 1e-12);
  EXPECT_NEAR(muon.dead_share[1].seconds, 10 * 0.1055, 1e-12);
  EXPECT_NEAR(muon.starved_share[1].mean, 0.5 * 0.75, 1e-12);
}

TEST(OptimizerResults, LayersAndLeverageAreThoseOfTheRecords) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const Comparison comparison = read_comparison(folder.path());
  const OptimizerResult& muon = of(comparison, "muon");
  EXPECT_THAT(muon.neuron_steps, ElementsAre(5, 10));
  EXPECT_THAT(muon.starved_by_layer,
              ElementsAre(ElementsAre(DoubleNear(0.25, 1e-12), DoubleNear(0.5, 1e-12)),
                          ElementsAre(DoubleNear(0.125, 1e-12), DoubleNear(0.25, 1e-12))));
  EXPECT_THAT(muon.dead_by_layer[1], ElementsAre(DoubleNear(0.0625, 1e-12), DoubleNear(0.125, 1e-12)));
  // The mean of gate, once, and up, three times the quantiles.
  EXPECT_THAT(
      muon.leverage_gate_up,
      ElementsAre(DoubleNear(0.2, 1e-12), DoubleNear(0.4, 1e-12), DoubleNear(1, 1e-12), DoubleNear(2, 1e-12),
                  DoubleNear(4, 1e-12), DoubleNear(6, 1e-12), DoubleNear(8, 1e-12)));
  EXPECT_NEAR(muon.leverage_down[3], 5, 1e-12);
}

TEST(OptimizerResults, TheSweepIsReadAndItsEdgeReported) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon"});
  write_result(folder.path(), {.variant = "aurora", .lr_factor = 2});
  for (const double factor : {0.5, 1.0, 2.0}) {
    for (const char* name : {"muon", "aurora"}) {
      const bool lost = name == std::string("muon") && factor == 2;
      write_run(sweep_folder(folder.path(), name, rate(factor), kFirstSweepSeed),
                {.variant = name,
                 .seed = kFirstSweepSeed,
                 .loss = 2 - 0.1 * factor,
                 .lr_factor = factor,
                 .diverged_at = lost ? 7 : 0});
    }
  }
  const Comparison comparison = read_comparison(folder.path());
  const auto& swept = of(comparison, "aurora").swept;
  ASSERT_EQ(swept.size(), 3U);
  EXPECT_EQ(swept[0].factor, 0.5);
  EXPECT_EQ(swept[0].lr, 0.01);
  EXPECT_NEAR(swept[2].validation_loss, 1.8, 1e-12);
  EXPECT_TRUE(std::isnan(of(comparison, "muon").swept[2].validation_loss));
  EXPECT_THAT(comparison.warnings, Contains(AllOf(HasSubstr("aurora"), HasSubstr("edge"))));
  EXPECT_THAT(comparison.warnings, Not(Contains(AllOf(HasSubstr("muon:"), HasSubstr("edge")))));
  EXPECT_TRUE(summary(comparison)["optimizers"]["muon"]["swept"][2]["val_loss"].is_null());
}

TEST(OptimizerResults, OnlyFinishedRunsOfASweepCount) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon"});
  for (const double factor : {0.5, 1.0, 2.0}) {
    write_run(
        sweep_folder(folder.path(), "muon", rate(factor), kFirstSweepSeed),
        {.seed = kFirstSweepSeed, .loss = 1.8, .lr_factor = factor, .steps_taken = factor == 2 ? 7 : 10});
  }
  const Comparison comparison = read_comparison(folder.path());
  const auto& swept = of(comparison, "muon").swept;
  ASSERT_EQ(swept.size(), 3U);
  EXPECT_EQ(swept[1].validation_loss, 1.8);
  EXPECT_TRUE(std::isnan(swept[2].validation_loss)) << "its evaluation at step 5 is no result";
  EXPECT_EQ(swept[2].running, 1);
  EXPECT_FALSE(comparison.complete);
  EXPECT_THAT(comparison.warnings,
              Contains(HasSubstr("the sweep is not at its end: 2 of its runs ended, 1 not")));
}

TEST(OptimizerResults, SweptRatesHaveTheirStarvedAndDeadNeurons) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon"});
  write_run(sweep_folder(folder.path(), "muon", rate(2), kFirstSweepSeed),
            {.seed = kFirstSweepSeed, .dead = 0.125, .starved = 0.25, .lr_factor = 2});
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_NEAR(of(comparison, "muon").swept.at(0).starved, 0.25 * 0.75, 1e-12);
  EXPECT_NEAR(of(comparison, "muon").swept.at(0).dead, 0.125 * 0.75, 1e-12);
}

TEST(OptimizerResults, OtherSettingsOfASweepStandBesideItsRates) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon"});
  write_run(sweep_folder(folder.path(), "muon", {}, kFirstSweepSeed), {.seed = kFirstSweepSeed});
  auto config = aurora::test::config_of({.seed = kFirstSweepSeed});
  config.adamw.lr *= 2;
  const auto other = sweep_folder(folder.path(), "muon", {{"adamw.lr", 2}}, kFirstSweepSeed);
  write_run(other, {.seed = kFirstSweepSeed, .loss = 1.25});
  std::ofstream(other / "config.toml") << trainer::to_toml(config);
  const Comparison comparison = read_comparison(folder.path());
  const auto& swept = of(comparison, "muon").swept;
  ASSERT_EQ(swept.size(), 2U);
  EXPECT_TRUE(swept[0].others.empty());
  EXPECT_EQ(swept[1].others, (std::map<std::string, double>{{"adamw.lr", 6e-3}}));
  EXPECT_EQ(swept[1].validation_loss, 1.25);
}

TEST(OptimizerResults, ASweepOfOneRateHasNoEdge) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon"});
  write_run(sweep_folder(folder.path(), "muon", {}, kFirstSweepSeed), {.seed = kFirstSweepSeed});
  EXPECT_THAT(read_comparison(folder.path()).warnings, Not(Contains(HasSubstr("edge"))));
}

TEST(OptimizerResults, StarvedRowsAreFollowedThroughARun) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon", .starved_early = {1, 3}, .starved_late = {3, 4}});
  const Comparison comparison = read_comparison(folder.path());
  const OptimizerResult& muon = of(comparison, "muon");
  ASSERT_EQ(muon.fates.size(), 3U);
  EXPECT_EQ(muon.fates[0].neuron, 1);
  EXPECT_EQ(muon.fates[0].since, -1) << "revived";
  EXPECT_EQ(muon.fates[0].revived, 1);
  EXPECT_EQ(muon.fates[1].neuron, 3);
  EXPECT_EQ(muon.fates[1].since, 5);
  EXPECT_EQ(muon.fates[2].first, 10);
  // Two layers of 5 neurons have 20 rows of gate and up.
  EXPECT_NEAR(muon.persistence.ever.mean, 3 / 20.0, 1e-12);
  EXPECT_NEAR(muon.persistence.at_end.mean, 2 / 20.0, 1e-12);
  EXPECT_NEAR(muon.persistence.lasting.mean, 1 / 20.0, 1e-12);
  EXPECT_NEAR(muon.persistence.revived.mean, 1 / 20.0, 1e-12);
}

TEST(OptimizerResults, EqualRatesComeFromTheSweepWithoutRunsOfTheResultsSeeds) {
  const TemporaryFolder folder;
  write_design(swept_design(), folder.path());
  write_result(folder.path(), {.variant = "muon", .loss = 1.4, .lr_factor = 2});
  write_result(folder.path(), {.variant = "aurora", .loss = 1.3});
  for (const char* name : {"muon", "aurora"})
    write_run(sweep_folder(folder.path(), name, {}, kFirstSweepSeed),
              {.variant = name, .seed = kFirstSweepSeed, .loss = name[0] == 'm' ? 1.7 : 1.6});
  auto rates = read_comparison(folder.path()).equal_rates;
  ASSERT_TRUE(rates);
  EXPECT_TRUE(rates->of_the_sweep);
  EXPECT_NEAR(rates->differences.at(0).validation_loss.mean, -0.1, 1e-12);
  write_run(rate_folder(folder.path(), "muon", {}, 0), {.loss = 1.9});
  rates = read_comparison(folder.path()).equal_rates;
  ASSERT_TRUE(rates);
  EXPECT_FALSE(rates->of_the_sweep);
  EXPECT_NEAR(rates->differences.at(0).validation_loss.mean, -0.6, 1e-12);
  EXPECT_EQ(rates->optimizers.at(0).lr, 0.02);
}

}  // namespace
}  // namespace aurora::compare
