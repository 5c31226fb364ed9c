#include "comparison.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "support/written_comparison.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using aurora::test::content_of;
using aurora::test::error_of;
using aurora::test::TemporaryFolder;
using aurora::test::write_run;
using test::of;
using test::write_result;
using test::write_three_seeds;
using testing::AllOf;
using testing::Contains;
using testing::DoubleEq;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

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
  EXPECT_NEAR(muon.optimizer_share, 10 / 105.5, 1e-12);
  EXPECT_NEAR(muon.tokens_per_second, 1000 * 2048 / 105.5, 1e-9);
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

TEST(Comparison, TwoSeedsDrawNoConclusion) {
  const TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 2; ++seed) {
    write_result(folder.path(), {.variant = "muon", .seed = seed, .loss = 1.5});
    write_result(folder.path(), {.variant = "aurora", .seed = seed, .loss = 1.3});
  }
  const Comparison comparison = read_comparison(folder.path());
  EXPECT_THAT(answer(comparison),
              HasSubstr("With two seeds nothing can be concluded: aurora has the lowest"));
  EXPECT_THAT(comparison.warnings, Contains(HasSubstr("one degree of freedom")));
}

TEST(Comparison, TheAnswersIntervalHasTheSignOfItsWords) {
  const TemporaryFolder folder;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const double wobble = 0.01 * static_cast<double>(seed);
    write_result(folder.path(), {.variant = "muon", .seed = seed, .loss = 1.5 + wobble * wobble});
    write_result(folder.path(), {.variant = "aurora", .seed = seed, .loss = 1.3 + wobble});
  }
  // Differences -0.2, -0.1901, -0.1804.
  EXPECT_THAT(answer(read_comparison(folder.path())),
              HasSubstr("0.1902 below muon (95 % interval 0.1658 to 0.2145)"));
}

TEST(Comparison, TheMoreOptimizersTheWiderTheIntervals) {
  const TemporaryFolder folder;
  write_three_seeds(folder.path());
  const auto interval = [&] {
    const Comparison comparison = read_comparison(folder.path());
    return *std::ranges::find(comparison.differences, "aurora", &Difference::a);
  };
  const Difference alone = interval();
  EXPECT_DOUBLE_EQ(alone.adjusted.low, alone.validation_loss.low);
  for (std::uint64_t seed = 0; seed < 3; ++seed)
    write_result(folder.path(),
                 {.variant = "normuon", .seed = seed, .loss = 1.5 + 0.1 * static_cast<double>(seed)});
  const Difference beside = interval();
  EXPECT_DOUBLE_EQ(beside.validation_loss.low, alone.validation_loss.low);
  EXPECT_LT(beside.adjusted.low, alone.adjusted.low);
  EXPECT_GT(beside.adjusted.high, alone.adjusted.high);
  const auto object = summary(read_comparison(folder.path()));
  EXPECT_EQ(object["differences"][0]["holm"]["ci95"][0], beside.adjusted.low);
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
