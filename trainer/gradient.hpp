#pragma once

#include <torch/torch.h>

#include "model.hpp"
#include "ranks.hpp"
#include "text_data.hpp"

namespace aurora::trainer {

/// The micro-batches of the step after `step` others that are this rank's, one after the other.
torch::Tensor own_tokens(const TextData& data, const TrainConfig& config, Index step, const Ranks& ranks);

/// Adds to the gradients those of the mean loss over all `micro_batches` of a step, and returns that loss, a
/// float64 number on the model's device. `tokens` [batch, time + 1] are those that are this rank's, in equal
/// parts. The split changes results by rounding only. Of several ranks, each then has the gradients of its own
/// parameters.
torch::Tensor accumulate_gradients(Model& model, const torch::Tensor& tokens, Index micro_batches, bool bf16,
                                   Ranks& ranks);

/// Scales all gradients by clip / |g| where the norm |g| over all of them, those of other ranks too, is finite
/// and exceeds clip > 0. Returns |g| as it was, a number on their device; Inf or NaN leaves everything as it
/// is.
torch::Tensor clip_gradients(const std::vector<torch::Tensor>& parameters, double clip, const Ranks& ranks);

}  // namespace aurora::trainer
