#include "model_size.hpp"

#include <unistd.h>

#include <sstream>
#include <stdexcept>

namespace aurora::trainer {

std::vector<ParameterInfo> parameters_of(const ModelConfig& config) {
  const Index width = config.width;
  const Index kv_width = config.width / config.heads * config.kv_heads;
  std::vector<ParameterInfo> list;
  const auto add = [&](std::string name, std::vector<Index> shape) {
    const bool embedding = name == "model.embed_tokens.weight";
    const std::string owner = embedding ? "Embedding" : shape.size() == 2 ? "Linear" : "RmsNorm";
    list.push_back(
        {.name = std::move(name), .shape = std::move(shape), .owner = {owner}, .embedding = embedding});
  };
  add("model.embed_tokens.weight", {config.vocabulary, width});
  for (Index i = 0; i < config.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    add(layer + ".input_layernorm.weight", {width});
    add(layer + ".self_attn.q_proj.weight", {width, width});
    add(layer + ".self_attn.k_proj.weight", {kv_width, width});
    add(layer + ".self_attn.v_proj.weight", {kv_width, width});
    add(layer + ".self_attn.o_proj.weight", {width, width});
    add(layer + ".post_attention_layernorm.weight", {width});
    add(layer + ".mlp.gate_proj.weight", {config.neurons(), width});
    add(layer + ".mlp.up_proj.weight", {config.neurons(), width});
    add(layer + ".mlp.down_proj.weight", {width, config.neurons()});
  }
  add("model.norm.weight", {width});
  add("lm_head.weight", {config.vocabulary, width});
  return list;
}

Index parameter_count(const ModelConfig& config) {
  Index count = 0;
  for (const ParameterInfo& parameter : parameters_of(config)) {
    Index values = 1;
    for (const Index side : parameter.shape) values *= side;
    count += values;
  }
  return count;
}

Index tokens_per_step(const TrainConfig& config) {
  return config.batch * config.accumulate * config.model.context;
}

double activation_bytes(const TrainConfig& config) {
  const ModelConfig& model = config.model;
  const double tokens = static_cast<double>(config.batch * model.context);
  const double per_layer =
      16.0 * static_cast<double>(model.width) + 5.0 * static_cast<double>(model.neurons());
  return 4 * tokens *
         (static_cast<double>(model.layers) * per_layer + 3.0 * static_cast<double>(model.vocabulary));
}

double memory_bytes(const TrainConfig& config) {
  const bool all_adamw = !config.optim;
  double floats = 0;
  for (const RoutedParameter& parameter : route(parameters_of(config.model))) {
    double values = 1;
    for (const Index side : parameter.shape) values *= static_cast<double>(side);
    const bool adamw = all_adamw || parameter.route == Route::adamw;
    floats += values * (adamw ? 4 : 3);  // weight, gradient, one or two states
  }
  return 4 * floats + activation_bytes(config);
}

double flops_per_step(const TrainConfig& config) {
  double matrix_values = 0;
  for (const ParameterInfo& parameter : parameters_of(config.model))
    if (parameter.owner.front() == "Linear")
      matrix_values += static_cast<double>(parameter.shape[0]) * static_cast<double>(parameter.shape[1]);
  const double attention = static_cast<double>(config.model.layers) *
                           static_cast<double>(config.model.width) *
                           static_cast<double>(config.model.context);
  return 6 * (matrix_values + attention) * static_cast<double>(tokens_per_step(config));
}

void require_memory(const TrainConfig& config) {
  constexpr double gib = 1024.0 * 1024.0 * 1024.0;
  const double needed = memory_bytes(config) / gib;
  const double present =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE)) / gib;
  if (needed <= present) return;
  std::ostringstream text;
  text.precision(4);
  text << "Training needs about " << needed << " GiB and this machine has " << present
       << ": make model.width, model.layers, model.context or train.batch smaller";
  throw std::invalid_argument(text.str());
}

}  // namespace aurora::trainer
