#include "run_all.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "support/temporary_folder.hpp"
#include "support/written_run.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TemporaryFolder;
using test::write_run;
using test::WrittenRun;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// Writes what a run of 10 steps leaves, without training. The loss is lowest at lr = 0.04.
class FakeTrainer {
 public:
  trainer::RunResult operator()(const trainer::TrainConfig& config, const fs::path& folder,
                                trainer::FolderMode mode, const trainer::TrainHooks& hooks) {
    trained.push_back(folder.lexically_relative(root).string() +
                      (mode == trainer::FolderMode::resume ? " resumed" : ""));
    const double lr = swept_lr(config);
    const double rate = !config.optim ? 3e-3 : 0.02;
    const bool diverges = std::string(name(config.rule())) == diverging;
    const bool stops = static_cast<int>(trained.size()) == stop_in_run;
    WrittenRun run{.variant = std::string(name(config.rule())),
                   .seed = config.seed,
                   .loss = 1 + std::fabs(lr / rate - 2),
                   .lr_factor = lr / rate,
                   .steps_taken = stops ? 4 : 10,
                   .diverged_at = diverges ? 3 : 0};
    write_run(folder, run);
    hooks.progress({.step = 1, .steps = 10, .loss = 5, .validation_loss = NAN});
    trainer::RunResult result;
    result.step = stops ? 4 : diverges ? 3 : 10;
    result.validation_loss = run.loss;
    if (diverges) result.end = trainer::RunEnd::diverged;
    if (stops) result.end = trainer::RunEnd::interrupted;
    return result;
  }
  fs::path root;
  std::string diverging;
  int stop_in_run = 0;
  std::vector<std::string> trained;
};

Design design_of(const std::vector<std::string>& variants, int seeds, std::vector<double> factors = {}) {
  Design design;
  design.seeds = seeds;
  design.factors = std::move(factors);
  for (const std::string& variant : variants)
    design.contenders.push_back({variant, test::config_of({.variant = variant})});
  return design;
}

std::vector<std::string> trained(const Design& design, const fs::path& folder, FakeTrainer fake = {}) {
  fake.root = folder;
  run_all(design, folder, std::ref(fake), {});
  return fake.trained;
}

std::string refusal(const Design& design, const fs::path& folder) {
  FakeTrainer fake;
  std::string message = error_of<std::invalid_argument>([&] { run_all(design, folder, std::ref(fake), {}); });
  EXPECT_THAT(fake.trained, IsEmpty());
  return message;
}

TEST(RunAll, SweepsFirstThenSeedBySeed) {
  const TemporaryFolder folder;
  EXPECT_THAT(trained(design_of({"muon", "aurora"}, 2, {1, 2}), folder.path()),
              ElementsAre("sweep/muon/lr-1/seed-1000", "sweep/muon/lr-2/seed-1000",
                          "sweep/aurora/lr-1/seed-1000", "sweep/aurora/lr-2/seed-1000", "runs/muon/seed-0",
                          "runs/aurora/seed-0", "runs/muon/seed-1", "runs/aurora/seed-1"));
}

TEST(RunAll, EverySeedOfTheSweepIsARunOfItsOwn) {
  const TemporaryFolder folder;
  Design design = design_of({"muon"}, 1, {1, 2});
  design.sweep_seeds = 2;
  EXPECT_THAT(trained(design, folder.path()),
              ElementsAre("sweep/muon/lr-1/seed-1000", "sweep/muon/lr-1/seed-1001",
                          "sweep/muon/lr-2/seed-1000", "sweep/muon/lr-2/seed-1001", "runs/muon/seed-0"));
}

TEST(RunAll, TheResultTakesTheBestRateOfTheSweep) {
  const TemporaryFolder folder;
  trained(design_of({"muon", "adamw"}, 1, {0.5, 1, 2, 4}), folder.path());
  const auto muon = trainer::from_toml(folder / "runs/muon/seed-0/config.toml");
  EXPECT_EQ(swept_lr(muon), 0.04);
  EXPECT_EQ(muon.adamw.lr, 3e-3);
  EXPECT_EQ(trainer::from_toml(folder / "runs/adamw/seed-0/config.toml").adamw.lr, 6e-3);
}

TEST(RunAll, ADivergedRateOfTheSweepIsNeverTheBest) {
  std::vector<PlannedRun> runs = planned_runs(design_of({"muon"}, 1, {1, 2}), "folder");
  runs[0].state = RunState::finished;
  runs[0].validation_loss = 3;
  runs[1].state = RunState::diverged;
  runs[1].validation_loss = 1;
  EXPECT_EQ(best_factor(runs, 0), 1);
}

