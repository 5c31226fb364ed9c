#include "gradient.hpp"

namespace aurora::trainer {

torch::Tensor accumulate_gradients(Model& model, const torch::Tensor& tokens, Index micro_batches,
                                   bool bf16) {
  torch::Tensor loss = torch::zeros({}, torch::dtype(torch::kFloat64).device(model.device()));
  for (const torch::Tensor& part : tokens.chunk(micro_batches)) {
    const auto share = next_byte_loss(model, part, bf16) / static_cast<double>(micro_batches);
    share.backward();
    loss += share.detach();
  }
  return loss;
}

torch::Tensor clip_gradients(const std::vector<torch::Tensor>& parameters, double clip) {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : parameters)
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  const torch::Tensor norm = torch::stack(at::_foreach_norm(gradients)).norm();
  if (clip > 0) {
    const torch::Tensor exact = norm.to(torch::kFloat64);
    const auto too_long = exact.gt(clip).logical_and(exact.isfinite());
    const auto factor = torch::where(too_long, torch::full_like(exact, clip).div(exact), 1.0);
    at::_foreach_mul_(gradients, factor.to(norm.scalar_type()));
  }
  return norm;
}

}  // namespace aurora::trainer
