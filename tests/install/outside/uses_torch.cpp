#include <ATen/ATen.h>

#include <aurora/torch/optimizer.hpp>
#include <cstdio>

int main() {
  const torch::Tensor gradient = at::eye(3).slice(1, 0, 2);
  const torch::Tensor weight = at::zeros({3, 2}).requires_grad_();
  weight.mutable_grad() = gradient;
  aurora::optim::Muon optimizer(std::vector<torch::Tensor>{weight},
                                {.lr = 1, .scale = aurora::UpdateScale::none});
  optimizer.step();
  const double error = (weight.detach() + gradient).abs().max().item<double>();
  std::printf("largest error %g\n", error);
  return error < 1e-6 ? 0 : 1;
}