TEST(RunAll, ASecondCallTrainsNothing) {
  const TemporaryFolder folder;
  const Design design = design_of({"muon", "adamw"}, 2, {1, 2});
  trained(design, folder.path());
  EXPECT_THAT(trained(design, folder.path()), IsEmpty());
}

TEST(RunAll, MoreSeedsAndMoreOptimizersExtendAComparison) {
  const TemporaryFolder folder;
  trained(design_of({"muon"}, 1, {1, 2}), folder.path());
  EXPECT_THAT(trained(design_of({"muon", "aurora"}, 2, {1, 2}), folder.path()),
              ElementsAre("sweep/aurora/lr-1/seed-1000", "sweep/aurora/lr-2/seed-1000", "runs/aurora/seed-0",
                          "runs/muon/seed-1", "runs/aurora/seed-1"));
}

TEST(RunAll, ADivergedRunIsKeptAndNotRepeated) {
  const TemporaryFolder folder;
  const Design design = design_of({"muon", "aurora"}, 2);
  FakeTrainer fake;
  fake.diverging = "muon";
  EXPECT_THAT(trained(design, folder.path(), fake), testing::SizeIs(4));
  EXPECT_THAT(trained(design, folder.path(), fake), IsEmpty());
}

TEST(RunAll, AStoppedRunEndsTheCallAndIsResumedByTheNext) {
  const TemporaryFolder folder;
  const Design design = design_of({"muon", "aurora"}, 1);
  FakeTrainer fake;
  fake.root = folder.path();
  fake.stop_in_run = 2;
  EXPECT_TRUE(run_all(design, folder.path(), std::ref(fake), {}).interrupted);
  EXPECT_THAT(fake.trained, testing::SizeIs(2));
  EXPECT_THAT(trained(design, folder.path()), ElementsAre("runs/aurora/seed-0 resumed"));
}

TEST(RunAll, RunsMadeOneByOneAreAdopted) {
  const TemporaryFolder folder;
  write_run(folder / "runs/muon/seed-0", {.variant = "muon"});
  EXPECT_THAT(trained(design_of({"muon", "aurora"}, 1), folder.path()), ElementsAre("runs/aurora/seed-0"));
}

TEST(RunAll, AnotherRunInTheWayIsRefusedByName) {
  const TemporaryFolder folder;
  write_run(folder / "runs/muon/seed-0", {.variant = "muon", .lr_factor = 2});
  EXPECT_THAT(
      refusal(design_of({"aurora", "muon"}, 1), folder.path()),
      AllOf(HasSubstr("runs/muon/seed-0"), HasSubstr("optim.lr"), HasSubstr("0.04"), HasSubstr("0.02")));
}

TEST(RunAll, AnotherComparisonIsRefusedByWhatDiffers) {
  const TemporaryFolder folder;
  trained(design_of({"muon", "aurora"}, 2, {1, 2}), folder.path());
  Design other = design_of({"muon", "aurora"}, 2, {1, 2});
  for (Contender& contender : other.contenders) contender.config.steps = 20;
  EXPECT_THAT(refusal(other, folder.path()),
              AllOf(HasSubstr("train.steps"), HasSubstr("10"), HasSubstr("20"), HasSubstr("--out")));
  EXPECT_THAT(refusal(design_of({"muon", "aurora"}, 2, {1, 3}), folder.path()),
              AllOf(HasSubstr("--sweep-lr"), HasSubstr("1,2"), HasSubstr("1,3")));
  EXPECT_THAT(refusal(design_of({"muon", "aurora"}, 1, {1, 2}), folder.path()), HasSubstr("--seeds"));
  EXPECT_THAT(refusal(design_of({"muon"}, 2, {1, 2}), folder.path()), HasSubstr("aurora"));
  other = design_of({"muon", "aurora"}, 2, {1, 2});
  other.first_seed = 1;
  EXPECT_THAT(refusal(other, folder.path()), AllOf(HasSubstr("--seed is 0"), HasSubstr("here 1")));
  other.first_seed = 0;
  other.sweep_seeds = 2;
  EXPECT_THAT(refusal(other, folder.path()), AllOf(HasSubstr("--sweep-seeds is 1"), HasSubstr("here 2")));
}

