#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "evaluate.hpp"
#include "lock_file.hpp"
#include "run_folder.hpp"
#include "run_log.hpp"
#include "run_summary.hpp"
#include "safetensors.hpp"
#include "schedule.hpp"
#include "support/temporary_folder.hpp"
#include "support/training_run.hpp"
#include "train.hpp"

namespace {

using namespace aurora::trainer;
using aurora::Index;
using aurora::test::content_of;
using aurora::test::error_of;
using aurora::test::some_text;
using aurora::test::TemporaryFolder;
using aurora::test::TrainingRun;
using testing::HasSubstr;
namespace fs = std::filesystem;

TEST_F(TrainingRun, LeavesTheFilesOfTheContract) {
  const RunResult result = run(config(), "run");
  EXPECT_EQ(result.end, RunEnd::finished);
  EXPECT_EQ(result.step, 6);
  EXPECT_EQ(result.checkpoint, folder_ / "run" / "checkpoint-000006");
  EXPECT_EQ(content_of(folder_ / "run" / "last"), "checkpoint-000006\n");
  EXPECT_EQ(content_of(folder_ / "run" / "config.toml"), to_toml(config()));
  EXPECT_EQ(checkpoints(folder_ / "run").size(), 3U);
  for (const char* file : {"config.json", "model.safetensors", "optimizer.safetensors", "trainer_state.json"})
    EXPECT_TRUE(fs::exists(result.checkpoint / file)) << file;

  ASSERT_EQ(records("run", "header").size(), 1U);
  const auto header = records("run", "header")[0];
  EXPECT_EQ(header["optimizer"], "aurora");
  EXPECT_EQ(header["tokens_per_step"], 64);
  EXPECT_EQ(header["config"]["model"]["width"], 16);
  EXPECT_EQ(records("run", "train").size(), 6U);
  EXPECT_EQ(records("run", "eval").size(), 2U);
  EXPECT_EQ(records("run", "neurons").size(), 2U);
  const auto summary = records("run", "summary");
  ASSERT_EQ(summary.size(), 1U);
  EXPECT_EQ(summary[0]["steps"], 6);
  EXPECT_EQ(summary[0]["val_loss"], records("run", "eval").back()["loss"]);
  EXPECT_EQ(summary[0]["dead"], records("run", "neurons").back()["dead"]["0.1"]);
  EXPECT_NEAR(result.bits_per_byte, result.validation_loss / std::log(2.0), 1e-12);
}

TEST_F(TrainingRun, LearnsWithEveryOptimizer) {
  for (const std::string& name : aurora::rule_names()) {
    TrainConfig longer = config(std::string(name));
    longer.steps = 40;
    longer.save_every = 40;
    const RunResult result = run(longer, std::string(name));
    EXPECT_EQ(result.end, RunEnd::finished) << name;
    EXPECT_LT(result.validation_loss, 4.5) << name << ": a uniform guess has 5.55";
    EXPECT_EQ(std::isnan(result.update_row_norm_cv), name == "adamw") << name;
  }
}

TEST_F(TrainingRun, WarmsUpEveryLearningRateByOneFactor) {
  TrainConfig warm = config();
  warm.warmup = 0.5;
  warm.cooldown = 0;
  run(warm, "run");
  const auto steps = records("run", "train");
  for (Index i = 0; i < 6; ++i) {
    const double factor = std::min(1.0, static_cast<double>(i + 1) / 3);
    EXPECT_NEAR(steps[static_cast<std::size_t>(i)]["matrix_lr"].get<double>(), 0.02 * factor, 1e-15);
    EXPECT_NEAR(steps[static_cast<std::size_t>(i)]["adamw_lr"].get<double>(), 3e-3 * factor, 1e-15);
  }
}

TEST_F(TrainingRun, ClipsTheGradientBeforeTheMomentum) {
  TrainConfig clipped = config("muon");
  clipped.steps = 1;
  clipped.clip = 0.01;
  const RunResult result = run(clipped, "run");
  EXPECT_GT(records("run", "train")[0]["grad_norm"], 0.1) << "the log has the norm as it was";
  // After one step momentum_buffer is 0.05 g and exp_avg 0.1 g.
  double squares = 0;
  const SafetensorsFile file(result.checkpoint / "optimizer.safetensors");
  for (const TensorEntry& tensor : file.tensors()) {
    if (tensor.name.ends_with("exp_avg_sq")) continue;
    const double share = tensor.name.ends_with("momentum_buffer") ? 0.05 : 0.1;
    std::vector<float> values(tensor.bytes.size() / sizeof(float));
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    for (const float value : values) squares += std::pow(value / share, 2);
  }
  EXPECT_NEAR(std::sqrt(squares), 0.01, 1e-5 * 0.01);
}

TEST_F(TrainingRun, IsTheSameForTheSameSeedAndAnotherForAnother) {
  run(config(), "a");
  run(config(), "b");
  expect_same_run("a", "b");
  TrainConfig other = config();
  other.seed = 1;
  run(other, "c");
  EXPECT_NE(records("a", "train")[0]["loss"], records("c", "train")[0]["loss"]);
}

TEST_F(TrainingRun, HasTheSameTextInOneMicroBatchOfFourAsInTwoOfTwo) {
  TrainConfig parts = config();
  parts.batch = 2;
  parts.accumulate = 2;
  run(config(), "whole");
  run(parts, "parts");
  const auto whole = records("whole", "train"), split = records("parts", "train");
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(split[i]["tokens"], whole[i]["tokens"]);
    EXPECT_NEAR(split[i]["loss"].get<double>(), whole[i]["loss"].get<double>(), 1e-4) << "step " << i + 1;
  }
}

