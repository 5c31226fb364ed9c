#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "config.hpp"
#include "run_folder.hpp"
#include "run_summary.hpp"

namespace aurora {
class Collectives;
}

namespace aurora::trainer {

/// What the progress line shows after a step.
struct Progress {
  Index step = 0, steps = 0;
  double loss = 0, tokens_per_second = 0, seconds_left = 0;
  double optimizer_share = 0;    // of the step time so far
  double dead = 0, starved = 0;  // last neuron record; NaN before the first
  double validation_loss = 0;    // NaN before the first evaluation
};

struct TrainHooks {
  std::function<void(const Progress&)> progress;
  std::function<void(const std::string&)> notice;  // one-line messages for people
  const std::atomic<bool>* stop = nullptr;  // set by a signal: finish the step, save, return interrupted
  Collectives* ranks = nullptr;             // the processes that train this model together; null: this one
  std::function<void(Index)> step_begins = {};  // number of the step that begins, from 1
  int threads = 0;                              // where the configuration leaves them open; 0: torch's choice
};

/// Trains into `folder`: config.toml, log.jsonl, TensorBoard events, checkpoints, `last`; a lock file keeps a
/// second writer out. With FolderMode::resume the run goes on from its newest whole checkpoint, bit for bit
/// as if it had never stopped. Of several ranks the first writes; on the others the result has its end alone.
RunResult train(const TrainConfig& config, const std::filesystem::path& folder, FolderMode mode,
                const TrainHooks& hooks);

/// So many ranks, each with a GPU of this name.
struct ScaleQuestion {
  int ranks = 1;
  std::string gpu;
};
/// Routing table, parameter count, memory and FLOPs per step, as text or JSON; with a question also what a
/// step takes at that scale. Trains nothing.
std::string dry_run(const TrainConfig& config, bool json, const std::optional<ScaleQuestion>& scale = {});

struct Evaluation {
  double loss, bits_per_byte;  // nats per token; bits per byte of text
  Index tokens;
};
/// CHECKPOINT is a checkpoint folder or a run folder. All of the text up to 2^27 tokens; of more, so many
/// evenly spaced.
Evaluation evaluate(const std::filesystem::path& checkpoint, const std::vector<std::string>& data,
                    int threads, const std::string& device = "cpu");

/// Bytes generated after `prompt`; temperature 0 is greedy.
std::string sample(const std::filesystem::path& checkpoint, const std::string& prompt, Index tokens,
                   double temperature, std::uint64_t seed, int threads, const std::string& device = "cpu");

/// Torch's version and compile flags, for `aurora doctor`.
std::string torch_description();

/// What train.device can be here, the CPU first: "cuda:0", "NVIDIA H100 80GB HBM3".
struct DeviceDescription {
  std::string device, name;
};
std::vector<DeviceDescription> devices();

}  // namespace aurora::trainer
