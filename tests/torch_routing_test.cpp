#include <gmock/gmock.h>

#include <map>
#include <string>

#include "aurora/torch/optimizer.hpp"
#include "support/matchers.hpp"
#include "support/tensors.hpp"

namespace aurora::optim {
namespace {

using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;
using torch::Tensor;

struct BlockImpl : torch::nn::Module {
  BlockImpl()
      : norm(register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({16})))),
        qkv(register_module("qkv", torch::nn::Linear(16, 48))),
        up(register_module("up", torch::nn::Linear(torch::nn::LinearOptions(16, 64).bias(false)))),
        down(register_module("down", torch::nn::Linear(torch::nn::LinearOptions(64, 16).bias(false)))) {}
  torch::nn::LayerNorm norm;
  torch::nn::Linear qkv, up, down;
};
TORCH_MODULE(Block);

struct TransformerImpl : torch::nn::Module {
  explicit TransformerImpl(const std::string& head_name)
      : tokens(register_module("tokens", torch::nn::Embedding(100, 16))),
        blocks(register_module("blocks", torch::nn::ModuleList(Block(), Block()))),
        output(register_module(head_name, torch::nn::Linear(torch::nn::LinearOptions(16, 100).bias(false)))) {
  }
  torch::nn::Embedding tokens;
  torch::nn::ModuleList blocks;
  torch::nn::Linear output;
};
TORCH_MODULE(Transformer);

std::map<std::string, std::string> reasons(const SpectralOptimizer& optimizer) {
  std::map<std::string, std::string> result;
  for (const auto& each : optimizer.routing()) {
    result[each.name] = (each.route == Route::matrix ? "matrix: " : "adamw: ") + each.reason;
  }
  return result;
}

TEST(TorchRouting, SendsHiddenMatricesToTheRuleAndTheRestToAdamW) {
  Transformer model("lm_head");
  Aurora optimizer(*model, {.lr = 0.05}, {.lr = 0.001});
  const auto found = reasons(optimizer);
  EXPECT_EQ(found.size(), model->named_parameters().size());
  EXPECT_EQ(found.at("tokens.weight"), "adamw: embedding");
  EXPECT_EQ(found.at("blocks.0.norm.weight"), "adamw: fewer than two dimensions");
  EXPECT_EQ(found.at("blocks.1.qkv.bias"), "adamw: fewer than two dimensions");
  EXPECT_EQ(found.at("blocks.1.qkv.weight"), "matrix: hidden matrix");
  EXPECT_EQ(found.at("blocks.1.down.weight"), "matrix: hidden matrix");
  EXPECT_EQ(found.at("lm_head.weight"), "adamw: output head by name");

  ASSERT_EQ(optimizer.param_groups().size(), 2U);
  const auto& matrices = optimizer.param_groups()[0].params();
  ASSERT_EQ(matrices.size(), 6U);
  EXPECT_TRUE(matrices[1].is_same(model->blocks[0]->as<Block>()->up->weight)) << "groups are in module order";
  EXPECT_EQ(optimizer.param_groups()[0].options().get_lr(), 0.05);
  EXPECT_EQ(optimizer.param_groups()[1].options().get_lr(), 0.001);
  EXPECT_EQ(matrices.size() + optimizer.param_groups()[1].params().size(), model->parameters().size());
}

TEST(TorchRouting, TakesTheLastLinearLayerForTheHeadWhereNoNameTells) {
  Transformer model("final");
  EXPECT_EQ(reasons(Muon(*model)).at("final.weight"), "adamw: output head: the last linear layer");
}

TEST(TorchRouting, OfATiedHeadTakesTheSharedTensorOnce) {
  Transformer model("spare");
  model->register_module("output", model->tokens);
  const Muon optimizer(*model);
  const auto found = reasons(optimizer);
  EXPECT_EQ(found.at("tokens.weight"), "adamw: tied to output.weight");
  EXPECT_FALSE(found.contains("output.weight"));
  EXPECT_EQ(found.at("spare.weight"), "matrix: hidden matrix")
      << "the tie is the head, not the last linear layer";
}

TEST(TorchRouting, LeavesFrozenParametersOut) {
  Transformer model("lm_head");
  model->tokens->weight.requires_grad_(false);
  const Muon optimizer(*model);
  EXPECT_FALSE(reasons(optimizer).contains("tokens.weight"));
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& each : group.params()) EXPECT_TRUE(each.requires_grad());
  }
}

TEST(TorchRouting, WithAnAdamWRuleIsOneGroupOfThatRule) {
  Transformer model("lm_head");
  const AdamW optimizer(*model, {.lr = 0.5}, {.lr = 0.25});
  ASSERT_EQ(optimizer.param_groups().size(), 1U);
  EXPECT_EQ(optimizer.param_groups()[0].params().size(), model->parameters().size());
  EXPECT_EQ(optimizer.param_groups()[0].options().get_lr(), 0.5);
}

TEST(TorchRouting, FollowsPatterns) {
  Transformer model("lm_head");
  const std::vector<RoutePattern> patterns = {{"blocks.*.qkv.weight", Route::adamw},
                                              {"lm_head.*", Route::matrix}};
  const Muon optimizer(*model, {}, {}, patterns);
  const auto found = reasons(optimizer);
  EXPECT_EQ(found.at("blocks.0.qkv.weight"), "adamw: pattern 'blocks.*.qkv.weight'");
  EXPECT_EQ(found.at("lm_head.weight"), "matrix: pattern 'lm_head.*'");
  const std::vector<RoutePattern> none = {{"nothing.*", Route::adamw}};
  EXPECT_THAT(message_of([&] { Muon(*model, {}, {}, none); }), HasSubstr("nothing.*"));
}

TEST(TorchRouting, TakesConvolutionsAsMatrices) {
  torch::nn::Sequential model(torch::nn::Conv2d(torch::nn::Conv2dOptions(3, 16, 3)),
                              torch::nn::Conv2d(torch::nn::Conv2dOptions(16, 1, 3)), torch::nn::Flatten(),
                              torch::nn::Linear(36, 10), torch::nn::Linear(10, 4));
  NorMuon optimizer(*model);
  const auto found = reasons(optimizer);
  EXPECT_EQ(found.at("0.weight"), "matrix: hidden matrix");
  EXPECT_EQ(found.at("1.weight"), "adamw: a side of length 1");
  EXPECT_EQ(found.at("3.weight"), "matrix: hidden matrix");
  EXPECT_EQ(found.at("4.weight"), "adamw: output head: the last linear layer");
  model->forward(test::random_tensor({2, 3, 10, 10}, 1)).square().mean().backward();
  optimizer.step();
  EXPECT_EQ(optimizer.skipped_steps(), 0);
}

}  // namespace
}  // namespace aurora::optim
