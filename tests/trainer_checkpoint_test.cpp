// Checkpoints that are not what was saved, text that changes, and runs that are asked to stop.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>

#include "checkpoint.hpp"
#include "evaluate.hpp"
#include "run_folder.hpp"
#include "safetensors.hpp"
#include "support/training_run.hpp"

namespace {

using namespace aurora::trainer;
using aurora::test::content_of;
using aurora::test::error_of;
using aurora::test::some_text;
using aurora::test::TrainingRun;
using testing::HasSubstr;
namespace fs = std::filesystem;

TEST_F(TrainingRun, AskedToStopPutsOffItsRecordsAndMakesUpForThem) {
  run(config(), "whole");
  EXPECT_EQ(run_until(3, config(), "stopped").end, RunEnd::interrupted);
  EXPECT_TRUE(records("stopped", "eval").empty());
  EXPECT_TRUE(records("stopped", "neurons").empty());
  EXPECT_TRUE(fs::exists(folder_ / "stopped/checkpoint-000003/directions.safetensors"));
  EXPECT_EQ(run(config(), "stopped", FolderMode::resume).end, RunEnd::finished);
  expect_same_run("whole", "stopped");
}

TEST_F(TrainingRun, KilledAfterRecordsThatWerePutOffHasThemOnce) {
  run(config(), "whole");
  run_until(3, config(), "killed");
  fs::copy(folder_ / "killed/checkpoint-000003", folder_ / "kept", fs::copy_options::recursive);
  run(config(), "killed", FolderMode::resume);
  // As a kill just after the records leaves it: they are in the log, the checkpoint says they are due.
  for (const auto& checkpoint : checkpoints(folder_ / "killed")) fs::remove_all(checkpoint);
  fs::rename(folder_ / "kept", folder_ / "killed/checkpoint-000003");
  run(config(), "killed", FolderMode::resume);
  expect_same_run("whole", "killed");
}

TEST_F(TrainingRun, AskedToStopAtItsLastStepIsNotFinished) {
  run(config(), "whole");
  EXPECT_EQ(run_until(6, config(), "stopped").end, RunEnd::interrupted);
  EXPECT_TRUE(records("stopped", "summary").empty());
  EXPECT_EQ(run(config(), "stopped", FolderMode::resume).end, RunEnd::finished);
  EXPECT_EQ(records("stopped", "eval").size(), 2U);
  EXPECT_EQ(records("stopped", "neurons").back()["up"], records("whole", "neurons").back()["up"]);
  EXPECT_EQ(run(config(), "stopped", FolderMode::resume).end, RunEnd::already_finished);
}

/// Runs on text that is mapped, with something done to it after step 2.
class TextInUse : public TrainingRun {
 protected:
  TextInUse() {
    while (std::ssize(content_) < 100'000) content_ += some_text();
    folder_.write("long.txt", content_);
  }
  TrainConfig mapped() const {
    TrainConfig mapped = config();
    mapped.data = {(folder_ / "long.txt").string()};
    mapped.save_every = 100;
    return mapped;
  }
  RunResult run_with(const std::function<void()>& change) const {
    return run(mapped(), "run", FolderMode::fresh,
               {.progress =
                    [&](const Progress& now) {
                      if (now.step == 2) change();
                    },
                .notice = {}});
  }
  std::string error_with(const std::function<void()>& change) const {
    return error_of<std::runtime_error>([&] { run_with(change); });
  }

  fs::path file_ = folder_ / "long.txt";
  std::string content_;
};

TEST_F(TextInUse, ThatIsChangedInPlaceEndsTheRunAtTheNextEvaluation) {
  const auto time = fs::last_write_time(file_);
  const std::string message = error_with([&] {
    std::fstream(file_, std::ios::in | std::ios::out | std::ios::binary).write("other", 5);
    fs::last_write_time(file_, time);
  });
  EXPECT_THAT(message, HasSubstr("long.txt: the text was changed while it was being trained on"));
  EXPECT_THAT(message, HasSubstr("steps 1 to 3 are lost: there is no checkpoint"));
  EXPECT_TRUE(checkpoints(folder_ / "run").empty());
  EXPECT_TRUE(records("run", "eval").empty());
}

TEST_F(TextInUse, MayGetAnotherTime) {
  EXPECT_EQ(run_with([&] { fs::last_write_time(file_, fs::file_time_type::clock::now()); }).end,
            RunEnd::finished);
}

TEST_F(TextInUse, MayBeReplacedByAFileThatOthersWillRead) {
  EXPECT_EQ(run_with([&] {
              folder_.write("new.txt", some_text());
              fs::rename(folder_ / "new.txt", file_);
            }).end,
            RunEnd::finished);
}

TEST_F(TextInUse, ThatBecomesShorterEndsTheRunWithACheckpoint) {
  const std::string message = error_with([&] { fs::resize_file(file_, 100); });
  EXPECT_THAT(message, HasSubstr("long.txt: became shorter"));
  EXPECT_THAT(message, HasSubstr("saved in " + (folder_ / "run/checkpoint-000002").string()));
  EXPECT_EQ(content_of(folder_ / "run/last"), "checkpoint-000002\n");
  folder_.write("long.txt", content_);
  run(mapped(), "run", FolderMode::resume);
  run(mapped(), "whole");
  expect_same_run("whole", "run");
}

/// A run with a checkpoint of step 4, and what an altered one is answered with.
class CheckpointOfStep4 : public TrainingRun {
 protected:
  CheckpointOfStep4() { run_until(4, config(), "run"); }

