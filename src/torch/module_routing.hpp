#pragma once

#include <torch/nn/module.h>

#include <span>
#include <vector>

#include "aurora/roles.hpp"

namespace aurora::optim {

/// The parameters of a module that are of a floating type, each once, in module order, and where route()
/// sends them. Frozen ones are among them: a step passes over what has no gradient, and they are there when
/// they are unfrozen.
struct RoutedModule {
  std::vector<torch::Tensor> parameters;
  std::vector<RoutedParameter> routing;  // one per parameter
};
RoutedModule routed(const torch::nn::Module& module, std::span<const RoutePattern> patterns);

}  // namespace aurora::optim
