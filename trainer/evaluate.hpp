#pragma once

#include <atomic>
#include <optional>

#include "model.hpp"
#include "ranks.hpp"
#include "train.hpp"

namespace aurora::trainer {

/// Mean loss over `tokens` [sequences, time + 1], at most `batch` sequences at once; the ranks share the work,
/// and the result has the bits of one. Nothing where `stop` is set meanwhile on any of them.
std::optional<Evaluation> mean_loss(Model& model, const torch::Tensor& tokens, Index batch, bool bf16,
                                    const Ranks& ranks = {}, const std::atomic<bool>* stop = nullptr);

}  // namespace aurora::trainer