TEST(RunAll, RunsOnOtherTextAreRefusedBeforeTraining) {
  const TemporaryFolder folder;
  write_run(folder / "runs/muon/seed-0", {.variant = "muon"});
  const std::string there = text_of(read_run(folder / "runs/muon/seed-0"));
  EXPECT_EQ(there, "sha256 abc of 4000 + 1000 bytes");
  FakeTrainer fake;
  fake.root = folder.path();
  const auto design = design_of({"muon", "aurora"}, 1);
  std::string now = text_of("abc", 4001, 999);
  const RunAllHooks hooks = {.progress = {}, .notice = {}, .text = [&](const auto&) { return now; }};
  EXPECT_THAT(
      error_of<std::invalid_argument>([&] { run_all(design, folder.path(), std::ref(fake), hooks); }),
      AllOf(HasSubstr("/text is not the text of "), HasSubstr("runs/muon/seed-0"), HasSubstr("4001 + 999")));
  EXPECT_THAT(fake.trained, IsEmpty());
  now = there;
  run_all(design, folder.path(), std::ref(fake), hooks);
  EXPECT_THAT(fake.trained, ElementsAre("runs/aurora/seed-0"));
}

TEST(RunAll, TwoRunsThatAreThereOnDifferentTextAreRefused) {
  const TemporaryFolder folder;
  write_run(folder / "runs/muon/seed-0", {.variant = "muon"});
  write_run(folder / "runs/aurora/seed-0", {.variant = "aurora", .text_hash = "other"});
  EXPECT_THAT(
      refusal(design_of({"muon", "aurora"}, 1), folder.path()),
      AllOf(HasSubstr("runs/muon/seed-0"), HasSubstr("runs/aurora/seed-0"), HasSubstr("sha256 other")));
}

TEST(RunAll, SeedsThatNoRunCanHaveAreRefused) {
  const TemporaryFolder folder;
  Design design = design_of({"muon"}, 3);
  design.first_seed = 9223372036854775806U;
  EXPECT_THAT(refusal(design, folder.path()), HasSubstr("--seed 9223372036854775806 leaves no room for 3"));
  design.first_seed = 9223372036854775805U;
  EXPECT_NO_THROW(validate(design));
  design.seeds = 1001;
  design.first_seed = 0;
  EXPECT_THAT(refusal(design, folder.path()), HasSubstr("--seeds must be from 1 to 1000"));
}

TEST(RunAll, ARecordOfTheComparisonThatAsksForTooMuchIsRefused) {
  const TemporaryFolder folder;
  const Design design = design_of({"muon"}, 1);
  trained(design, folder.path());
  const std::string before = test::content_of(folder / "comparison.json");
  for (const char* seeds : {"2147483647", "4294967297", "1.5", "-1", "\"1\""}) {
    std::string altered = before;
    altered.replace(altered.find("\"seeds\": 1"), 10, "\"seeds\": " + std::string(seeds));
    folder.write("comparison.json", altered);
    EXPECT_THAT(error_of<std::runtime_error>([&] { trained(design, folder.path()); }),
                HasSubstr("seeds is not from 1 to 1000"));
  }
}

TEST(RunAll, ARecordOfTheComparisonOfOtherTypesIsRefusedInWords) {
  const TemporaryFolder folder;
  const Design design = design_of({"muon"}, 1);
  for (const char* record : {"{}", "[]", "{\"command\": 5}", "{\"command\": \"a\", \"first_seed\": {}}"}) {
    folder.write("comparison.json", record);
    EXPECT_THAT(error_of<std::runtime_error>([&] { trained(design, folder.path()); }),
                AllOf(HasSubstr("comparison.json: not the record"), Not(HasSubstr("json.exception"))));
  }
}

TEST(RunAll, ADamagedRecordOfTheComparisonIsNamed) {
  const TemporaryFolder folder;
  const Design design = design_of({"muon"}, 1);
  trained(design, folder.path());
  folder.write("comparison.json", "{\"command\": \"aur");
  EXPECT_THAT(error_of<std::runtime_error>([&] { trained(design, folder.path()); }),
              HasSubstr("comparison.json"));
}

TEST(RunAll, TheTimeLeftFollowsFromTheStepsSoFar) {
  std::vector<PlannedRun> runs = planned_runs(design_of({"muon", "aurora"}, 2), "folder");
  EXPECT_TRUE(std::isnan(seconds_left(runs, 10)));
  runs[0].state = RunState::finished;  // muon: 2 s a step
  runs[0].step = runs[0].timed_steps = 10;
  runs[0].seconds = 20;
  EXPECT_DOUBLE_EQ(seconds_left(runs, 10), 60);
  runs[1].state = RunState::running;  // aurora, resumed at 3: 4 s a step
  runs[1].step = 5;
  runs[1].timed_steps = 2;
  runs[1].seconds = 8;
  EXPECT_DOUBLE_EQ(seconds_left(runs, 10), 5 * 4 + 20 + 40);
}

}  // namespace
}  // namespace aurora::compare
