#pragma once

#include <filesystem>
#include <string>

#include "aurora/torch/optimizer.hpp"
#include "model.hpp"

namespace aurora::trainer {

/// What a run needs to go on, beside weights and optimizer state.
struct TrainerState {
  Index step = 0;              // steps taken
  Index skipped_in_a_row = 0;  // steps without effect just before
  std::string config;          // the configuration as TOML
  std::string data_sha256;     // of the text
};

/// Writes FOLDER/checkpoint-<step>: config.json and model.safetensors as transformers opens them,
/// optimizer.safetensors with tensors <parameter>.momentum_buffer, .second_momentum_buffer (the rule's name
/// of its row state), .exp_avg, .exp_avg_sq, and trainer_state.json; then `last`. Whole or not at all: on an
/// error, a full disk included, throws std::runtime_error and leaves earlier checkpoints as they were.
/// Returns the checkpoint's folder.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder, const TrainerState& state,
                                      const Model& model, optim::SpectralOptimizer& optimizer,
                                      const Rule& rule);

/// Writes FOLDER/momentum-<step>.safetensors, whole or not at all: a tensor of each hidden matrix's momentum
/// under the parameter's own name (exp_avg under AdamW).
void save_momentum(const std::filesystem::path& folder, Index step, const Model& model,
                   optim::SpectralOptimizer& optimizer);

/// The shape of a checkpoint's model, from config.json. Throws std::runtime_error naming file, key and value.
ModelConfig read_model_config(const std::filesystem::path& checkpoint);

/// Throws std::runtime_error naming the file and the tensor where names, shapes or types are not those of the
/// model.
void load_weights(const std::filesystem::path& checkpoint, Model& model);

/// Weights and optimizer state; both are left half-written only where it throws.
TrainerState load_checkpoint(const std::filesystem::path& checkpoint, Model& model,
                             optim::SpectralOptimizer& optimizer, const Rule& rule);

/// The model of a checkpoint folder.
Model load_model(const std::filesystem::path& checkpoint, at::Device device = at::kCPU);

}  // namespace aurora::trainer