TEST_F(TrainingRun, ResumedAfterASignalIsAsIfItHadNeverStopped) {
  for (const std::string& name : aurora::rule_names()) {
    const std::string optimizer(name);
    run(config(optimizer), optimizer + "-whole");
    const RunResult stopped = run_until(3, config(optimizer), optimizer + "-stopped");
    EXPECT_EQ(stopped.end, RunEnd::interrupted);
    EXPECT_EQ(stopped.step, 3);
    EXPECT_EQ(stopped.checkpoint.filename(), "checkpoint-000003");
    EXPECT_EQ(run(config(optimizer), optimizer + "-stopped", FolderMode::resume).end, RunEnd::finished);
    expect_same_run(optimizer + "-whole", optimizer + "-stopped");
  }
}

TEST_F(TrainingRun, ResumedAfterBeingKilledIsAsIfItHadNeverStopped) {
  run(config(), "whole");
  run(config(), "killed");
  const fs::path killed = folder_ / "killed";
  // As if killed while step 6 was being saved and its log line written.
  fs::rename(killed / "checkpoint-000006", killed / "checkpoint-000006.0123456789abcdef.tmp");
  fs::remove(killed / "checkpoint-000006.0123456789abcdef.tmp" / "trainer_state.json");
  folder_.write("killed/last", "checkpoint-000004\n");
  std::string log = content_of(killed / "log.jsonl");
  folder_.write("killed/log.jsonl", log.substr(0, log.size() - 20));
  EXPECT_EQ(run(config(), "killed", FolderMode::resume).end, RunEnd::finished);
  EXPECT_FALSE(fs::exists(killed / "checkpoint-000006.0123456789abcdef.tmp"));
  expect_same_run("whole", "killed");
}

TEST_F(TrainingRun, KilledBeforeItsFirstCheckpointStartsAgain) {
  run(config(), "whole");
  run(config(), "killed");
  for (const fs::path& checkpoint : checkpoints(folder_ / "killed")) fs::remove_all(checkpoint);
  EXPECT_EQ(run(config(), "killed", FolderMode::resume).end, RunEnd::finished);
  expect_same_run("whole", "killed");
  EXPECT_EQ(records("killed", "header").size(), 1U);
}

TEST_F(TrainingRun, KilledBeforeItsSummaryWritesItOnResume) {
  run(config(), "run");
  const std::string log = content_of(folder_ / "run" / "log.jsonl");
  folder_.write("run/log.jsonl", log.substr(0, log.rfind("{\"kind\":\"summary\"")));
  EXPECT_EQ(run(config(), "run", FolderMode::resume).end, RunEnd::finished);
  EXPECT_EQ(records("run", "train").size(), 6U);
  EXPECT_EQ(records("run", "summary").size(), 1U);
}

TEST_F(TrainingRun, ThatIsFinishedSaysSoOnResume) {
  const RunResult first = run(config(), "run");
  const std::string log = content_of(folder_ / "run" / "log.jsonl");
  const RunResult second = run(config(), "run", FolderMode::resume);
  EXPECT_EQ(second.end, RunEnd::already_finished);
  EXPECT_EQ(second.validation_loss, first.validation_loss);
  EXPECT_EQ(second.checkpoint, first.checkpoint);
  EXPECT_EQ(content_of(folder_ / "run" / "log.jsonl"), log);
}

