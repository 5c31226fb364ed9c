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
                                    const std::atomic<bool>* stop) {
  const torch::NoGradGuard no_grad;
  torch::Tensor sum = torch::zeros({}, torch::dtype(torch::kFloat64).device(model.device()));
  for (const torch::Tensor& part : tokens.split(batch)) {
    if (stop != nullptr && stop->load()) return {};
    sum += next_byte_loss(model, part, bf16).to(torch::kFloat64) * static_cast<double>(part.size(0));
  }
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
