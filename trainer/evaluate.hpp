#pragma once

#include <atomic>
#include <optional>

#include "model.hpp"
#include "train.hpp"

namespace aurora::trainer {

/// Mean loss over `tokens` [sequences, time + 1], at most `batch` sequences at once. Nothing where `stop` is
/// set meanwhile.
std::optional<Evaluation> mean_loss(Model& model, const torch::Tensor& tokens, Index batch, bool bf16,
                                    const std::atomic<bool>* stop = nullptr);

}  // namespace aurora::trainer