TEST_F(TrainingRun, MayGoOnForMoreStepsAndWithOtherIntervals) {
  run(config(), "run");
  TrainConfig longer = config();
  longer.steps = 8;
  longer.eval_every = 1;
  EXPECT_EQ(run(longer, "run", FolderMode::resume).step, 8);
  EXPECT_EQ(records("run", "train").size(), 8U);
  EXPECT_EQ(records("run", "eval").size(), 4U);
  EXPECT_EQ(records("run", "summary").size(), 1U);
  EXPECT_EQ(content_of(folder_ / "run" / "config.toml"), to_toml(longer));
}

TEST_F(TrainingRun, IsNotResumedWithAnotherConfiguration) {
  run_until(3, config(), "run");
  const std::string log = content_of(folder_ / "run" / "log.jsonl");
  const auto message = [&](const TrainConfig& other) {
    return error_of<std::invalid_argument>([&] { run(other, "run", FolderMode::resume); });
  };
  TrainConfig other = config();
  other.batch = 8;
  EXPECT_THAT(message(other), HasSubstr("train.batch = 8"));
  other = config("muon");
  EXPECT_THAT(message(other), HasSubstr("optim.optimizer = muon"));
  other = config();
  other.steps = 2;
  EXPECT_THAT(message(other), HasSubstr("train.steps is 2"));
  other = config();
  folder_.write("text.txt", some_text() + "more");
  EXPECT_THAT(message(other), HasSubstr("other text"));
  EXPECT_EQ(content_of(folder_ / "run" / "log.jsonl"), log);
}

TEST_F(TrainingRun, DoesNotTouchAnotherRun) {
  run(config(), "run");
  EXPECT_THAT(error_of<std::invalid_argument>([&] { run(config(), "run"); }), HasSubstr("--resume"));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { run(config(), "none", FolderMode::resume); }),
              HasSubstr("nothing to resume"));
  folder_.write("run/notes.txt", "mine");
  EXPECT_EQ(run(config("muon"), "run", FolderMode::overwrite).end, RunEnd::finished);
  EXPECT_EQ(records("run", "header")[0]["optimizer"], "muon");
  EXPECT_EQ(content_of(folder_ / "run" / "notes.txt"), "mine");
}

TEST_F(TrainingRun, KeepsASecondWriterOut) {
  fs::create_directory(folder_ / "run");
  const LockFile lock(folder_ / "run");
  EXPECT_THAT(error_of<std::runtime_error>([&] { run(config(), "run"); }),
              HasSubstr("is writing to this folder"));
}

TEST_F(TrainingRun, LosesNothingWhereTheTextIsBad) {
  TrainConfig bad = config();
  run(bad, "run");
  bad.data = {(folder_ / "missing.txt").string()};
  EXPECT_THAT(error_of<std::runtime_error>([&] { run(bad, "run", FolderMode::overwrite); }),
              HasSubstr("missing.txt"));
  EXPECT_EQ(records("run", "summary").size(), 1U);
  bad.data = {folder_.write("short.txt", "abc")};
  EXPECT_THAT(error_of<std::invalid_argument>([&] { run(bad, "new"); }), HasSubstr("needed are 17"));
  EXPECT_FALSE(fs::exists(folder_ / "new"));
}

TEST_F(TrainingRun, KeepsTheNewestCheckpoints) {
  TrainConfig keep = config();
  keep.save_every = 1;
  keep.keep = 2;
  run(keep, "run");
  EXPECT_THAT(checkpoints(folder_ / "run"), testing::ElementsAre(folder_ / "run" / "checkpoint-000005",
                                                                 folder_ / "run" / "checkpoint-000006"));
}

TEST_F(TrainingRun, WhoseLossIsNotFiniteNamesTheLastGoodCheckpoint) {
  TrainConfig wild = config();
  wild.steps = 20;
  wild.save_every = 1;
  wild.adamw.lr = 1e30;
  wild.warmup = wild.cooldown = 0;
  const RunResult result = run(wild, "run");
  EXPECT_EQ(result.end, RunEnd::diverged);
  EXPECT_THAT(result.message, HasSubstr("not finite"));
  EXPECT_EQ(result.checkpoint, checkpoints(folder_ / "run").back());
  EXPECT_TRUE(records("run", "summary").empty());
  EXPECT_TRUE(records("run", "train").back()["loss"].is_null());
  EXPECT_EQ(records("run", "train").back()["skipped"], true);
}

