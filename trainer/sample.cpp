#include <cmath>

#include "checkpoint.hpp"
#include "device.hpp"
#include "run_folder.hpp"
#include "session.hpp"
#include "train.hpp"

namespace aurora::trainer {
namespace {

std::int64_t next_byte(const torch::Tensor& logits, double temperature, at::Generator& generator) {
  if (temperature == 0) return logits.argmax().item<std::int64_t>();
  const auto probabilities = (logits.to(torch::kFloat64) / temperature).softmax(0);
  return probabilities.multinomial(1, false, generator).item<std::int64_t>();
}

}  // namespace

std::string sample(const std::filesystem::path& checkpoint, const std::string& prompt, Index tokens,
                   double temperature, std::uint64_t seed, int threads, const std::string& device) {
  if (tokens < 0)
    throw std::invalid_argument("tokens is " + std::to_string(tokens) + "; it must be at least 0");
  if (!std::isfinite(temperature) || temperature < 0)
    throw std::invalid_argument("temperature is " + std::to_string(temperature) + "; it must be at least 0");
  return with_plain_errors([&] {
    set_up_torch(threads);
    Model model = load_model(resolve_checkpoint(checkpoint), device_of(device));
    const torch::NoGradGuard no_grad;
    auto generator = at::detail::createCPUGenerator(seed);
    std::vector<std::int64_t> bytes;
    for (const char c : prompt.empty() ? "\n" : prompt) bytes.push_back(static_cast<unsigned char>(c));
    std::string continuation;
    for (Index i = 0; i < tokens; ++i) {
      const auto window =
          std::span(bytes).last(std::min(bytes.size(), static_cast<std::size_t>(model.config().context)));
      const auto logits = model.forward(token_tensor(window, 1).to(model.device()));
      bytes.push_back(next_byte(logits[-1].cpu(), temperature, generator));
      continuation.push_back(static_cast<char>(bytes.back()));
    }
    return continuation;
  });
}

}  // namespace aurora::trainer
