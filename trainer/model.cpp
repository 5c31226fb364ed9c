#include "model.hpp"

#include <ATen/autocast_mode.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "model_size.hpp"
#include "sha256.hpp"

namespace aurora::trainer {
namespace {

torch::nn::Linear matrix(Index in, Index out) {
  return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(false));
}

/// Rotates the pairs (i, i + d/2) of every head: x cos + swap_halves(x) sin, where sin carries the sign.
torch::Tensor rotated(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin) {
  return x * cos + x.roll(x.size(-1) / 2, -1) * sin;
}

/// Lets matrix products run in bfloat16 while it lives.
class Bf16Scope {
 public:
  Bf16Scope(bool wanted, at::DeviceType device) : wanted_(wanted), device_(device) {
    if (!wanted_) return;
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::increment_nesting();
  }
  ~Bf16Scope() {
    if (!wanted_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, false);
  }
  Bf16Scope(const Bf16Scope&) = delete;
  Bf16Scope& operator=(const Bf16Scope&) = delete;

 private:
  bool wanted_;
  at::DeviceType device_;
};

/// Standard deviation of the initial values of a parameter, 0 for a norm weight; see Model.
double initial_std(const ParameterInfo& parameter) {
  const std::string& name = parameter.name;
  if (parameter.shape.size() < 2) return 0;
  if (parameter.embedding) return Model::kEmbeddingStd;
  if (name == "lm_head.weight") return Model::kHeadStd;
  const bool output = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
  return (output ? Model::kOutputGain : Model::kHiddenGain) /
         std::sqrt(static_cast<double>(parameter.shape[1]));
}

}  // namespace

RmsNorm::RmsNorm(Index width, double eps)
    : weight_(register_parameter("weight", torch::ones({width}))), eps_(eps) {}

torch::Tensor RmsNorm::forward(const torch::Tensor& x) {
  return x * (x.square().mean(-1, true) + eps_).rsqrt() * weight_;
}

Attention::Attention(const ModelConfig& config)
    : head_width_(config.width / config.heads),
      q_proj_(register_module("q_proj", matrix(config.width, config.width))),
      k_proj_(register_module("k_proj", matrix(config.width, config.kv_heads * head_width_))),
      v_proj_(register_module("v_proj", matrix(config.width, config.kv_heads * head_width_))),
      o_proj_(register_module("o_proj", matrix(config.width, config.width))) {}

torch::Tensor Attention::forward(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin) {
  const auto heads = [&](const torch::Tensor& y) { return y.view({x.size(0), x.size(1), -1, head_width_}); };
  const auto q = rotated(heads(product(x, q_proj_->weight)), cos, sin).transpose(1, 2);
  const auto k = rotated(heads(product(x, k_proj_->weight)), cos, sin).transpose(1, 2);
  const auto v = heads(product(x, v_proj_->weight)).transpose(1, 2);
  const bool shared = k.size(1) != q.size(1);
  const auto mixed = torch::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true, {}, shared);
  return product(mixed.transpose(1, 2).reshape(x.sizes()), o_proj_->weight);
}

SwiGlu::SwiGlu(const ModelConfig& config)
    : gate_proj_(register_module("gate_proj", matrix(config.width, config.neurons()))),
      up_proj_(register_module("up_proj", matrix(config.width, config.neurons()))),
      down_proj_(register_module("down_proj", matrix(config.neurons(), config.width))) {}

torch::Tensor SwiGlu::activations(const torch::Tensor& x) {
  return torch::silu(product(x, gate_proj_->weight)) * product(x, up_proj_->weight);
}

Layer::Layer(const ModelConfig& config)
    : input_layernorm_(
          register_module("input_layernorm", std::make_shared<RmsNorm>(config.width, config.norm_eps))),
      self_attn_(register_module("self_attn", std::make_shared<Attention>(config))),
      post_attention_layernorm_(register_module("post_attention_layernorm",
                                                std::make_shared<RmsNorm>(config.width, config.norm_eps))),
      mlp_(register_module("mlp", std::make_shared<SwiGlu>(config))) {}

