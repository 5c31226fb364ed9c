#include "comparison.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "design.hpp"
#include "support/temporary_folder.hpp"
#include "support/written_run.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using test::content_of;
using test::error_of;
using test::TemporaryFolder;
using test::write_run;
using test::WrittenRun;
using testing::AllOf;
using testing::Contains;
using testing::DoubleEq;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// Writes DIR/runs/<variant>/seed-<k>.
void write_result(const fs::path& folder, const WrittenRun& run) {
  write_run(result_folder(folder, run.variant, run.seed), run);
}

/// Muon and Aurora over three seeds; Aurora's losses are less by 0.10, 0.20 and 0.30.
void write_three_seeds(const fs::path& folder) {
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const double loss = 1.5 + 0.01 * static_cast<double>(seed);
    write_result(folder, {.variant = "muon", .seed = seed, .loss = loss});
    write_result(folder, {.variant = "aurora",
                          .seed = seed,
                          .loss = loss - 0.1 * static_cast<double>(seed + 1),
                          .dead = 0,
                          .starved = 0.1});
  }
}

const OptimizerResult& of(const Comparison& comparison, const std::string& name) {
  for (const OptimizerResult& result : comparison.optimizers)
    if (result.name == name) return result;
  throw std::runtime_error("no " + name);
}

TEST(Comparison, ResultsAreMeansOverSeeds) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_EQ(comparison.baseline, "muon");
  EXPECT_THAT(comparison.warnings, IsEmpty());
  EXPECT_TRUE(comparison.complete);
  EXPECT_EQ(comparison.steps, 10);
  EXPECT_EQ(comparison.data_bytes, 5000);
  const OptimizerResult& muon = of(comparison, "muon");
  EXPECT_THAT(muon.seeds, ElementsAre(0, 1, 2));
  EXPECT_THAT(muon.validation_loss.values, ElementsAre(DoubleEq(1.5), DoubleEq(1.51), DoubleEq(1.52)));
  EXPECT_NEAR(muon.validation_loss.mean, 1.51, 1e-12);
  EXPECT_NEAR(muon.bits_per_byte.mean, 3.02, 1e-12);
  // Layers count as one and a half of the first, over two.
  EXPECT_NEAR(muon.dead.mean, 0.25 * 0.75, 1e-12);
  EXPECT_NEAR(muon.starved.mean, 0.5 * 0.75, 1e-12);
  EXPECT_NEAR(muon.step_ms, 105.5, 1e-12);
  EXPECT_NEAR(muon.optimizer_ms, 10, 1e-12);
  EXPECT_NEAR(muon.optimizer_share, 100.0 / 1055, 1e-12);
  EXPECT_EQ(muon.lr, 0.02);
}

TEST(Comparison, DifferencesArePairedBySeed) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const Comparison comparison = read_comparison(folder.path());
  ASSERT_EQ(comparison.differences.size(), 1U);
  const Difference& gain = comparison.differences.front();
  EXPECT_EQ(gain.a, "aurora");
  EXPECT_EQ(gain.b, "muon");
  EXPECT_EQ(gain.seeds, 3);
  EXPECT_NEAR(gain.validation_loss.mean, -0.2, 1e-12);
  // t of two degrees times 0.1 / sqrt(3).
  EXPECT_NEAR(gain.validation_loss.high, -0.2 + 4.302652729749462 * 0.1 / std::sqrt(3.0), 1e-12);
}

TEST(Comparison, ADifferenceTakesOnlySeedsThatBothFinished) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  write_result(folder.path(), {.variant = "aurora", .seed = 1, .step_ms = 500, .steps_taken = 7});
  const Comparison comparison = read_comparison(folder.path());
  const OptimizerResult& aurora = of(comparison, "aurora");
  EXPECT_THAT(aurora.seeds, ElementsAre(0, 2));
  EXPECT_THAT(aurora.running, ElementsAre(1));
  EXPECT_NEAR(aurora.step_ms, 105.5, 1e-12);
  EXPECT_EQ(comparison.differences.front().seeds, 2);
  EXPECT_NEAR(comparison.differences.front().validation_loss.mean, -0.2, 1e-12);
  EXPECT_FALSE(comparison.complete);
  EXPECT_THAT(comparison.warnings, Contains(HasSubstr("1 of 6 runs are missing or not finished")));
}

