#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"

namespace aurora::trainer {

// Names inside a run folder: config.toml, log.jsonl, events.out.tfevents.*, checkpoint-000500/,
// momentum-000050.safetensors, last, lock. What is being written has a temporary_name of these, so that the
// plain name always belongs to something whole.

std::string checkpoint_name(Index step);  // "checkpoint-000500"
std::string momentum_name(Index step);    // "momentum-000050.safetensors"

/// The step in the name of a checkpoint's folder; nothing for other names.
std::optional<Index> step_of_checkpoint(const std::filesystem::path& checkpoint);

/// Whole checkpoints in the folder, oldest first.
std::vector<std::filesystem::path> checkpoints(const std::filesystem::path& folder);

/// A checkpoint folder itself, or of a run folder the one that `last` names. Throws std::invalid_argument
/// where there is none.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

bool holds_run(const std::filesystem::path& folder);

enum class FolderMode : std::uint8_t { fresh, resume, overwrite };

/// Throws std::invalid_argument that says what to do: `fresh` where there is a run, `resume` where there is
/// no folder.
void require_mode(const std::filesystem::path& folder, FolderMode mode);

/// Throws std::invalid_argument naming the first setting of FOLDER/config.toml that differs from `config`,
/// but for those that a resumed run may change: train.steps, the intervals and train.keep. Nothing to compare
/// is no difference.
void require_same_run(const TrainConfig& config, const std::filesystem::path& folder);
/// The same of a configuration that was read from `place`.
void require_same_run(const TrainConfig& config, const TrainConfig& before,
                      const std::filesystem::path& place);

/// "train.seed = 1 instead of 0" of the first setting that differs; empty where none does.
std::string first_difference(const TrainConfig& here, const TrainConfig& there);

/// What an error that ends a run at step `now` says of those since its last checkpoint, of step `saved`:
/// "; steps 7 to 9 are lost: the last checkpoint is ..."; empty where there are none.
std::string lost_steps(Index saved, Index now, const std::filesystem::path& checkpoint);

/// Removes what an earlier run left: everything of the names above but the lock. Other files stay.
void remove_run(const std::filesystem::path& folder);

/// Removes what a killed run left half-written.
void remove_unfinished(const std::filesystem::path& folder);

/// Removes all but the newest `keep` checkpoints; 0 keeps all.
void keep_newest(const std::filesystem::path& folder, Index keep);

}  // namespace aurora::trainer
