#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "aurora/matrix.hpp"

namespace aurora::trainer {

enum class RunEnd : std::uint8_t { finished, already_finished, interrupted, diverged };

struct RunResult {
  RunEnd end = RunEnd::finished;
  Index step = 0;
  double validation_loss = 0, bits_per_byte = 0, dead = 0, starved = 0, update_row_norm_cv = 0;
  double tokens_per_second = 0, optimizer_share = 0, seconds = 0;
  std::filesystem::path checkpoint;  // newest whole one; empty if none
  std::string message;               // why it diverged
};

/// What a run came to, from its log alone, so that a resumed run sums up all of itself: the last evaluation;
/// of the last neuron records the means over layers of dead (0.1), and over layers, gate and up of starved
/// (0.1) and update_row_norm_cv; tokens and optimizer time over the time of all steps. NaN where there is no
/// such record.
RunResult summarize(std::span<const nlohmann::ordered_json> records);

/// The "summary" record.
nlohmann::ordered_json summary_record(const RunResult& result);

}  // namespace aurora::trainer