TEST(Comparison, BandsRunOverAllSeedsAsFarAsTheyCame) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  write_result(folder.path(), {.variant = "muon", .seed = 2, .loss = 1.52, .steps_taken = 7});
  const Comparison comparison = read_comparison(folder.path());
  const OptimizerResult& muon = of(comparison, "muon");
  ASSERT_EQ(muon.validation.size(), 2U);
  EXPECT_EQ(muon.validation[0].step, 5);
  EXPECT_NEAR(muon.validation[0].mean, 2 * 1.51, 1e-12);
  EXPECT_NEAR(muon.validation[0].seconds, 2.5, 1e-12);
  EXPECT_NEAR(muon.validation[1].mean, 1.505, 1e-12);
  EXPECT_LT(muon.validation[1].low, 1.5);
  ASSERT_EQ(muon.dead_share.size(), 2U);
  EXPECT_NEAR(muon.dead_share[0].mean, 0.25 * 0.75 / 2, 1e-12);
  EXPECT_NEAR(muon.dead_share[1].seconds, 5, 1e-12);
  EXPECT_NEAR(muon.starved_share[1].mean, 0.5 * 0.75, 1e-12);
}

TEST(Comparison, LayersAndLeverageAreThoseOfTheRecords) {
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

TEST(Comparison, ADivergedRunIsAResultAndNotAMean) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  write_result(folder.path(), {.variant = "aurora", .seed = 0, .diverged_at = 7});
  const Comparison comparison = read_comparison(folder.path());
  const OptimizerResult& aurora = of(comparison, "aurora");
  ASSERT_EQ(aurora.diverged.size(), 1U);
  EXPECT_EQ(aurora.diverged[0].seed, 0U);
  EXPECT_EQ(aurora.diverged[0].step, 7);
  EXPECT_THAT(aurora.seeds, ElementsAre(1, 2));
  EXPECT_TRUE(comparison.complete);
  const auto object = summary(comparison);
  EXPECT_EQ(object["optimizers"]["aurora"]["diverged"], 1);
  EXPECT_EQ(object["optimizers"]["aurora"]["diverged_at"][0]["step"], 7);
  EXPECT_THAT(answer(comparison), HasSubstr("Only muon finished"));
}

TEST(Comparison, ACutOffLastLineIsLeftOutAndReported) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const fs::path log = result_folder(folder.path(), "muon", 1) / "log.jsonl";
  const std::string whole = content_of(log);
  std::ofstream(log) << whole.substr(0, whole.size() - 20);  // into the summary
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_THAT(comparison.warnings, Contains(AllOf(HasSubstr(log.string()), HasSubstr("cut off"))));
  EXPECT_THAT(of(comparison, "muon").seeds, ElementsAre(0, 2));
  EXPECT_THAT(of(comparison, "muon").running, ElementsAre(1));
}

TEST(Comparison, ALineThatIsNoRecordIsLeftOutAndReported) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const fs::path log = result_folder(folder.path(), "muon", 1) / "log.jsonl";
  std::string text = content_of(log);
  text.insert(text.find("{\"kind\":\"train\",\"step\":3"),
              "{\"kind\":\"train\",\"step\":3,\"loss\":NaN}\n{\"kind\":\"neurons\",\"step\":\"x\"}\n");
  std::ofstream(log) << text;
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_THAT(comparison.warnings,
              Contains(AllOf(HasSubstr(log.string()), HasSubstr("2 lines"), HasSubstr("line 4"))));
  EXPECT_THAT(of(comparison, "muon").seeds, ElementsAre(0, 1, 2));
}

TEST(Comparison, NumbersOfAnotherKindAreNotDefined) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const fs::path log = result_folder(folder.path(), "muon", 1) / "log.jsonl";
  std::string text = content_of(log);
  const std::string before = "\"step_ms\":102.0";
  ASSERT_NE(text.find(before), std::string::npos) << text.substr(0, 900);
  text.replace(text.find(before), before.size(), "\"step_ms\":[\"?\"]");
  std::ofstream(log) << text;
  // The median of the other nine steps, 101 and 103 to 110, is 106.
  EXPECT_NEAR(of(read_comparison(folder.path()), "muon").step_ms, (105.5 + 106 + 105.5) / 3, 1e-12);
}

TEST(Comparison, RunsWithoutNeuronRecordsAreReported) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon", .neurons = false});
  write_result(folder.path(), {.variant = "aurora"});
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_THAT(comparison.warnings, Contains(HasSubstr("muon has no neuron records")));
  EXPECT_THAT(comparison.warnings, Not(Contains(HasSubstr("aurora has no neuron records"))));
  EXPECT_TRUE(std::isnan(of(comparison, "muon").dead.mean));
  EXPECT_TRUE(summary(comparison)["optimizers"]["muon"]["dead"]["mean"].is_null());
}

