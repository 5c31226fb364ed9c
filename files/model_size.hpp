#pragma once

#include <vector>

#include "aurora/roles.hpp"
#include "config.hpp"

namespace aurora::trainer {

/// The parameters of Model(config), in its order, without making them.
std::vector<ParameterInfo> parameters_of(const ModelConfig& config);

/// Number of trainable values.
Index parameter_count(const ModelConfig& config);

/// batch * accumulate * context.
Index tokens_per_step(const TrainConfig& config);

/// An estimate: weights, gradients and optimizer state in float32, and activation_bytes.
double memory_bytes(const TrainConfig& config);
/// Per token of a micro-batch 16 width + 5 neurons values a layer for the backward pass and 3 vocabulary for
/// the loss.
double activation_bytes(const TrainConfig& config);

/// 6 tokens (values of all linear weights + layers width context): forward is 2, backward 4; of the
/// attention's two products (4 width context per token and layer) the causal half.
double flops_per_step(const TrainConfig& config);

/// Throws std::invalid_argument, with both sizes, where memory_bytes exceeds the memory of this machine.
void require_memory(const TrainConfig& config);

}  // namespace aurora::trainer
