#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gradient.hpp"
#include "model.hpp"
#include "model_size.hpp"
#include "session.hpp"

namespace {

using namespace aurora::trainer;
using aurora::Index;

ModelConfig small_config() {
  return {.width = 16, .layers = 2, .heads = 4, .kv_heads = 2, .context = 8, .expansion = 3};
}

torch::Tensor random_tokens(Index count, Index length) {
  auto generator = at::detail::createCPUGenerator(7);
  return torch::randint(256, {count, length}, generator, torch::kInt64);
}

/// A model whose weights are large enough that every part of it matters.
Model lively_model(const ModelConfig& config) {
  Model model(config, 3);
  const torch::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(5);
  for (auto& parameter : model.parameters()) {
    if (parameter.dim() == 2) parameter.normal_(0, 0.3, generator);
    if (parameter.dim() == 1) parameter.uniform_(0.5, 1.5, generator);
  }
  return model;
}

using Values = std::vector<double>;
using Sequence = std::vector<Values>;  // [time][width]

/// The decoder as a person would write it down, in double, one sequence, without tensors.
class Reference {
 public:
  explicit Reference(const Model& model) : config_(model.config()) {
    for (const auto& parameter : model.named_parameters())
      weights_[parameter.key()] = parameter.value().to(torch::kFloat64);
  }

  Sequence logits(const std::vector<Index>& tokens) const {
    Sequence x;
    for (const Index token : tokens) x.push_back(row("model.embed_tokens.weight", token));
    for (Index i = 0; i < config_.layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".";
      add(x, attention(layer + "self_attn.", normalized(x, layer + "input_layernorm.weight")));
      const Sequence h = normalized(x, layer + "post_attention_layernorm.weight");
      Sequence gate = product(layer + "mlp.gate_proj.weight", h);
      const Sequence up = product(layer + "mlp.up_proj.weight", h);
      for (std::size_t t = 0; t < gate.size(); ++t)
        for (std::size_t j = 0; j < gate[t].size(); ++j) gate[t][j] *= up[t][j] / (1 + std::exp(-gate[t][j]));
      add(x, product(layer + "mlp.down_proj.weight", gate));
    }
    return product("lm_head.weight", normalized(x, "model.norm.weight"));
  }

 private:
  Values row(const std::string& name, Index i) const {
    const auto values = weights_.at(name)[i].contiguous();
    return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
  }
  Sequence product(const std::string& name, const Sequence& x) const {
    Sequence y(x.size());
    for (Index i = 0; i < weights_.at(name).size(0); ++i) {
      const Values w = row(name, i);
      for (std::size_t t = 0; t < x.size(); ++t)
        y[t].push_back(std::inner_product(w.begin(), w.end(), x[t].begin(), 0.0));
    }
    return y;
  }
  Sequence normalized(Sequence x, const std::string& name) const {
    const auto weight = weights_.at(name);
    for (Values& v : x) {
      const double mean =
          std::inner_product(v.begin(), v.end(), v.begin(), 0.0) / static_cast<double>(v.size());
      for (std::size_t j = 0; j < v.size(); ++j)
        v[j] *= weight[static_cast<Index>(j)].item<double>() / std::sqrt(mean + config_.norm_eps);
    }
    return x;
  }
  static void add(Sequence& x, const Sequence& y) {
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t j = 0; j < x[t].size(); ++j) x[t][j] += y[t][j];
  }
  /// Head `head` of x at time t, rotated by its position.
  Values rotated(const Sequence& x, std::size_t t, Index head) const {
    const Index d = config_.width / config_.heads, half = d / 2;
    Values out(static_cast<std::size_t>(d));
    for (Index i = 0; i < half; ++i) {
      const double angle = static_cast<double>(t) *
                           std::pow(config_.rope_theta, -static_cast<double>(i) / static_cast<double>(half));
      const double a = x[t][static_cast<std::size_t>(head * d + i)];
      const double b = x[t][static_cast<std::size_t>(head * d + i + half)];
      out[static_cast<std::size_t>(i)] = a * std::cos(angle) - b * std::sin(angle);
      out[static_cast<std::size_t>(i + half)] = b * std::cos(angle) + a * std::sin(angle);
    }
    return out;
  }
  Sequence attention(const std::string& name, const Sequence& x) const {
    const Sequence q = product(name + "q_proj.weight", x), k = product(name + "k_proj.weight", x),
                   v = product(name + "v_proj.weight", x);
    const Index d = config_.width / config_.heads;
    Sequence mixed(x.size(), Values(static_cast<std::size_t>(config_.width)));
    for (Index head = 0; head < config_.heads; ++head) {
      const Index shared = head / (config_.heads / config_.kv_heads);
      for (std::size_t t = 0; t < x.size(); ++t) {
        Values weight;
        const Values query = rotated(q, t, head);
        for (std::size_t s = 0; s <= t; ++s) {
          const Values key = rotated(k, s, shared);
          weight.push_back(std::exp(std::inner_product(query.begin(), query.end(), key.begin(), 0.0) /
                                    std::sqrt(static_cast<double>(d))));
        }
        const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
        for (std::size_t s = 0; s <= t; ++s)
          for (Index i = 0; i < d; ++i)
            mixed[t][static_cast<std::size_t>(head * d + i)] +=
                weight[s] / sum * v[s][static_cast<std::size_t>(shared * d + i)];
      }
    }
    return product(name + "o_proj.weight", mixed);
  }

