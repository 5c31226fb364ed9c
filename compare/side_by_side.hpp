#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "train.hpp"

namespace aurora::compare {

using Train = std::function<trainer::RunResult(const trainer::TrainConfig&, const std::filesystem::path&,
                                               trainer::FolderMode, const trainer::TrainHooks&)>;

/// A run to be made.
struct Task {
  trainer::TrainConfig config;
  std::filesystem::path folder;
  trainer::FolderMode mode;
};

/// Each with the index of its task.
struct SideBySideHooks {
  std::function<void(std::size_t)> begin;  // before a task is started; what it throws ends all, as below
  std::function<void(std::size_t, const trainer::Progress&)> progress;
  std::function<void(std::size_t, const trainer::RunResult&)> end;
  std::function<void(const std::string&)> notice;
  const std::atomic<bool>* stop = nullptr;  // set: every run is asked to save and stop, and none is started
};

/// Makes the tasks in their order, `jobs` at a time, each in a child process, because libtorch's threads and
/// settings belong to a process. The caller must not have used them: a child is a copy of it. SIGTERM asks a
/// child to save and stop, as does the end of its parent. Throws what `begin` threw, or what train threw as
/// std::invalid_argument or std::runtime_error, once the other children have saved and stopped.
void run_side_by_side(std::span<const Task> tasks, int jobs, const Train& train,
                      const SideBySideHooks& hooks);

}  // namespace aurora::compare
