#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>

#include "config.hpp"
#include "run_folder.hpp"
#include "run_summary.hpp"

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
};

/// Trains into `folder`: config.toml, log.jsonl, TensorBoard events, checkpoints, `last`; a lock file keeps a
/// second writer out. With FolderMode::resume the run goes on from its newest whole checkpoint, bit for bit
/// as if it had never stopped.
RunResult train(const TrainConfig& config, const std::filesystem::path& folder, FolderMode mode,
                const TrainHooks& hooks);

/// Routing table, parameter count, memory and FLOPs per step, as text or JSON; trains nothing.
std::string dry_run(const TrainConfig& config, bool json);

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