TEST_F(TrainingRun, OnAFullDiskLeavesThePreviousCheckpointGood) {
  run(config(), "whole");
  run_until(2, config(), "full");
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 30000;  // room for the log, not for the weights
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message =
      error_of<std::runtime_error>([&] { run(config(), "full", FolderMode::resume); });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(message, HasSubstr("checkpoint-000004"));
  EXPECT_THAT(checkpoints(folder_ / "full"), testing::ElementsAre(folder_ / "full" / "checkpoint-000002"));
  EXPECT_EQ(content_of(folder_ / "full" / "last"), "checkpoint-000002\n");
  for (const auto& entry : fs::directory_iterator(folder_ / "full"))
    EXPECT_NE(entry.path().extension(), ".tmp");
  run(config(), "full", FolderMode::resume);
  expect_same_run("whole", "full");
}

TEST_F(TrainingRun, InBf16IsNearTheOneInFloat32) {
  TrainConfig rounded = config();
  rounded.dtype = "bf16";
  run(config(), "f32");
  run(rounded, "bf16");
  const double exact = records("f32", "train")[5]["loss"], close = records("bf16", "train")[5]["loss"];
  EXPECT_NE(exact, close);
  EXPECT_NEAR(close, exact, 0.02 * exact);
}

TEST_F(TrainingRun, CanBeEvaluatedOnOtherText) {
  TrainConfig apart = config();
  apart.validation = {folder_.write("other.txt", some_text().substr(100, 2000))};
  const RunResult result = run(apart, "run");
  const Evaluation by_run = evaluate(folder_ / "run", apart.validation, 1);
  const Evaluation by_checkpoint = evaluate(result.checkpoint, apart.validation, 1);
  EXPECT_EQ(by_run.loss, by_checkpoint.loss);
  EXPECT_NEAR(by_run.loss, result.validation_loss, 1e-6);
  EXPECT_GT(by_run.tokens, 1500);
}

TEST_F(TrainingRun, GivesSamples) {
  run(config(), "run");
  const auto greedy = [&](std::uint64_t seed) { return sample(folder_ / "run", "line ", 40, 0, seed, 1); };
  EXPECT_EQ(greedy(1).size(), 40U) << "longer than the context of 16";
  EXPECT_EQ(greedy(1), greedy(2));
  EXPECT_EQ(sample(folder_ / "run", "", 20, 1, 1, 1), sample(folder_ / "run", "", 20, 1, 1, 1));
  EXPECT_NE(sample(folder_ / "run", "", 20, 1, 1, 1), sample(folder_ / "run", "", 20, 1, 2, 1));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { sample(folder_ / "run", "a", 1, -1, 0, 1); }),
              HasSubstr("-1"));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { sample(folder_ / "nowhere", "a", 1, 0, 0, 1); }),
              HasSubstr("no such folder"));
}

TEST_F(TrainingRun, RefusesTheWeightsOfAnotherModel) {
  run(config(), "narrow");
  TrainConfig wide = config();
  wide.model.width = 32;
  run(wide, "wide");
  fs::copy_file(folder_ / "wide/checkpoint-000006/config.json",
                folder_ / "narrow/checkpoint-000006/config.json", fs::copy_options::overwrite_existing);
  const std::string message = error_of<std::runtime_error>([&] { evaluate(folder_ / "narrow", {text_}, 1); });
  EXPECT_THAT(
      message,
      HasSubstr("model.safetensors: tensor model.embed_tokens.weight is 256x16, in the model it is 256x32"));
}

TEST_F(TrainingRun, RefusesADamagedCheckpoint) {
  run(config(), "run");
  const auto damaged = [&](const std::string& file, const std::string& content) {
    const std::string path = "run/checkpoint-000006/" + file;
    const std::string before = content_of(folder_ / path);
    folder_.write(path, content);
    const std::string message = error_of<std::runtime_error>([&] { evaluate(folder_ / "run", {text_}, 1); });
    folder_.write(path, before);
    return message;
  };
  EXPECT_THAT(damaged("config.json", "{}"), HasSubstr("config.json: no \"model_type\""));
  EXPECT_THAT(damaged("config.json", "["), HasSubstr("config.json: is no JSON"));
  EXPECT_THAT(damaged("model.safetensors", "short"), HasSubstr("model.safetensors"));
  std::string config_json = content_of(folder_ / "run/checkpoint-000006/config.json");
  config_json.replace(config_json.find("\"hidden_size\": 16"), 17, "\"hidden_size\": -1");
  EXPECT_THAT(damaged("config.json", config_json), HasSubstr("\"hidden_size\" is -1"));
}

