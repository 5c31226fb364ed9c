#pragma once

#include <torch/torch.h>

#include <span>
#include <vector>

#include "config.hpp"
#include "products.hpp"

namespace aurora::trainer {

/// y = x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32.
class RmsNorm : public torch::nn::Module {
 public:
  RmsNorm(Index width, double eps);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::Tensor weight_;
  double eps_;
};

/// softmax(q k' / sqrt(d)) v, causal, with rotary positions on q and k; key and value heads may be shared by
/// several query heads. x: [batch, time, width].
class Attention : public torch::nn::Module {
 public:
  explicit Attention(const ModelConfig& config);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin);

 private:
  Index head_width_;
  torch::nn::Linear q_proj_, k_proj_, v_proj_, o_proj_;
};

/// down(silu(gate(x)) * up(x)). Neuron i is row i of gate and up and column i of down.
class SwiGlu : public torch::nn::Module {
 public:
  explicit SwiGlu(const ModelConfig& config);
  /// What the neurons put out: silu(gate(x)) * up(x), [batch, time, neurons].
  torch::Tensor activations(const torch::Tensor& x);
  torch::Tensor down(const torch::Tensor& activations) { return product(activations, down_proj_->weight); }

 private:
  torch::nn::Linear gate_proj_, up_proj_, down_proj_;
};

/// x + attention(norm(x)), then x + mlp(norm(x)).
class Layer : public torch::nn::Module {
 public:
  explicit Layer(const ModelConfig& config);
  /// `activations` receives what the neurons put out, where it is not null.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& cos, const torch::Tensor& sin,
                        torch::Tensor* activations);

 private:
  std::shared_ptr<RmsNorm> input_layernorm_;
  std::shared_ptr<Attention> self_attn_;
  std::shared_ptr<RmsNorm> post_attention_layernorm_;
  std::shared_ptr<SwiGlu> mlp_;
};

/// A Llama decoder: the arithmetic and the parameter names of LlamaForCausalLM in Hugging Face transformers,
/// without biases and with an output head of its own.
///
/// Initial weights, the same on every device, all normal with mean 0, from one CPU generator in the order of
/// the parameters:
///   embedding          standard deviation kEmbeddingStd
///   q, k, v, gate, up  kHiddenGain / sqrt(columns)
///   o, down            kOutputGain / sqrt(columns): small, so that each layer begins close to the identity,
///   but not zero,
///                      since a down projection of zeros would give gate and up gradients of exactly zero
///   lm_head            kHeadStd
/// Norm weights are 1.
class Model : public torch::nn::Module {
 public:
  static constexpr double kEmbeddingStd = 0.5;
  static constexpr double kHiddenGain = 0.5;
  static constexpr double kOutputGain = 0.05;
  static constexpr double kHeadStd = 0.001;

  Model(const ModelConfig& config, std::uint64_t seed, at::Device device = at::kCPU);

  /// tokens: [batch, time] of int64 on the model's device, time <= context. Logits [batch * time,
  /// vocabulary]. `activations` receives one tensor [batch, time, neurons] per layer, where it is not null.
  torch::Tensor forward(const torch::Tensor& tokens, std::vector<torch::Tensor>* activations = nullptr);

  const ModelConfig& config() const { return config_; }
  at::Device device() const { return lm_head_->weight.device(); }

 private:
  void make_rotations(Index count);

  ModelConfig config_;
  torch::nn::Embedding embed_tokens_ = nullptr;
  std::vector<std::shared_ptr<Layer>> layers_;
  std::shared_ptr<RmsNorm> norm_;
  torch::nn::Linear lm_head_ = nullptr;
  torch::Tensor cos_, sin_;  // [positions so far, 1, head width]; sin is negative in the first half
};

/// Mean cross entropy in nats of the next byte. tokens: [batch, time + 1], on any device. With bf16, matrix
/// products and attention run in bfloat16; weights, norms, the residual stream and the loss stay in float32.
torch::Tensor next_byte_loss(Model& model, const torch::Tensor& tokens, bool bf16,
                             std::vector<torch::Tensor>* activations = nullptr);

/// Of the bytes of all weights, in the order of the parameters.
std::string weights_sha256(const Model& model);

/// A view of `tokens` as [count, length] without a copy.
torch::Tensor token_tensor(std::span<const std::int64_t> tokens, Index count);

}  // namespace aurora::trainer
