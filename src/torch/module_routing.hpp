#pragma once

#include <torch/nn/module.h>

#include <span>
#include <vector>

#include "aurora/routing.hpp"

namespace aurora::optim {

/// The parameters of a module that require a gradient, each once, in module order, and where route() sends
/// them.
struct RoutedModule {
  std::vector<torch::Tensor> parameters;
  std::vector<RoutedParameter> routing;  // one per parameter
};
RoutedModule routed(const torch::nn::Module& module, std::span<const RoutePattern> patterns);

}  // namespace aurora::optim
