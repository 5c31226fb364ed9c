#include "gradient.hpp"

#include <cmath>

namespace aurora::trainer {

double accumulate_gradients(Model& model, const torch::Tensor& tokens, Index micro_batches, bool bf16) {
  double loss = 0;
  for (const torch::Tensor& part : tokens.chunk(micro_batches)) {
    const auto share = next_byte_loss(model, part, bf16) / static_cast<double>(micro_batches);
    share.backward();
    loss += share.item<double>();
  }
  return loss;
}

double clip_gradients(const std::vector<torch::Tensor>& parameters, double clip) {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : parameters)
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  const double norm = torch::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (std::isfinite(norm) && clip > 0 && norm > clip) at::_foreach_mul_(gradients, clip / norm);
  return norm;
}

}  // namespace aurora::trainer
