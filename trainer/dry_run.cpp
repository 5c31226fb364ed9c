#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "model_size.hpp"
#include "scale.hpp"
#include "train.hpp"

namespace aurora::trainer {

namespace {

constexpr double kMiB = 1024.0 * 1024.0;

/// The plan of several ranks: ours, and what other ways of sharing the step would take.
std::string scale_table(const TrainConfig& config, const ScaleQuestion& scale) {
  std::ostringstream text;
  text.precision(4);
  text << "\nestimate for " << scale.ranks << " " << scale.gpu << " GPUs, per rank and step\n";
  text << "                  memory MiB   state MiB    sent MiB  unevenness   step ms  optimizer\n";
  for (const Sharing sharing : kSharings) {
    const ScaleEstimate one = scale_estimate(config, scale.ranks, gpu_of(scale.gpu), sharing);
    text << std::left << std::setw(16) << name(sharing) << std::right << std::setw(12) << one.memory / kMiB
         << std::setw(12) << one.state / kMiB << std::setw(12) << one.sent / kMiB << std::setw(12)
         << one.unevenness << std::setw(10) << one.step_ms() << std::setw(10) << 100 * one.optimizer_share()
         << " %\n";
  }
  return text.str();
}

nlohmann::ordered_json scale_json(const TrainConfig& config, const ScaleQuestion& scale) {
  nlohmann::ordered_json estimates;
  for (const Sharing sharing : kSharings) {
    const ScaleEstimate one = scale_estimate(config, scale.ranks, gpu_of(scale.gpu), sharing);
    estimates[std::string(name(sharing))] = {{"memory_bytes", one.memory},
                                             {"state_bytes", one.state},
                                             {"sent_bytes", one.sent},
                                             {"unevenness", one.unevenness},
                                             {"model_ms", one.model_ms},
                                             {"exchange_ms", one.exchange_ms},
                                             {"optimizer_ms", one.optimizer_ms},
                                             {"step_ms", one.step_ms()},
                                             {"optimizer_share", one.optimizer_share()}};
  }
  return {{"ranks", scale.ranks}, {"gpu", scale.gpu}, {"estimates", estimates}};
}

}  // namespace

std::string dry_run(const TrainConfig& config, bool json, const std::optional<ScaleQuestion>& scale) {
  validate(config);
  auto routes = route(parameters_of(config.model));
  const Device device = config.device == "cpu" ? Device::cpu : Device::accelerator;
  for (RoutedParameter& parameter : routes) parameter.method = method_text(config.rule(), device);
  const std::string matrix_name(name(config.rule()));
  if (!json) {
    std::ostringstream text;
    text.precision(4);
    text << routing_table(routes, matrix_name) << "\nparameters       " << parameter_count(config.model)
         << "\ntokens per step  " << tokens_per_step(config) << "\nmemory           about "
         << memory_bytes(config) / kMiB << " MiB\nmodel FLOPs      " << flops_per_step(config)
         << " per step\n";
    if (scale) text << scale_table(config, *scale);
    return text.str();
  }
  nlohmann::ordered_json table = nlohmann::ordered_json::array();
  for (const RoutedParameter& parameter : routes)
    table.push_back({{"name", parameter.name},
                     {"shape", parameter.shape},
                     {"optimizer", parameter.route == Route::matrix ? matrix_name : "adamw"},
                     {"method", parameter.route == Route::matrix ? parameter.method : ""},
                     {"reason", parameter.reason}});
  nlohmann::ordered_json plan = {{"optimizer", matrix_name},
                                 {"parameters", parameter_count(config.model)},
                                 {"tokens_per_step", tokens_per_step(config)},
                                 {"memory_bytes", memory_bytes(config)},
                                 {"flops_per_step", flops_per_step(config)},
                                 {"routing", table}};
  if (scale) plan["scale"] = scale_json(config, *scale);
  return plan.dump(2) + "\n";
}

}  // namespace aurora::trainer
