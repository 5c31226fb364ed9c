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
  for (const auto& each : optimizer.routing()) {
    EXPECT_EQ(each.method, each.route == Route::matrix ? "exact polar factors" : "");
    if (each.name != "blocks.1.qkv.weight") continue;
    EXPECT_EQ(matrices_text(each.shape, *each.dimensions), "3 of 16x16");
    EXPECT_TRUE(each.guessed) << "a name alone does not tell how it is fused";
  }
  EXPECT_EQ(found.at("blocks.1.qkv.bias"), "adamw: fewer than two dimensions");
  EXPECT_EQ(found.at("blocks.1.qkv.weight"), "matrix: hidden matrix: query_key_value");
  EXPECT_EQ(optimizer.routing()[1].name, "blocks.0.norm.weight");
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
  EXPECT_EQ(found.at("tokens.weight"), "adamw: embedding, tied to output.weight");
  EXPECT_FALSE(found.contains("output.weight"));
  EXPECT_EQ(found.at("spare.weight"), "matrix: hidden matrix")
      << "the tie is the head, not the last linear layer";
}

TEST(TorchRouting, KeepsFrozenParametersUntilTheyAreUnfrozen) {
  Transformer model("lm_head");
  Tensor& frozen = model->blocks[0]->as<Block>()->up->weight;
  frozen.requires_grad_(false);
  Muon optimizer(*model);
  EXPECT_EQ(reasons(optimizer).at("blocks.0.up.weight"), "matrix: hidden matrix");
  const Tensor before = frozen.detach().clone();
  const auto step = [&](std::uint64_t seed) {
    for (auto& each : model->parameters()) {
      if (each.requires_grad()) each.mutable_grad() = test::random_tensor(each.sizes().vec(), seed);
    }
    optimizer.step();
  };
  step(1);
  EXPECT_TRUE(torch::equal(before, frozen));
  frozen.requires_grad_(true);
  step(2);
  EXPECT_FALSE(torch::equal(before, frozen));
}

/// Layers of torch that are more than one matrix, or stored otherwise.
struct LayersImpl : torch::nn::Module {
  LayersImpl()
      : attention(register_module("attention", torch::nn::MultiheadAttention(8, 2))),
        lstm(register_module("lstm", torch::nn::LSTM(6, 4))),
        gru(register_module("gru", torch::nn::GRU(6, 4))),
        depthwise(
            register_module("depthwise", torch::nn::Conv2d(torch::nn::Conv2dOptions(8, 8, 3).groups(8)))),
        grouped(register_module("grouped", torch::nn::Conv2d(torch::nn::Conv2dOptions(8, 12, 3).groups(2)))),
        up(register_module("up", torch::nn::ConvTranspose2d(torch::nn::ConvTranspose2dOptions(12, 4, 2)))),
        norm(register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({3, 4, 4})))),
        classifier(register_module("classifier", torch::nn::Linear(8, 3))) {}
  torch::nn::MultiheadAttention attention;
  torch::nn::LSTM lstm;
  torch::nn::GRU gru;
  torch::nn::Conv2d depthwise, grouped;
  torch::nn::ConvTranspose2d up;
  torch::nn::LayerNorm norm;
  torch::nn::Linear classifier;
};
TORCH_MODULE(Layers);

TEST(TorchRouting, CutsTheLayersOfTorchAsTheyCompute) {
  Layers model;
  Muon optimizer(*model,
                 {.lr = 1, .momentum = 0, .nesterov = false, .weight_decay = 0, .scale = UpdateScale::none});
  std::map<std::string, std::string> cuts;
  for (const auto& each : optimizer.routing()) {
    cuts[each.name] = each.route == Route::matrix ? matrices_text(each.shape, *each.dimensions) : "adamw";
  }
  EXPECT_EQ(cuts.at("attention.in_proj_weight"), "3 of 8x8");
  EXPECT_EQ(cuts.at("attention.out_proj.weight"), "8x8");
  EXPECT_EQ(cuts.at("lstm.weight_ih_l0"), "4 of 4x6");
  EXPECT_EQ(cuts.at("gru.weight_hh_l0"), "3 of 4x4");
  EXPECT_EQ(cuts.at("depthwise.weight"), "adamw");
  EXPECT_EQ(cuts.at("grouped.weight"), "2 of 6x36");
  EXPECT_EQ(cuts.at("up.weight"), "4x48");
  EXPECT_EQ(cuts.at("norm.weight"), "adamw");
  EXPECT_EQ(cuts.at("classifier.weight"), "adamw");

  // What a step does: singular values of 1 for the query's block, in float32 to its rounding.
  const Tensor before = model->attention->in_proj_weight.detach().clone();
  for (auto& each : model->parameters()) each.mutable_grad() = test::random_tensor(each.sizes().vec(), 3);
  optimizer.step();
  const Tensor query = (before - model->attention->in_proj_weight).detach().slice(0, 0, 8);
  EXPECT_LT((torch::linalg_svdvals(query) - 1).abs().max().item<float>(), 1e-5F);
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
