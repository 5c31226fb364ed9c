#include "fairness.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "support/written_comparison.hpp"

namespace aurora::compare {
namespace {

using aurora::test::TemporaryFolder;
using aurora::test::write_run;
using test::of;
using test::write_result;
using test::write_three_seeds;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(Fairness, OtherWeightsOrAnotherOrderAreReported) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  EXPECT_THAT(read_comparison(folder.path()).initial_weights_sha256, ElementsAre("w", "w", "w"));
  write_result(folder.path(), {.variant = "aurora", .seed = 1, .weights_hash = "other"});
  write_result(folder.path(), {.variant = "aurora", .seed = 2, .order_hash = "other"});
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_THAT(comparison.initial_weights_sha256, ElementsAre("w", "", "w"));
  EXPECT_THAT(comparison.data_order_sha256, ElementsAre("o", "o", ""));
  EXPECT_THAT(comparison.warnings, Contains(HasSubstr("seed 1: the initial weights differ")));
  EXPECT_THAT(comparison.warnings, Contains(HasSubstr("seed 2: the order of the data differ")));
}

TEST(Fairness, OtherTextIsReportedAndLeavesNoAnswer) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  EXPECT_THAT(read_comparison(folder.path()).warnings, Not(Contains(HasSubstr("text differs"))));
  write_result(folder.path(), {.variant = "aurora", .seed = 1, .text_hash = "other"});
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_THAT(comparison.warnings, Contains(AllOf(HasSubstr("not comparable: the text differs between "),
                                                  HasSubstr("aurora/seed-1"))));
  EXPECT_THAT(answer(comparison), AllOf(HasSubstr("not comparable"), Not(HasSubstr("lowest"))));
}

TEST(Fairness, OtherTextOfASweepIsReported) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  write_run(sweep_folder(folder.path(), "muon", {{"optim.lr", 2}}, kFirstSweepSeed),
            {.seed = kFirstSweepSeed, .lr_factor = 2, .text_hash = "other"});
  EXPECT_THAT(read_comparison(folder.path()).incomparable,
              ElementsAre(AllOf(HasSubstr("the text differs between "), HasSubstr("sweep/muon"))));
}

TEST(Fairness, SettingsThatDifferAreNamedWithBothValues) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  auto config = aurora::test::config_of({.variant = "aurora", .seed = 0});
  config.batch = 8;
  const auto file = result_folder(folder.path(), "aurora", 0) / "config.toml";
  std::ofstream(file) << trainer::to_toml(config);
  const Comparison comparison = read_comparison(folder.path());
  ASSERT_EQ(comparison.warnings.size(), 1U) << comparison.warnings.back();
  EXPECT_THAT(comparison.warnings[0],
              AllOf(HasSubstr("train.batch"), HasSubstr("16"), HasSubstr("8"), HasSubstr("aurora")));
}

TEST(Fairness, AnotherLearningRateWithinAnOptimizerIsReported) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  write_result(folder.path(), {.variant = "aurora", .seed = 1, .lr_factor = 2});
  EXPECT_THAT(read_comparison(folder.path()).warnings,
              ElementsAre(AllOf(HasSubstr("optim.lr"), HasSubstr("0.02"), HasSubstr("0.04"))));
}

TEST(Fairness, HyperparametersThatAreNotEqualAreNamed) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon:momentum=0.8"});
  write_result(folder.path(), {.variant = "aurora", .lr_factor = 2});
  const auto object = summary(read_comparison(folder.path()));
  EXPECT_EQ(object["optimizers"]["muon:momentum=0.8"]["hyperparameters"]["optim.momentum"], "0.8");
  EXPECT_EQ(object["optimizers"]["aurora"]["hyperparameters"]["optim.momentum"], "0.95");
  EXPECT_THAT(object["not_equal"].get<std::vector<std::string>>(), ElementsAre("optim.lr", "optim.momentum"));
}

TEST(Fairness, RatesThatNoSweepChoseAreReportedWhereTheyDiffer) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon"});
  write_result(folder.path(), {.variant = "aurora", .lr_factor = 2});
  EXPECT_THAT(read_comparison(folder.path()).warnings,
              Contains(HasSubstr("optim.lr is 0.04 of aurora and 0.02 of muon, and no sweep chose them")));
}

TEST(Fairness, OtherModelsAreNoComparison) {
  const TemporaryFolder folder;
  write_run(folder / "a", {.variant = "muon", .loss = 1.5});
  write_run(folder / "b", {.variant = "muon", .loss = 1.4, .width = 256});
  write_run(folder / "c", {.variant = "aurora", .loss = 1.6});
  const Comparison comparison = read_comparison(folder.path());
  std::vector<std::string> names;
  for (const auto& result : comparison.optimizers) names.push_back(result.name);
  EXPECT_THAT(names, ElementsAre("aurora", "muon (model.width 128)", "muon (model.width 256)"));
  EXPECT_THAT(comparison.warnings, Not(Contains(HasSubstr("repeats seed"))));
  EXPECT_THAT(answer(comparison), AllOf(HasSubstr("not comparable"), HasSubstr("model.width is 128 in"),
                                        Not(HasSubstr("lowest"))));
  EXPECT_THAT(comparison.differences, IsEmpty());
}

TEST(Fairness, TimesOfAnotherWaitPolicyOrSpeedAreReported) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon", .product_ms = 0.5});
  write_result(folder.path(), {.variant = "aurora", .product_ms = 0.6});
  EXPECT_THAT(read_comparison(folder.path()).warnings, Not(Contains(HasSubstr("times are not comparable"))));
  write_result(folder.path(),
               {.variant = "aurora", .wait_policy = "OMP_WAIT_POLICY=PASSIVE", .product_ms = 0.7});
  EXPECT_THAT(
      read_comparison(folder.path()).warnings,
      AllOf(Contains(AllOf(HasSubstr("the way threads wait is "), HasSubstr("default in"),
                           HasSubstr("OMP_WAIT_POLICY=PASSIVE"))),
            Contains(AllOf(HasSubstr("speed varied"), HasSubstr("0.500 ms"), HasSubstr("0.700 ms")))));
}

TEST(Fairness, TokensThatWereEvaluatedAreNamed) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const auto object = summary(read_comparison(folder.path()));
  EXPECT_EQ(object["data"]["evaluated_tokens"], 300);
  EXPECT_EQ(object["data"]["validation_bytes"], 500);
}

TEST(Fairness, RunsWithoutNeuronRecordsAreReported) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon", .neurons = false});
  write_result(folder.path(), {.variant = "aurora"});
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_THAT(comparison.warnings, Contains(HasSubstr("muon has no neuron records")));
  EXPECT_THAT(comparison.warnings, Not(Contains(HasSubstr("aurora has no neuron records"))));
  EXPECT_TRUE(std::isnan(of(comparison, "muon").dead.mean));
  EXPECT_TRUE(summary(comparison)["optimizers"]["muon"]["dead"]["mean"].is_null());
}

}  // namespace
}  // namespace aurora::compare
