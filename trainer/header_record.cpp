#include "header_record.hpp"

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <array>
#include <ctime>

#include "aurora/backend.hpp"
#include "aurora/version.hpp"
#include "build_commit.hpp"
#include "device.hpp"
#include "machine_speed.hpp"
#include "model_size.hpp"

namespace aurora::trainer {
namespace {

using Json = nlohmann::ordered_json;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  gmtime_r(&now, &fields);
  std::array<char, sizeof "2026-01-01T00:00:00Z"> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &fields);
  return text.data();
}

/// {"model": {"width": "128", ...}, ...}, values as they stand in config.toml.
Json nested(const std::vector<Setting>& list) {
  Json json;
  for (const Setting& setting : list) {
    const auto dot = setting.key.find('.');
    Json value = Json::parse(setting.value, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) value = setting.value;
    json[setting.key.substr(0, dot)][setting.key.substr(dot + 1)] = std::move(value);
  }
  return json;
}

}  // namespace

Json header_record(const TrainConfig& config, c10::Device device, const CorpusSummary& text,
                   const SharedSums& sums, Index ranks) {
  return {{"kind", "header"},
          {"version", AURORA_VERSION},
          {"commit", build_commit()},
          {"optimizer", name(config.rule())},
          {"seed", config.seed},
          {"device", device.str()},
          {"device_name", device_name(device)},
          {"threads", at::get_num_threads()},
          {"ranks", ranks},
          {"wait_policy", wait_policy()},
          {"load", load_average()},
          {"blas", blas_description()},
          {"torch", TORCH_VERSION},
          {"parameters", parameter_count(config.model)},
          {"tokens_per_step", tokens_per_step(config)},
          {"data",
           {{"files", text.files},
            {"bytes", text.bytes},
            {"training_bytes", text.training_bytes},
            {"validation_bytes", text.validation_bytes},
            {"sha256", text.sha256}}},
          {"initial_weights_sha256", sums.initial_weights},
          {"data_order_sha256", sums.data_order},
          {"started", utc_now()},
          {"config", nested(settings(config))}};
}

}  // namespace aurora::trainer
