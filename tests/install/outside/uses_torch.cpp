#include <aurora/torch/optimizer.hpp>
#include <cstdio>

int main() {
  const torch::Tensor weight = torch::zeros({3, 2}, torch::requires_grad());
  aurora::optim::Muon optimizer(std::vector<torch::Tensor>{weight}, {.lr = 1, .scale = aurora::UpdateScale::none});
  weight.mutable_grad() = torch::eye(3).slice(1, 0, 2);
  optimizer.step();
  const double error = (weight.detach() + torch::eye(3).slice(1, 0, 2)).abs().max().item<double>();
  std::printf("largest error %g\n", error);
  return error < 1e-6 ? 0 : 1;
}