  ModelConfig config_;
  std::map<std::string, torch::Tensor> weights_;
};

TEST(Model, HasTheParametersOfALlamaInTransformers) {
  const ModelConfig config = small_config();
  const Model model(config, 0);
  const auto expected = parameters_of(config);
  const auto actual = model.named_parameters();
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(actual[i].key(), expected[i].name);
    EXPECT_EQ(actual[i].value().sizes().vec(), expected[i].shape) << expected[i].name;
  }
  EXPECT_EQ(actual["model.layers.1.self_attn.k_proj.weight"].sizes(), (std::vector<Index>{8, 16}));
  EXPECT_EQ(actual["model.layers.1.mlp.down_proj.weight"].sizes(), (std::vector<Index>{16, 48}));
}

TEST(Model, CountsItsParameters) {
  const ModelConfig config = small_config();
  Index count = 0;
  for (const auto& parameter : Model(config, 0).parameters()) count += parameter.numel();
  EXPECT_EQ(parameter_count(config), count);
}

TEST(Model, EqualsAPlainDecoderWithSharedKeyHeads) {
  for (const Index kv_heads : {1, 2, 4}) {
    ModelConfig config = small_config();
    config.kv_heads = kv_heads;
    Model model = lively_model(config);
    const auto tokens = random_tokens(2, config.context);
    const torch::NoGradGuard no_grad;
    const auto logits = model.forward(tokens).view({2, config.context, 256}).to(torch::kFloat64);
    const Reference reference(model);
    for (Index b = 0; b < 2; ++b) {
      const auto* data = tokens[b].const_data_ptr<Index>();
      const Sequence expected = reference.logits({data, data + config.context});
      double scale = 0, error = 0;
      for (Index t = 0; t < config.context; ++t)
        for (Index j = 0; j < 256; ++j) {
          const double value = expected[static_cast<std::size_t>(t)][static_cast<std::size_t>(j)];
          scale = std::max(scale, std::abs(value));
          error = std::max(error, std::abs(value - logits[b][t][j].item<double>()));
        }
      // Some ten float32 operations in a row, each of relative error 2^-24 and summed over at most 48 terms.
      EXPECT_LT(error, 10 * 48 * std::ldexp(1.0, -24) * scale)
          << "kv_heads " << kv_heads << ", sequence " << b;
    }
  }
}

TEST(Model, SeesNoLaterToken) {
  Model model = lively_model(small_config());
  const torch::NoGradGuard no_grad;
  auto tokens = random_tokens(1, 8);
  const auto before = model.forward(tokens);
  tokens[0][5] = (tokens[0][5].item<Index>() + 1) % 256;
  const auto after = model.forward(tokens);
  EXPECT_TRUE(torch::equal(before.narrow(0, 0, 5), after.narrow(0, 0, 5)));
  EXPECT_FALSE(torch::equal(before[5], after[5]));
}

TEST(Model, BeginsWithWeightsThatFollowFromTheSeedAlone) {
  const Model a(small_config(), 1), b(small_config(), 1), c(small_config(), 2);
  for (const auto& parameter : a.named_parameters()) {
    EXPECT_TRUE(torch::equal(parameter.value(), b.named_parameters()[parameter.key()])) << parameter.key();
    if (parameter.value().dim() == 2) {
      EXPECT_FALSE(torch::equal(parameter.value(), c.named_parameters()[parameter.key()])) << parameter.key();
    }
  }
}

