#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include "config.hpp"

namespace aurora::test {

/// What a run of two layers is written with.
struct WrittenRun {
  std::string variant = "muon";
  std::uint64_t seed = 0;
  double loss = 1.5;                  // validation loss at the last step, 10; at step 5 twice as much
  double dead = 0.25, starved = 0.5;  // of layer 0 at step 10; half of it in layer 1 and at step 5
  double step_ms = 100;               // of step 1; 1 more every step
  double lr_factor = 1;
  int steps_taken = 10;  // less: it still runs
  int diverged_at = 0;
  bool neurons = true;
  std::string weights_hash = "w", order_hash = "o", text_hash = "abc";
};

/// The configuration of such a run, with 10 steps.
inline trainer::TrainConfig config_of(const WrittenRun& run) {
  trainer::TrainConfig config;
  config.data = {"/text"};
  config.steps = 10;
  config.model.layers = 2;
  config.seed = run.seed;
  trainer::set(config, "optim.optimizer", run.variant);
  if (config.optim) {
    set_hyperparameter_value(*config.optim, "lr", lr_of(*config.optim) * run.lr_factor);
  } else {
    config.adamw.lr *= run.lr_factor;
  }
  return config;
}

inline nlohmann::ordered_json neuron_record_of(const WrittenRun& run, int step, int layer) {
  const double part = (layer == 0 ? 1 : 0.5) * (step == 10 ? 1 : 0.5);
  const auto matrix = [&](double starved, double scale) {
    return nlohmann::ordered_json{
        {"starved", {{"0.01", 0.0}, {"0.1", starved}, {"0.5", 1.0}}},
        {"leverage", {0.1 * scale, 0.2 * scale, 0.5 * scale, 1 * scale, 2 * scale, 3 * scale, 4 * scale}},
        {"update_row_norm_cv", 0.3}};
  };
  // Gate and up differ by as much as their mean allows.
  return {{"kind", "neurons"},
          {"step", step},
          {"layer", layer},
          {"dead", {{"0.01", 0.0}, {"0.1", run.dead * part}}},
          {"gate", matrix(run.starved * part * 1.5, 1)},
          {"up", matrix(run.starved * part * 0.5, 3)},
          {"down", matrix(0, 5)}};
}

/// config.toml and log.jsonl as a run leaves them.
inline void write_run(const std::filesystem::path& folder, const WrittenRun& run) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.toml") << trainer::to_toml(config_of(run));
  std::ofstream log(folder / "log.jsonl");
  const auto write = [&](const nlohmann::ordered_json& record) { log << record.dump() << "\n"; };
  write({{"kind", "header"},
         {"version", "0.1.0"},
         {"seed", run.seed},
         {"threads", 1},
         {"parameters", 1000},
         {"tokens_per_step", 2048},
         {"data",
          {{"files", 1},
           {"bytes", 5000},
           {"training_bytes", 4000},
           {"validation_bytes", 1000},
           {"sha256", run.text_hash}}},
         {"initial_weights_sha256", run.weights_hash},
         {"data_order_sha256", run.order_hash},
         {"config", nlohmann::ordered_json::object()}});
  const int last = run.diverged_at > 0 ? run.diverged_at : run.steps_taken;
  for (int step = 1; step <= last; ++step) {
    write({{"kind", "train"},
           {"step", step},
           {"loss", step == run.diverged_at ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(2.0)},
           {"tokens", 2048},
           {"step_ms", run.step_ms + step},
           {"optimizer_ms", 10},
           {"seconds", 0.5 * step}});
    if (step % 5 != 0 || step == run.diverged_at) continue;
    const double loss = step == 10 ? run.loss : 2 * run.loss;
    write({{"kind", "eval"},
           {"step", step},
           {"loss", loss},
           {"bits_per_byte", loss / 0.5},
           {"seconds", 0.5 * step}});
    for (int layer = 0; run.neurons && layer < 2; ++layer) write(neuron_record_of(run, step, layer));
  }
  if (run.diverged_at > 0) {
    write({{"kind", "diverged"}, {"step", run.diverged_at}, {"message", "the loss is not finite"}});
  } else if (run.steps_taken == 10) {
    write({{"kind", "summary"}, {"steps", 10}, {"val_loss", run.loss}});
  }
}

}  // namespace aurora::test