TEST_F(TrainingRun, CanBePlannedWithoutTraining) {
  const std::string text = dry_run(config(), false);
  EXPECT_THAT(text, HasSubstr("model.layers.0.mlp.down_proj.weight"));
  EXPECT_THAT(text, HasSubstr("parameters"));
  const auto plan = nlohmann::json::parse(dry_run(config(), true));
  EXPECT_EQ(plan["tokens_per_step"], 64);
  EXPECT_EQ(plan["parameters"], 256 * 16 * 2 + 4 * 16 * 16 + 3 * 16 * 64 + 3 * 16);
  const double linear = 256 * 16 + 4 * 16 * 16 + 3 * 16 * 64, attention = 1 * 16 * 16;
  EXPECT_EQ(plan["flops_per_step"], 6 * (linear + attention) * 64);
  for (const auto& parameter : plan["routing"]) {
    const std::string name = parameter["name"];
    const bool hidden = name.find("proj") != std::string::npos;
    EXPECT_EQ(parameter["optimizer"], hidden ? "aurora" : "adamw") << name;
  }
}

TEST(Schedule, RisesStaysAndFalls) {
  // 10 steps, of which 2 rise and 4 fall.
  const std::vector<double> expected = {0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25};
  for (Index step = 0; step < 10; ++step)
    EXPECT_NEAR(schedule_factor(step, 10, 0.2, 0.4), expected[static_cast<std::size_t>(step)], 1e-15) << step;
  EXPECT_EQ(schedule_factor(0, 10, 0, 0), 1);
  EXPECT_EQ(schedule_factor(9, 10, 0, 0), 1);
}

TEST(RunFolder, ListsWholeCheckpointsByTheirStep) {
  const TemporaryFolder folder;
  for (const char* name : {"checkpoint-000010", "checkpoint-000009", "checkpoint-1000000",
                           "checkpoint-000011.tmp", "checkpoint-12", "checkpoint-00001x"})
    fs::create_directory(folder / name);
  EXPECT_THAT(checkpoints(folder.path()),
              testing::ElementsAre(folder / "checkpoint-000009", folder / "checkpoint-000010",
                                   folder / "checkpoint-1000000"));
}

TEST(RunFolder, DoesNotFollowALastThatLeadsElsewhere) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "checkpoint-000001");
  fs::create_directories(folder / "run");
  folder.write("run/last", "../checkpoint-000001\n");
  EXPECT_THAT(error_of<std::invalid_argument>([&] { resolve_checkpoint(folder / "run"); }),
              HasSubstr("neither"));
}

TEST(Summary, IsOfTheLastRecordsAndOfAllTimes) {
  std::vector<nlohmann::ordered_json> records;
  for (
      const char* line :
      {R"({"kind":"train","step":1,"tokens":100,"step_ms":10,"optimizer_ms":1,"seconds":1})",
       R"({"kind":"eval","step":1,"loss":3,"bits_per_byte":4,"seconds":2})",
       R"({"kind":"neurons","step":1,"dead":{"0.1":1},"gate":{"starved":{"0.1":1},"update_row_norm_cv":1},"up":{"starved":{"0.1":1},"update_row_norm_cv":1}})",
       R"({"kind":"train","step":2,"tokens":100,"step_ms":30,"optimizer_ms":7,"seconds":3})",
       R"({"kind":"eval","step":2,"loss":2,"bits_per_byte":2.5,"seconds":4})",
       R"({"kind":"neurons","step":2,"dead":{"0.1":0},"gate":{"starved":{"0.1":0.1},"update_row_norm_cv":0.5},"up":{"starved":{"0.1":0.2},"update_row_norm_cv":0.5}})",
       R"({"kind":"neurons","step":2,"dead":{"0.1":0.5},"gate":{"starved":{"0.1":0.3},"update_row_norm_cv":0.5},"up":{"starved":{"0.1":0.4},"update_row_norm_cv":0.1}})"})
    records.push_back(nlohmann::ordered_json::parse(line));
  const RunResult result = summarize(records);
  EXPECT_EQ(result.step, 2);
  EXPECT_EQ(result.validation_loss, 2);
  EXPECT_EQ(result.bits_per_byte, 2.5);
  EXPECT_DOUBLE_EQ(result.dead, 0.25);
  EXPECT_DOUBLE_EQ(result.starved, 0.25);
  EXPECT_DOUBLE_EQ(result.update_row_norm_cv, 0.4);
  EXPECT_DOUBLE_EQ(result.tokens_per_second, 5000);
  EXPECT_DOUBLE_EQ(result.optimizer_share, 0.2);
  EXPECT_EQ(result.seconds, 4);
}

}  // namespace
