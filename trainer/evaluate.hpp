#pragma once

#include "model.hpp"
#include "train.hpp"

namespace aurora::trainer {

/// Mean loss over `tokens` [sequences, time + 1], at most `batch` sequences at once.
Evaluation mean_loss(Model& model, const torch::Tensor& tokens, Index batch, bool bf16);

}  // namespace aurora::trainer
