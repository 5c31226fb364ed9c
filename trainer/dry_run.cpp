#include <nlohmann/json.hpp>
#include <sstream>

#include "model_size.hpp"
#include "train.hpp"

namespace aurora::trainer {

std::string dry_run(const TrainConfig& config, bool json) {
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
         << memory_bytes(config) / (1024.0 * 1024.0) << " MiB\nmodel FLOPs      " << flops_per_step(config)
         << " per step\n";
    return text.str();
  }
  nlohmann::ordered_json table = nlohmann::ordered_json::array();
  for (const RoutedParameter& parameter : routes)
    table.push_back({{"name", parameter.name},
                     {"shape", parameter.shape},
                     {"optimizer", parameter.route == Route::matrix ? matrix_name : "adamw"},
                     {"method", parameter.route == Route::matrix ? parameter.method : ""},
                     {"reason", parameter.reason}});
  const nlohmann::ordered_json plan = {{"optimizer", matrix_name},
                                       {"parameters", parameter_count(config.model)},
                                       {"tokens_per_step", tokens_per_step(config)},
                                       {"memory_bytes", memory_bytes(config)},
                                       {"flops_per_step", flops_per_step(config)},
                                       {"routing", table}};
  return plan.dump(2) + "\n";
}

}  // namespace aurora::trainer