TEST(Comparison, OtherWeightsOrAnotherOrderAreReported) {
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

TEST(Comparison, OtherTextIsReported) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  EXPECT_THAT(read_comparison(folder.path()).warnings, Not(Contains(HasSubstr("text differs"))));
  write_result(folder.path(), {.variant = "aurora", .seed = 1, .text_hash = "other"});
  EXPECT_THAT(read_comparison(folder.path()).warnings,
              Contains(AllOf(HasSubstr("the text differs between "), HasSubstr("aurora/seed-1"),
                             HasSubstr("not comparable"))));
}

TEST(Comparison, ALinkToItselfBelowTheFolderIsPassedOver) {
  const TemporaryFolder folder;
  write_run(folder / "some/run", {});
  fs::create_directory_symlink("loop", folder / "some/loop");
  fs::create_directory_symlink("..", folder / "some/up");
  EXPECT_EQ(read_comparison(folder.path()).optimizers.size(), 1U);
  fs::create_directories(folder / "runs");
  fs::create_directory_symlink("loop", folder / "runs/loop");
  write_run(folder / "runs/muon/seed-0", {});
  EXPECT_EQ(read_comparison(folder.path()).optimizers.size(), 1U);
}

TEST(Comparison, LossesNearTheEndOfDoubleGiveAPageWithoutNaN) {
  const TemporaryFolder folder;
  for (const std::uint64_t seed : {0U, 1U}) {
    write_result(folder.path(), {.variant = "muon", .seed = seed, .loss = seed == 0 ? 8e307 : -8e307});
    write_result(folder.path(), {.variant = "aurora", .seed = seed, .loss = 8e307});
  }
  const std::string page = report_html(read_comparison(folder.path()));
  // Styles and script apart, which speak of neither.
  for (const char* word : {"nan", "NaN", ">inf", "\"inf", " inf"})
    EXPECT_THAT(page.substr(page.find("<body")), Not(HasSubstr(word)));
}

TEST(Comparison, SettingsThatDifferAreNamedWithBothValues) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  auto config = test::config_of({.variant = "aurora", .seed = 0});
  config.batch = 8;
  const auto file = result_folder(folder.path(), "aurora", 0) / "config.toml";
  std::ofstream(file) << trainer::to_toml(config);
  const Comparison comparison = read_comparison(folder.path());
  ASSERT_EQ(comparison.warnings.size(), 1U) << comparison.warnings.back();
  EXPECT_THAT(comparison.warnings[0],
              AllOf(HasSubstr("train.batch"), HasSubstr("16"), HasSubstr("8"), HasSubstr("aurora")));
}

TEST(Comparison, AnotherLearningRateWithinAnOptimizerIsReported) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  write_result(folder.path(), {.variant = "aurora", .seed = 1, .lr_factor = 2});
  EXPECT_THAT(read_comparison(folder.path()).warnings,
              ElementsAre(AllOf(HasSubstr("optim.lr"), HasSubstr("0.02"), HasSubstr("0.04"))));
}

TEST(Comparison, TheSweepIsReadAndItsEdgeReported) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon"});
  write_result(folder.path(), {.variant = "aurora", .lr_factor = 2});
  for (const double factor : {0.5, 1.0, 2.0}) {
    for (const char* name : {"muon", "aurora"}) {
      const bool lost = name == std::string("muon") && factor == 2;
      write_run(sweep_folder(folder.path(), name, factor, kFirstSweepSeed), {.variant = name,
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

TEST(Comparison, ASweepOfOneRateHasNoEdge) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon"});
  write_run(sweep_folder(folder.path(), "muon", 1, kFirstSweepSeed), {.seed = kFirstSweepSeed});
  EXPECT_THAT(read_comparison(folder.path()).warnings, Not(Contains(HasSubstr("edge"))));
}

TEST(Comparison, RunsThatAllStillRunShowTheirTimes) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon", .steps_taken = 7});
  EXPECT_GT(of(read_comparison(folder.path()), "muon").step_ms, 100);
}

TEST(Comparison, OneSeedHasNoIntervalAndNoConclusion) {
  const TemporaryFolder folder;
  write_result(folder.path(), {.variant = "muon", .loss = 1.5});
  write_result(folder.path(), {.variant = "aurora", .loss = 1.4});
  const Comparison comparison = read_comparison(folder.path());
  const auto object = summary(comparison);
  EXPECT_TRUE(object["optimizers"]["aurora"]["val_loss"]["ci95"].is_null());
  EXPECT_TRUE(object["differences"][0]["val_loss"]["ci95"].is_null());
  EXPECT_NEAR(object["differences"][0]["val_loss"]["mean"].get<double>(), -0.1, 1e-12);
  EXPECT_THAT(answer(comparison), AllOf(HasSubstr("nothing can be concluded"), HasSubstr("aurora")));
  EXPECT_THAT(comparison.warnings, Contains(HasSubstr("nothing can be concluded")));
}

TEST(Comparison, TheAnswerNamesTheBestAndWhetherTheIntervalHoldsZero) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());  // -0.2 +- 0.25
  EXPECT_THAT(
      answer(read_comparison(folder.path())),
      AllOf(HasSubstr("aurora has the lowest"), HasSubstr("0.2000 below muon"), HasSubstr("includes 0")));
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const double loss = 1.3 + 0.01 * static_cast<double>(seed);
    write_result(folder.path(), {.variant = "aurora", .seed = seed, .loss = loss});
  }
  EXPECT_THAT(answer(read_comparison(folder.path())),
              AllOf(HasSubstr("0.2000 below muon"), Not(HasSubstr("includes 0"))));
}

