#include "evaluate.hpp"

#include <algorithm>
#include <numbers>

#include "checkpoint.hpp"
#include "device.hpp"
#include "run_folder.hpp"
#include "session.hpp"
#include "text_data.hpp"

namespace aurora::trainer {

constexpr Index kMostTokens = Index{1} << 27;  // 1 GiB as int64

std::optional<Evaluation> mean_loss(Model& model, const torch::Tensor& tokens, Index batch, bool bf16,
                                    const Ranks& ranks, const std::atomic<bool>* stop) {
  const torch::NoGradGuard no_grad;
  const std::vector<torch::Tensor> parts = tokens.split(batch);
  std::vector<torch::Tensor> own;
  bool stopped = false;
  for (auto i = static_cast<std::size_t>(ranks.rank()); i < parts.size() && !stopped;
       i += static_cast<std::size_t>(ranks.size())) {
    stopped = stop != nullptr && stop->load();
    if (!stopped) own.push_back(next_byte_loss(model, parts[i], bf16));
  }
  if (ranks.any(stopped)) return {};
  const torch::Tensor losses = ranks.in_order(own, std::ssize(parts));
  torch::Tensor sum = torch::zeros({}, torch::dtype(torch::kFloat64).device(model.device()));
  for (std::size_t i = 0; i < parts.size(); ++i)
    sum += losses[static_cast<Index>(i)].to(torch::kFloat64) * static_cast<double>(parts[i].size(0));
  const double loss = sum.item<double>() / static_cast<double>(tokens.size(0));
  return Evaluation{.loss = loss,
                    .bits_per_byte = loss / std::numbers::ln2,
                    .tokens = tokens.size(0) * (tokens.size(1) - 1)};
}

Evaluation evaluate(const std::filesystem::path& checkpoint, const std::vector<std::string>& data,
                    int threads, const std::string& device) {
  return with_plain_errors([&] {
    set_up_torch(threads);
    Model model = load_model(resolve_checkpoint(checkpoint), device_of(device));
    const Index context = model.config().context;
    const TextData text({}, data, context + 1);
    std::vector<std::int64_t> bytes;
    const Index count = text.validation_sequences(context, std::max<Index>(1, kMostTokens / context), bytes);
    return *mean_loss(model, token_tensor(bytes, count), std::max<Index>(1, 4096 / context), /*bf16=*/false);
  });
}

}  // namespace aurora::trainer
