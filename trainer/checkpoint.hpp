#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "aurora/torch/optimizer.hpp"
#include "model.hpp"
#include "trainer_state.hpp"

namespace aurora::trainer {

using NamedTensors = std::map<std::string, torch::Tensor>;

/// Writes FOLDER/checkpoint-<step>: config.json and model.safetensors as transformers opens them,
/// optimizer.safetensors with tensors <parameter>.momentum_buffer, .second_momentum_buffer (the rule's name
/// of its row state), .exp_avg, .exp_avg_sq; where a neuron record is due, directions.safetensors with the
/// step's directions by parameter; and trainer_state.json, with length and checksum of the others; then
/// `last`. Whole or not at all: on an error, a full disk included, throws std::runtime_error and leaves
/// earlier checkpoints as they were. Fills in what `state` says of files and parameters. Returns the
/// checkpoint's folder.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder, TrainerState state,
                                      const Model& model, optim::SpectralOptimizer& optimizer,
                                      const Rule& rule, const NamedTensors& directions);

/// "NAME.momentum_buffer" of a state tensor with an Inf or NaN; empty where there is none.
std::string not_finite_state(const Model& model, optim::SpectralOptimizer& optimizer, const Rule& rule);

/// Writes FOLDER/momentum-<step>.safetensors, whole or not at all: a tensor of each hidden matrix's momentum
/// under the parameter's own name (exp_avg under AdamW).
void save_momentum(const std::filesystem::path& folder, Index step, const Model& model,
                   optim::SpectralOptimizer& optimizer);

/// The shape of a checkpoint's model, from config.json. Throws std::runtime_error naming file, key and value.
ModelConfig read_model_config(const std::filesystem::path& checkpoint);

/// Throws std::runtime_error naming the file and the tensor where names, shapes or types are not those of the
/// model.
void load_weights(const std::filesystem::path& checkpoint, Model& model);

/// Weights and optimizer state; both are left half-written only where it throws. `state` is what
/// read_trainer_state says of the checkpoint. Returns the directions, where a neuron record is due.
NamedTensors load_checkpoint(const std::filesystem::path& checkpoint, const TrainerState& state, Model& model,
                             optim::SpectralOptimizer& optimizer, const Rule& rule);

/// The model of a checkpoint folder, whose sizes in config.json are those of its weights before anything is
/// allocated. Throws where there is a trainer_state.json and it names other files.
Model load_model(const std::filesystem::path& checkpoint, at::Device device = at::kCPU);

}  // namespace aurora::trainer
