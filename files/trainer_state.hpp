#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "config.hpp"
#include "file_sums.hpp"

namespace aurora::trainer {

/// What a run needs to go on, beside weights and optimizer state, and what says that these are its own.
struct TrainerState {
  Index step = 0;                                // steps taken
  Index skipped_in_a_row = 0;                    // steps without effect just before
  std::string config;                            // the configuration as TOML
  std::string data_sha256;                       // of the text
  Index training_bytes = 0;                      // of it; 0: not recorded
  std::map<std::string, Index> optimizer_steps;  // of each parameter
  // Records of this step that the log does not have yet: the run was asked to stop before they were made.
  bool evaluation_due = false, neurons_due = false;
  std::map<std::string, FileSum> files;  // of the checkpoint, by name; empty in older ones
};

/// Writes CHECKPOINT/trainer_state.json with a checksum of itself.
void write_trainer_state(const std::filesystem::path& checkpoint, const TrainerState& state);

/// Reads it: whole numbers within their bounds, the step that the folder is named after, no parameter with
/// more steps than the run, the checksum. Of older checkpoints, which have no checksums, the rest. Throws
/// std::runtime_error naming file, key and value.
TrainerState read_trainer_state(const std::filesystem::path& checkpoint);

/// Throws std::runtime_error naming the file where one of the checkpoint's files is missing, or has another
/// length or checksum than the state says.
void require_files(const std::filesystem::path& checkpoint, const TrainerState& state);
/// The same of one file, where the state names it.
void require_file(const std::filesystem::path& checkpoint, const TrainerState& state,
                  const std::string& name);

}  // namespace aurora::trainer
