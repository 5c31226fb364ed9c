#pragma once

#include <nlohmann/json.hpp>
#include <span>

#include "train.hpp"

namespace aurora::trainer {

/// What a run came to, from its log alone, so that a resumed run sums up all of itself: the last evaluation;
/// of the last neuron records the means over layers of dead (0.1), and over layers, gate and up of starved
/// (0.1) and update_row_norm_cv; tokens and optimizer time over the time of all steps. NaN where there is no
/// such record.
RunResult summarize(std::span<const nlohmann::ordered_json> records);

/// The "summary" record.
nlohmann::ordered_json summary_record(const RunResult& result);

}  // namespace aurora::trainer