torch::Tensor Layer::forward(torch::Tensor x, const torch::Tensor& cos, const torch::Tensor& sin,
                             torch::Tensor* activations) {
  x = x + self_attn_->forward(input_layernorm_->forward(x), cos, sin);
  const auto neurons = mlp_->activations(post_attention_layernorm_->forward(x));
  if (activations != nullptr) *activations = neurons.detach();
  return x + mlp_->down(neurons);
}

Model::Model(const ModelConfig& config, std::uint64_t seed, at::Device device) : config_(config) {
  const auto decoder = register_module("model", std::make_shared<torch::nn::Module>());
  embed_tokens_ =
      decoder->register_module("embed_tokens", torch::nn::Embedding(config.vocabulary, config.width));
  const auto list = decoder->register_module("layers", std::make_shared<torch::nn::Module>());
  for (Index i = 0; i < config.layers; ++i)
    layers_.push_back(list->register_module(std::to_string(i), std::make_shared<Layer>(config)));
  norm_ = decoder->register_module("norm", std::make_shared<RmsNorm>(config.width, config.norm_eps));
  lm_head_ = register_module("lm_head", matrix(config.width, config.vocabulary));

  const torch::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(seed);
  const auto list_of_weights = named_parameters();
  for (const ParameterInfo& parameter : parameters_of(config))
    if (const double std = initial_std(parameter); std > 0)
      list_of_weights[parameter.name].normal_(0, std, generator);

  to(device);
}

void Model::make_rotations(Index count) {
  // float32 throughout, as transformers does it: the angles of late positions are then the same to the last
  // bit.
  const Index head_width = config_.width / config_.heads;
  const auto exponent = torch::arange(0, head_width, 2, torch::kInt64).to(torch::kFloat32) / head_width;
  const auto frequency = 1.0 / torch::pow(config_.rope_theta, exponent);
  const auto angle = torch::outer(torch::arange(count, torch::kFloat32), frequency);
  const auto both = [](const torch::Tensor& first, const torch::Tensor& second) {
    return torch::cat({first, second}, 1).unsqueeze(1);
  };
  cos_ = both(angle.cos(), angle.cos()).to(device());
  sin_ = both(-angle.sin(), angle.sin()).to(device());
}

torch::Tensor Model::forward(const torch::Tensor& tokens, std::vector<torch::Tensor>* activations) {
  const Index time = tokens.size(1);
  // Of as many positions as are used: a config.json may promise any number.
  if (!cos_.defined() || cos_.size(0) < time) {
    make_rotations(
        std::min(config_.context, static_cast<Index>(std::bit_ceil(static_cast<std::size_t>(time)))));
  }
  const auto cos = cos_.narrow(0, 0, time);
  const auto sin = sin_.narrow(0, 0, time);
  if (activations != nullptr) activations->resize(layers_.size());
  auto x = embed_tokens_(tokens);
  for (std::size_t i = 0; i < layers_.size(); ++i)
    x = layers_[i]->forward(x, cos, sin, activations != nullptr ? &(*activations)[i] : nullptr);
  return product(norm_->forward(x), lm_head_->weight).flatten(0, 1);
}

torch::Tensor next_byte_loss(Model& model, const torch::Tensor& anywhere, bool bf16,
                             std::vector<torch::Tensor>* activations) {
  const torch::Tensor tokens = anywhere.to(model.device());
  const Index time = tokens.size(1) - 1;
  torch::Tensor logits;
  {
    const Bf16Scope scope(bf16, tokens.device().type());
    logits = model.forward(tokens.narrow(1, 0, time), activations);
  }
  const auto targets = tokens.narrow(1, 1, time).reshape(-1);
  return torch::nn::functional::cross_entropy(logits.to(torch::kFloat32), targets);
}

std::string weights_sha256(const Model& model) {
  Sha256 hash;
  for (const torch::Tensor& parameter : model.parameters()) {
    const torch::Tensor weight = parameter.cpu();
    hash.add(std::span(static_cast<const std::byte*>(weight.const_data_ptr()), weight.nbytes()));
  }
  return hash.hexadecimal();
}

torch::Tensor token_tensor(std::span<const std::int64_t> tokens, Index count) {
  auto* data = const_cast<std::int64_t*>(tokens.data());  // from_blob takes no const; nobody writes tokens
  return torch::from_blob(data, {count, static_cast<Index>(tokens.size()) / count}, torch::kInt64);
}

}  // namespace aurora::trainer
