#pragma once

#include <c10/core/Device.h>

#include <nlohmann/json.hpp>
#include <string>

#include "config.hpp"
#include "text_data.hpp"

namespace aurora::trainer {

/// Checksums of what a comparison shares.
struct SharedSums {
  std::string initial_weights, data_order;
};

/// The "header" record of the log: configuration, machine, text, and when the run started.
nlohmann::ordered_json header_record(const TrainConfig& config, c10::Device device, const CorpusSummary& text,
                                     const SharedSums& sums, Index ranks);

}  // namespace aurora::trainer
