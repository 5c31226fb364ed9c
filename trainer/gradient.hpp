#pragma once

#include <torch/torch.h>

#include "model.hpp"

namespace aurora::trainer {

/// Adds to the gradients those of the mean loss over all of `tokens` [batch, time + 1], taken in
/// `micro_batches` equal parts, and returns that loss, a float64 number on the model's device. The split
/// changes results by rounding only.
torch::Tensor accumulate_gradients(Model& model, const torch::Tensor& tokens, Index micro_batches, bool bf16);

/// Scales all gradients by clip / |g| where the norm |g| over all of them is finite and exceeds clip > 0.
/// Returns |g| as it was, a number on their device; Inf or NaN leaves everything as it is.
torch::Tensor clip_gradients(const std::vector<torch::Tensor>& parameters, double clip);

}  // namespace aurora::trainer