TEST(Comparison, RunsTrainedSeparatelyAreGroupedByTheirOptions) {
  const TemporaryFolder folder;
  write_run(folder / "a", {.variant = "aurora:pp_iterations=3"});
  write_run(folder / "b/deep", {.variant = "aurora:pp_iterations=3", .seed = 1});
  write_run(folder / "c", {.variant = "aurora"});
  write_run(folder / "d", {.variant = "muon"});
  write_run(folder / "e", {.variant = "muon", .lr_factor = 2});
  write_run(folder / "f", {.variant = "muon", .lr_factor = 2});
  const Comparison comparison = read_comparison(folder.path());
  std::vector<std::string> names;
  for (const auto& result : comparison.optimizers) names.push_back(result.name);
  EXPECT_THAT(names, ElementsAre("aurora", "aurora:pp_iterations=3", "muon:lr=0.02", "muon:lr=0.04"));
  EXPECT_THAT(of(comparison, "aurora:pp_iterations=3").seeds, ElementsAre(0, 1));
  EXPECT_EQ(comparison.baseline, "aurora");
  EXPECT_THAT(comparison.warnings, Contains(AllOf(HasSubstr("/f"), HasSubstr("repeats seed 0"))));
}

TEST(Comparison, AFolderThatCannotBeReadIsLeftOutAndReported) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  folder.write("runs/muon/seed-7/log.jsonl", "");
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_THAT(comparison.warnings, ElementsAre(AllOf(HasSubstr("seed-7"), HasSubstr("config.toml"))));
}

TEST(Comparison, AFolderWithoutRunsIsAnError) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of<std::invalid_argument>([&] { read_comparison(folder.path()); }),
              AllOf(HasSubstr(folder.path().string()), HasSubstr("no run")));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { read_comparison(folder / "none"); }),
              HasSubstr("no such folder"));
}

TEST(Comparison, TheSummaryHasTheNamesOfTheContract) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const auto object = summary(read_comparison(folder.path()));
  for (const char* key : {"optimizers", "differences", "baseline", "steps", "tokens_per_step", "data",
                          "initial_weights_sha256", "data_order_sha256"})
    EXPECT_TRUE(object.contains(key)) << key;
  const auto& muon = object["optimizers"]["muon"];
  for (const char* key : {"val_loss", "bits_per_byte", "dead", "starved", "update_row_norm_cv"}) {
    for (const char* part : {"mean", "ci95", "values"}) EXPECT_TRUE(muon[key].contains(part)) << key << part;
  }
  for (const char* key : {"step_ms", "optimizer_ms", "tokens_per_second", "lr", "diverged", "swept"})
    EXPECT_TRUE(muon.contains(key)) << key;
  EXPECT_EQ(object["differences"][0]["a"], "aurora");
  EXPECT_EQ(object["differences"][0]["seeds"], 3);
  EXPECT_EQ(object["data"]["sha256"], "abc");
}

TEST(Comparison, ATruncatedSummaryIsNotTrustedButWrittenAnew) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  folder.write("summary.json", "{\"optimizers\": {\"mu");
  write_report(folder.path());
  const auto object = nlohmann::ordered_json::parse(content_of(folder / "summary.json"));
  EXPECT_EQ(object, summary(read_comparison(folder.path())));
}

TEST(Comparison, ExpansionsHaveOneSummaryAboveThem) {
  const TemporaryFolder folder;
  write_three_seeds(folder / "expansion-8");
  write_three_seeds(folder / "expansion-0.5");
  write_report(folder.path());
  const auto object = nlohmann::ordered_json::parse(content_of(folder / "summary.json"));
  ASSERT_EQ(object["expansions"].size(), 2U);
  EXPECT_EQ(object["expansions"].begin().key(), "0.5");
  EXPECT_EQ(object["expansions"]["8"]["baseline"], "muon");
  EXPECT_EQ(nlohmann::ordered_json::parse(content_of(folder / "expansion-8/summary.json")),
            object["expansions"]["8"]);
}

}  // namespace
}  // namespace aurora::compare