TEST(Model, BeginsWithSmallButNotZeroOutputProjections) {
  const ModelConfig config{.width = 128, .layers = 1};
  const Model model(config, 0);
  const auto std_of = [&](const std::string& name) {
    return model.named_parameters()["model.layers.0." + name].std().item<double>();
  };
  const double hidden = Model::kHiddenGain / std::sqrt(128), output = Model::kOutputGain;
  EXPECT_NEAR(std_of("mlp.gate_proj.weight") / hidden, 1, 0.03);
  EXPECT_NEAR(std_of("self_attn.o_proj.weight") / (output / std::sqrt(128)), 1, 0.03);
  EXPECT_NEAR(std_of("mlp.down_proj.weight") / (output / std::sqrt(512)), 1, 0.03);
  EXPECT_GT(std_of("mlp.down_proj.weight"), 0);
  EXPECT_EQ(std_of("input_layernorm.weight"), 0);
}

TEST(Model, InBf16IsCloseToFloat32ButNotEqual) {
  Model model = lively_model(small_config());
  const auto tokens = random_tokens(4, 9);
  const double exact = next_byte_loss(model, tokens, false).item<double>();
  const auto rounded = next_byte_loss(model, tokens, true);
  EXPECT_EQ(rounded.scalar_type(), torch::kFloat32);
  EXPECT_NE(rounded.item<double>(), exact);
  EXPECT_NEAR(rounded.item<double>() / exact, 1, 0.02);
  EXPECT_EQ(next_byte_loss(model, tokens, false).item<double>(), exact) << "bf16 must end with its scope";
  rounded.backward();
  for (const auto& parameter : model.parameters()) EXPECT_EQ(parameter.grad().scalar_type(), torch::kFloat32);
}

Ranks alone;

TEST(Gradient, IsTheSameInOnePartAndInFour) {
  Model one = lively_model(small_config()), four = lively_model(small_config());
  const auto tokens = random_tokens(8, 9);
  const auto loss_one = accumulate_gradients(one, tokens, 1, false, alone).item<double>();
  const auto loss_four = accumulate_gradients(four, tokens, 4, false, alone).item<double>();
  EXPECT_NEAR(loss_one, loss_four, 1e-6 * loss_one);
  for (const auto& parameter : one.named_parameters()) {
    const auto expected = parameter.value().grad();
    const auto actual = four.named_parameters()[parameter.key()].grad();
    const double error = (actual - expected).abs().max().item<double>();
    // Sums of 64 tokens in another order, in float32, through two layers.
    EXPECT_LT(error, 64 * std::ldexp(1.0, -23) * expected.abs().max().item<double>()) << parameter.key();
  }
}

TEST(Gradient, IsClippedToTheGlobalNorm) {
  Model model = lively_model(small_config());
  accumulate_gradients(model, random_tokens(2, 9), 1, false, alone);
  const auto norm_of = [&] {
    double sum = 0;
    for (const auto& parameter : model.parameters())
      sum += parameter.grad().to(torch::kFloat64).square().sum().item<double>();
    return std::sqrt(sum);
  };
  const double before = norm_of();
  EXPECT_NEAR(clip_gradients(model.parameters(), 2 * before, alone).item<double>(), before, 1e-5 * before);
  EXPECT_EQ(norm_of(), before) << "a norm below the bound is left alone";
  EXPECT_NEAR(clip_gradients(model.parameters(), 0, alone).item<double>(), before, 1e-5 * before);
  EXPECT_EQ(norm_of(), before) << "0 is no bound";
  clip_gradients(model.parameters(), before / 3, alone);
  EXPECT_NEAR(norm_of(), before / 3, 1e-5 * before);
}

TEST(Gradient, ThatIsNotFiniteIsNotTouchedByClipping) {
  Model model = lively_model(small_config());
  accumulate_gradients(model, random_tokens(2, 9), 1, false, alone);
  auto embedding = model.named_parameters()["model.embed_tokens.weight"].grad();
  const auto head = model.named_parameters()["lm_head.weight"].grad().clone();
  embedding[0][0] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(std::isfinite(clip_gradients(model.parameters(), 1e-3, alone).item<double>()));
  EXPECT_TRUE(torch::equal(model.named_parameters()["lm_head.weight"].grad(), head));
}

TEST(ModelSize, ThatNoMachineHoldsIsRefusedWithTheSize) {
  TrainConfig config;
  config.model.width = 65536;
  config.model.layers = 1024;
  try {
    require_memory(config);
    FAIL() << "nothing was thrown";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("GiB"));
    EXPECT_THAT(error.what(), testing::HasSubstr("model.width"));
  }
  EXPECT_NO_THROW(require_memory(TrainConfig{}));
}

TEST(TorchErrors, BecomeOneLine) {
  try {
    with_plain_errors([] { return torch::ones({2, 3}).mm(torch::ones({2, 3})); });
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("2x3"));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("\n")));
  }
}

}  // namespace
