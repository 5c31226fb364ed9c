// Trains a SwiGLU network on the bytes of this file: from 16 bytes it learns to tell the next one.
#include <torch/torch.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "aurora/torch/optimizer.hpp"

constexpr std::int64_t kContext = 16, kWidth = 32, kInputs = kContext * kWidth, kHidden = 256;

struct NetworkImpl : torch::nn::Module {
  torch::nn::Embedding embedding = register_module("embedding", torch::nn::Embedding(256, kWidth));
  torch::nn::Linear gate = register_module("gate", torch::nn::Linear(kInputs, kHidden));
  torch::nn::Linear up = register_module("up", torch::nn::Linear(kInputs, kHidden));
  torch::nn::Linear down = register_module("down", torch::nn::Linear(kHidden, kHidden / 2));
  torch::nn::Linear head = register_module("head", torch::nn::Linear(kHidden / 2, 256));

  torch::Tensor forward(const torch::Tensor& bytes) {
    const torch::Tensor x = embedding(bytes).flatten(1);
    return head(torch::silu(down(torch::silu(gate(x)) * up(x))));
  }
};
TORCH_MODULE(Network);

int main() {
  torch::manual_seed(1);
  std::ifstream file(__FILE__, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto size = static_cast<std::int64_t>(text.size()), count = size - kContext;
  const torch::Tensor bytes = torch::from_blob(text.data(), {size}, torch::kUInt8).to(torch::kInt64);
  const torch::Tensor contexts = bytes.unfold(0, kContext, 1).slice(0, 0, count),
                      targets = bytes.slice(0, kContext);

  Network network;
  // Gate, up and down are stepped by Aurora; embedding, head and biases by AdamW. The table says why.
  aurora::optim::Aurora optimizer(*network, {.lr = 0.02}, {.lr = 3e-3});
  std::cout << aurora::routing_table(optimizer.routing(), "aurora") << "\n";

  double loss_now = 0;
  for (int step = 0; step <= 60; ++step) {
    const torch::Tensor batch = torch::randint(count, {128}, torch::kInt64);
    const torch::Tensor loss =
        torch::nn::functional::cross_entropy(network(contexts.index({batch})), targets.index({batch}));
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    loss_now = loss.item<double>();
    if (step % 20 == 0) std::cout << "step " << step << ": " << loss_now << " nats per byte\n";
  }
  return loss_now < 1.5 ? 0 : 1;  // from log(256) = 5.5
}