  /// The message of a resume with `alter` done to the state, whose own checksum is right.
  std::string refused(const std::function<void(TrainerState&)>& alter) const {
    TrainerState state = read_trainer_state(checkpoint_);
    alter(state);
    fs::remove(checkpoint_ / "trainer_state.json");
    write_trainer_state(checkpoint_, state);
    return refused();
  }
  std::string refused() const {
    const std::string log = content_of(folder_ / "run/log.jsonl");
    std::string message;
    try {
      run(config(), "run", FolderMode::resume);
      ADD_FAILURE() << "resumed";
    } catch (const std::exception& error) {
      message = error.what();
    }
    EXPECT_EQ(content_of(folder_ / "run/log.jsonl"), log);
    EXPECT_EQ(checkpoints(folder_ / "run").back(), checkpoint_);
    return message;
  }
  nlohmann::json state() const {
    return nlohmann::json::parse(content_of(checkpoint_ / "trainer_state.json"));
  }

  fs::path checkpoint_ = folder_ / "run" / "checkpoint-000004";
};

TEST_F(CheckpointOfStep4, IsRefusedWhereItSaysAnotherStep) {
  EXPECT_THAT(refused([](TrainerState& state) { state.step = 5; }),
              HasSubstr("trainer_state.json: \"step\" is 5, but the folder is checkpoint-000004"));
  for (const auto& wrong : std::vector<nlohmann::json>{-5, 4.7, 18446744073709551615ULL, "4", nullptr}) {
    auto json = state();
    json["step"] = wrong;
    folder_.write("run/checkpoint-000004/trainer_state.json", json.dump());
    EXPECT_THAT(refused(), HasSubstr("\"step\" is " + wrong.dump()));
  }
}

TEST_F(CheckpointOfStep4, IsRefusedWhereItsStateWasChanged) {
  auto json = state();
  EXPECT_THAT(refused([](TrainerState& state) { state.optimizer_steps["lm_head.weight"] = 5; }),
              HasSubstr("\"lm_head.weight\" is 5, not a whole number from 0 to 4"));
  json["optimizer_steps"]["lm_head.weight"] = 3;
  folder_.write("run/checkpoint-000004/trainer_state.json", json.dump());
  EXPECT_THAT(refused(), HasSubstr("its checksum is another"));
}

TEST_F(CheckpointOfStep4, IsRefusedWhereItIsOfAnotherRun) {
  TrainConfig other = config();
  other.seed = 1;
  EXPECT_THAT(refused([&](TrainerState& state) { state.config = to_toml(other); }), HasSubstr("train.seed"));
}

TEST_F(CheckpointOfStep4, IsRefusedWhereAFileIsNotItsOwn) {
  TrainConfig other = config();
  other.seed = 1;
  run_until(4, other, "other");
  for (const char* name : {"optimizer.safetensors", "model.safetensors", "config.json"}) {
    const std::string before = content_of(checkpoint_ / name);
    std::string flipped = before;
    flipped[flipped.size() - 9] ^= 1;
    for (const std::string& content :
         {content_of(folder_ / "other/checkpoint-000004" / name) + (name[0] == 'c' ? " " : ""), flipped}) {
      folder_.write("run/checkpoint-000004/" + std::string(name), content);
      EXPECT_THAT(refused(), HasSubstr(std::string(name) + ": is not the file that was saved"));
    }
    folder_.write("run/checkpoint-000004/" + std::string(name), before);
  }
  fs::remove(checkpoint_ / "optimizer.safetensors");
  EXPECT_THAT(refused(), HasSubstr("optimizer.safetensors"));
}

TEST_F(CheckpointOfStep4, IsNotEvaluatedWithABitThatFlipped) {
  std::string model = content_of(checkpoint_ / "model.safetensors");
  model[model.size() - 9] ^= 1;
  folder_.write("run/checkpoint-000004/model.safetensors", model);
  EXPECT_THAT(error_of<std::runtime_error>([&] { evaluate(folder_ / "run", {text_}, 1); }),
              HasSubstr("model.safetensors: is not the file that was saved"));
}

TEST_F(CheckpointOfStep4, OfAnOlderVersionIsTakenWithANotice) {
  auto json = state();
  for (const char* key : {"files", "sha256", "training_bytes", "evaluation_due", "neurons_due"})
    json.erase(key);
  folder_.write("run/checkpoint-000004/trainer_state.json", json.dump());
  std::string notices;
  run(config(), "run", FolderMode::resume,
      {.progress = {}, .notice = [&](const std::string& text) { notices += text + "\n"; }});
  EXPECT_THAT(notices, HasSubstr("checkpoint-000004 is of an older version, without checksums"));
  run(config(), "whole");
  expect_same_run("whole", "run");
}

TEST_F(CheckpointOfStep4, WithAMomentumThatIsNotFiniteIsADivergence) {
  const SafetensorsFile file(checkpoint_ / "optimizer.safetensors");
  std::string bytes = content_of(file.path());
  const TensorEntry* momentum = file.find("model.layers.0.mlp.up_proj.weight.momentum_buffer");
  ASSERT_NE(momentum, nullptr);
  const auto start = momentum->bytes.data() - file.mapped().bytes().data();
  const float not_a_number = NAN;
  std::memcpy(bytes.data() + start, &not_a_number, sizeof not_a_number);
  folder_.write("run/checkpoint-000004/optimizer.safetensors", bytes);
  TrainerState state = read_trainer_state(checkpoint_);
  state.files["optimizer.safetensors"] = file_sum(checkpoint_ / "optimizer.safetensors");
  fs::remove(checkpoint_ / "trainer_state.json");
  write_trainer_state(checkpoint_, state);

  const RunResult result = run(config(), "run", FolderMode::resume);
  EXPECT_EQ(result.end, RunEnd::diverged);
  EXPECT_EQ(result.step, 5);
  EXPECT_EQ(result.checkpoint, checkpoint_);
  EXPECT_EQ(result.message,
            "the optimizer state model.layers.0.mlp.up_proj.weight.momentum_buffer is not finite in step 5");
  ASSERT_EQ(records("run", "diverged").size(), 1U);
  EXPECT_EQ(records("run", "diverged")[0]["step"], 5);
}

TEST_F(TrainingRun, WithARecordThatIsNoneIsNotResumed) {
  run_until(3, config(), "run");
  const std::string log = content_of(folder_ / "run/log.jsonl");
  folder_.write("run/log.jsonl", log + R"({"kind":"train","step":"x"})" + "\n");
  EXPECT_THAT(error_of<std::runtime_error>([&] { run(config(), "run", FolderMode::resume); }),
              testing::AllOf(HasSubstr("log.jsonl: line "), HasSubstr("is no train record")));
}

TEST_F(TrainingRun, ALinkInItsFolderIsNotWrittenThrough) {
  run_until(3, config(), "run");
  folder_.write("precious.txt", "12");
  fs::remove(folder_ / "run/lock");
  fs::create_symlink("../precious.txt", folder_ / "run/lock");
  EXPECT_THAT(error_of<std::runtime_error>([&] { run(config(), "run", FolderMode::resume); }),
              HasSubstr("lock: is a link"));
  EXPECT_EQ(content_of(folder_ / "precious.txt"), "12");
  fs::remove(folder_ / "run/lock");
  for (const char* name : {"last.tmp", "config.toml.tmp", "log.jsonl.tmp", "checkpoint-000006.tmp"})
    fs::create_symlink("../precious.txt", folder_ / "run" / name);
  run(config(), "run", FolderMode::resume);
  EXPECT_EQ(content_of(folder_ / "precious.txt"), "12");
  EXPECT_TRUE(fs::is_symlink(folder_ / "run/last.tmp")) << "what is not ours stays";
}

}  // namespace
