#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "run_log.hpp"
#include "support/temporary_folder.hpp"
#include "train.hpp"

namespace aurora::test {

using trainer::FolderMode;
using trainer::Progress;
using trainer::RunResult;
using trainer::TrainConfig;
using trainer::TrainHooks;

inline std::string some_text() {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text += "line " + std::to_string(i * i % 97) + " of some text, number " + std::to_string(i) + "\n";
  return text;
}

/// Runs of six steps in a folder of the test.
class TrainingRun : public testing::Test {
 protected:
  TrainConfig config(const std::string& optimizer = "aurora") const {
    TrainConfig config;
    config.model = {.width = 16, .layers = 1, .heads = 2, .kv_heads = 2, .context = 16};
    config.data = {text_};
    aurora::trainer::set(config, "optim.optimizer", optimizer);
    config.steps = 6;
    config.batch = 4;
    config.threads = 1;
    config.eval_every = config.diagnose_every = 3;
    config.save_every = 2;
    return config;
  }

  RunResult run(const TrainConfig& config, const std::string& name, FolderMode mode = FolderMode::fresh,
                const TrainHooks& hooks = {}) const {
    return trainer::train(config, folder_ / name, mode, hooks);
  }

  /// Trains until step `last` and stops as a signal would make it.
  RunResult run_until(Index last, const TrainConfig& config, const std::string& name) const {
    std::atomic<bool> stop = false;
    return run(
        config, name, FolderMode::fresh,
        {.progress = [&](const Progress& now) { stop = now.step + 1 >= last; }, .notice = {}, .stop = &stop});
  }

  std::vector<nlohmann::ordered_json> records(const std::string& name, const std::string& kind) const {
    std::vector<nlohmann::ordered_json> found;
    for (auto& record : trainer::read_log(folder_ / name / "log.jsonl").records)
      if (record["kind"] == kind) found.push_back(std::move(record));
    return found;
  }

  /// Equal weights, optimizer state, and records but for times.
  void expect_same_run(const std::string& a, const std::string& b) const {
    for (const char* file :
         {"model.safetensors", "optimizer.safetensors", "trainer_state.json", "config.json"})
      EXPECT_EQ(content_of(folder_ / a / "checkpoint-000006" / file),
                content_of(folder_ / b / "checkpoint-000006" / file))
          << file;
    for (const char* kind : {"train", "eval", "neurons"}) {
      auto of_a = records(a, kind), of_b = records(b, kind);
      for (auto* list : {&of_a, &of_b})
        for (auto& record : *list)
          for (const char* time : {"step_ms", "optimizer_ms", "tokens_per_second", "seconds", "product_ms"})
            record.erase(time);
      EXPECT_EQ(of_a, of_b) << kind;
    }
  }

  TemporaryFolder folder_;
  std::string text_ = folder_.write("text.txt", some_text());
};

}  // namespace aurora::test
