#include "module_routing.hpp"

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

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

/// A shared parameter has the names of all its owners, and is an embedding if one of them is.
void append_parameter(const torch::Tensor& parameter, ParameterInfo info, FoundParameters& found) {
  for (std::size_t i = 0; i < found.tensors.size(); ++i) {
    ParameterInfo& first = found.infos[i];
    if (!found.tensors[i].is_same(parameter) && !share_memory(found.tensors[i], parameter)) continue;
    first.other_names.push_back(info.name);
    info.other_names.push_back(first.name);
    first.embedding = info.embedding = first.embedding || info.embedding;
    if (found.tensors[i].is_same(parameter)) return;
  }
  found.tensors.push_back(parameter);
  found.infos.push_back(std::move(info));
}

/// "Linear" for torch::nn::LinearImpl.
std::string class_name(const torch::nn::Module& module) {
  std::string name = module.name();
  name = name.substr(name.rfind(':') == std::string::npos ? 0 : name.rfind(':') + 1);
  constexpr std::string_view kImpl = "Impl";
  if (name.ends_with(kImpl)) name.resize(name.size() - kImpl.size());
  return name;
}

template <class Module>
bool is_a(const torch::nn::Module& module) {
  return dynamic_cast<const Module*>(&module) != nullptr;
}

/// The class, and that of torch from which it derives.
std::vector<std::string> classes_of(const torch::nn::Module& module) {
  std::vector<std::string> classes = {class_name(module)};
  if (is_a<torch::nn::LinearImpl>(module)) classes.emplace_back("Linear");
  if (is_a<torch::nn::LSTMImpl>(module)) classes.emplace_back("LSTM");
  if (is_a<torch::nn::GRUImpl>(module)) classes.emplace_back("GRU");
  return classes;
}

template <class... Convolutions>
Index groups_of(const torch::nn::Module& module) {
  Index groups = 1;
  const auto look = [&]<class Convolution>(const Convolution* convolution) {
    if (convolution != nullptr) groups = convolution->options.groups();
  };
  (look(dynamic_cast<const Convolutions*>(&module)), ...);
  return groups;
}

void append_module(const torch::nn::Module& module, const std::string& prefix,
                   const std::vector<std::string>& around, FoundParameters& found) {
  using namespace torch::nn;
  const bool embedding = is_a<EmbeddingImpl>(module) || is_a<EmbeddingBagImpl>(module);
  const Index groups = groups_of<Conv1dImpl, Conv2dImpl, Conv3dImpl, ConvTranspose1dImpl, ConvTranspose2dImpl,
                                 ConvTranspose3dImpl>(module);
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    if (!item.value().is_floating_point()) continue;
    append_parameter(item.value(),
                     {.name = prefix + item.key(),
                      .shape = item.value().sizes().vec(),
                      .owner = classes_of(module),
                      .around = around,
                      .embedding = embedding,
                      .trainable = item.value().requires_grad(),
                      .number = [groups](const std::string& name) -> std::optional<Index> {
                        return name == "groups" ? std::optional(groups) : std::nullopt;
                      }},
                     found);
  }
  auto inside = around;
  inside.push_back(class_name(module));
  for (const auto& child : module.named_children()) {
    append_module(*child.value(), prefix + child.key() + ".", inside, found);
  }
}

}  // namespace

RoutedModule routed(const torch::nn::Module& module, std::span<const RoutePattern> patterns) {
  FoundParameters found;
  append_module(module, "", {}, found);
  return {std::move(found.tensors), route(found.infos, patterns)};
}

}  // namespace aurora::optim
