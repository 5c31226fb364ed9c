#include "module_routing.hpp"

#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <string>

namespace aurora::optim {
namespace {

struct FoundParameters {
  std::vector<torch::Tensor> tensors;
  std::vector<ParameterInfo> infos;
};

bool share_memory(const torch::Tensor& a, const torch::Tensor& b) {
  return a.numel() > 0 && a.const_data_ptr() == b.const_data_ptr();
}

/// `linear` and `embedding` speak of the owner of the parameter; a shared one has the roles of all its
/// owners.
void append_parameter(const torch::Tensor& parameter, ParameterInfo info, FoundParameters& found) {
  for (std::size_t i = 0; i < found.tensors.size(); ++i) {
    if (found.tensors[i].is_same(parameter)) {
      ParameterInfo& first = found.infos[i];
      if (first.tied_to.empty()) first.tied_to = info.name;
      first.embedding = first.embedding || info.embedding;
      return;
    }
    if (share_memory(found.tensors[i], parameter)) {
      if (found.infos[i].tied_to.empty()) found.infos[i].tied_to = info.name;
      info.tied_to = found.infos[i].name;
    }
  }
  found.tensors.push_back(parameter);
  found.infos.push_back(std::move(info));
}

void append_module(const torch::nn::Module& module, const std::string& prefix, FoundParameters& found) {
  const bool embedding = dynamic_cast<const torch::nn::EmbeddingImpl*>(&module) != nullptr ||
                         dynamic_cast<const torch::nn::EmbeddingBagImpl*>(&module) != nullptr;
  const bool linear = dynamic_cast<const torch::nn::LinearImpl*>(&module) != nullptr;
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    if (!item.value().requires_grad()) continue;
    append_parameter(item.value(),
                     {.name = prefix + item.key(),
                      .shape = item.value().sizes().vec(),
                      .embedding = embedding,
                      .linear = linear && item.key() == "weight"},
                     found);
  }
  for (const auto& child : module.named_children()) {
    append_module(*child.value(), prefix + child.key() + ".", found);
  }
}

}  // namespace

RoutedModule routed(const torch::nn::Module& module, std::span<const RoutePattern> patterns) {
  FoundParameters found;
  append_module(module, "", found);
  return {std::move(found.tensors), route(found.infos, patterns)};
}

}  // namespace aurora::optim
