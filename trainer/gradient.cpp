#include "gradient.hpp"

#include <algorithm>

namespace aurora::trainer {

torch::Tensor own_tokens(const TextData& data, const TrainConfig& config, Index step, const Ranks& ranks) {
  const Index length = config.model.context + 1;
  torch::Tensor tokens =
      torch::empty({ranks.own_count(config.accumulate) * config.batch, length}, torch::kInt64);
  std::span left(tokens.mutable_data_ptr<std::int64_t>(), static_cast<std::size_t>(tokens.numel()));
  for (Index part = ranks.rank(); part < config.accumulate; part += ranks.size()) {
    const auto micro_batch = left.first(static_cast<std::size_t>(config.batch * length));
    data.training_sequences(config.seed, (step * config.accumulate + part) * config.batch, config.batch,
                            config.model.context, micro_batch);
    left = left.subspan(micro_batch.size());
  }
  return tokens;
}

torch::Tensor accumulate_gradients(Model& model, const torch::Tensor& tokens, Index micro_batches, bool bf16,
                                   Ranks& ranks) {
  const Index own = ranks.own_count(micro_batches);
  const std::vector<torch::Tensor> parts = own > 0 ? tokens.chunk(own) : std::vector<torch::Tensor>{};
  std::vector<torch::Tensor> losses;
  for (Index first = 0; first < micro_batches; first += ranks.size()) {
    if (std::ssize(losses) < own) {
      const auto share =
          next_byte_loss(model, parts[losses.size()], bf16) / static_cast<double>(micro_batches);
      share.backward();
      losses.push_back(share.detach());
    }
    ranks.add_gradients(std::min<Index>(ranks.size(), micro_batches - first));
  }
  ranks.finish_gradients();
  torch::Tensor sum = torch::zeros({}, torch::dtype(torch::kFloat64).device(model.device()));
  for (const torch::Tensor& share : ranks.in_order(losses, micro_batches).unbind()) sum += share;
  return sum;
}

torch::Tensor clip_gradients(const std::vector<torch::Tensor>& parameters, double clip, const Ranks& ranks) {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : parameters)
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  const std::vector<torch::Tensor> own =
      gradients.empty() ? gradients : at::_foreach_norm(gradients);  // a rank may own nothing
  const torch::Tensor norm = ranks.all_norms(own).norm();
  if (clip > 0 && !gradients.empty()) {
    const torch::Tensor exact = norm.to(torch::kFloat64);
    const auto too_long = exact.gt(clip).logical_and(exact.isfinite());
    const auto factor = torch::where(too_long, torch::full_like(exact, clip).div(exact), 1.0);
    at::_foreach_mul_(gradients, factor.to(norm.scalar_type()));
  }
  return norm;
}

}  // namespace aurora::trainer
