#include "evaluate.hpp"

#include <limits>
#include <numbers>

#include "checkpoint.hpp"
#include "run_folder.hpp"
#include "session.hpp"
#include "text_data.hpp"

namespace aurora::trainer {

Evaluation mean_loss(Model& model, const torch::Tensor& tokens, Index batch, bool bf16) {
  const torch::NoGradGuard no_grad;
  double sum = 0;
  for (const torch::Tensor& part : tokens.split(batch))
    sum += next_byte_loss(model, part, bf16).item<double>() * static_cast<double>(part.size(0));
  const double loss = sum / static_cast<double>(tokens.size(0));
  return {.loss = loss,
          .bits_per_byte = loss / std::numbers::ln2,
          .tokens = tokens.size(0) * (tokens.size(1) - 1)};
}

Evaluation evaluate(const std::filesystem::path& checkpoint, const std::vector<std::string>& data,
                    int threads) {
  return with_plain_errors([&] {
    set_up_torch(threads);
    Model model = load_model(resolve_checkpoint(checkpoint));
    const Index context = model.config().context;
    const TextData text({}, data, context + 1);
    std::vector<std::int64_t> bytes;
    const Index count = text.validation_sequences(context, std::numeric_limits<Index>::max(), bytes);
    return mean_loss(model, token_tensor(bytes, count), std::max<Index>(1, 4096 / context), /*bf16=*/false);
  });
}

}  // namespace aurora::trainer
