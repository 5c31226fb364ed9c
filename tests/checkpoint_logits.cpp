// checkpoint_logits CHECKPOINT: the logits of the bytes on standard input, as float32 on standard output, for
// a comparison with another implementation of the model. A tool of tests/cli, not a test.
#include <torch/torch.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <vector>

#include "checkpoint.hpp"

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const torch::NoGradGuard no_grad;
  const std::vector<char> text{std::istreambuf_iterator<char>(std::cin), {}};
  std::vector<std::int64_t> tokens;
  for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  auto model = aurora::trainer::load_model(arguments[1]);
  const auto logits = model.forward(aurora::trainer::token_tensor(tokens, 1)).contiguous();
  std::fwrite(logits.const_data_ptr<float>(), sizeof(float), static_cast<std::size_t>(logits.numel()),
              stdout);
}
