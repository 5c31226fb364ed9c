#include "weight_roles.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "weight_parts.hpp"

namespace aurora::trainer {
namespace {

constexpr NeuronAxis kRows = NeuronAxis::rows, kColumns = NeuronAxis::columns;

struct Expected {
  NamedShape matrix;
  std::string_view role;
  NeuronAxis axis;
  bool hidden = true;
};

void expect_roles(const std::vector<Expected>& all) {
  std::vector<NamedShape> shapes;
  for (const Expected& expected : all) shapes.push_back(expected.matrix);
  const auto roles = weight_roles(shapes);
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(all[i].matrix.name);
    ASSERT_TRUE(roles[i]);
    EXPECT_EQ(roles[i]->name, all[i].role);
    EXPECT_EQ(roles[i]->axis, all[i].axis);
    EXPECT_EQ(roles[i]->hidden, all[i].hidden);
    EXPECT_FALSE(roles[i]->guessed);
  }
}

WeightRole role_alone(std::string_view name, std::vector<Index> shape, const ModelConfiguration& model = {}) {
  const auto roles = weight_roles(std::vector<NamedShape>{{name, std::move(shape)}}, model);
  EXPECT_TRUE(roles.front());
  return roles.front().value_or(WeightRole{});
}

TEST(WeightRoles, OfALlamaAreKnownByName) {
  expect_roles({
      {{"model.embed_tokens.weight", {1000, 64}}, "embedding", kRows, false},
      {{"model.layers.0.self_attn.q_proj.weight", {64, 64}}, "query", kRows},
      {{"model.layers.0.self_attn.k_proj.weight", {16, 64}}, "key", kRows},
      {{"model.layers.0.self_attn.v_proj.weight", {16, 64}}, "value", kRows},
      {{"model.layers.0.self_attn.o_proj.weight", {64, 64}}, "attention_output", kColumns},
      {{"model.layers.0.mlp.gate_proj.weight", {256, 64}}, "gate", kRows},
      {{"model.layers.0.mlp.up_proj.weight", {256, 64}}, "up", kRows},
      {{"model.layers.0.mlp.gate_up_proj.weight", {512, 64}}, "gate_up", kRows},
      {{"model.layers.0.mlp.down_proj.weight", {64, 256}}, "down", kColumns},
      {{"lm_head.weight", {1000, 64}}, "output_head", kRows, false},
      {{"layers.0.block_sparse_moe.gate.weight", {8, 64}}, "router", kRows, false},
      {{"layers.0.block_sparse_moe.experts.3.w2.weight", {64, 256}}, "down", kColumns},
  });
}

TEST(WeightRoles, OfGpt2FollowHowItsModelIsStored) {
  expect_roles({{{"h.0.attn.c_proj.weight", {64, 64}}, "attention_output", kRows},
                {{"h.0.mlp.c_fc.weight", {64, 256}}, "up", kColumns},
                {{"transformer.h.11.mlp.c_proj.weight", {256, 64}}, "down", kRows},
                {{"wte.weight", {1000, 64}}, "embedding", kRows, false},
                {{"wpe.weight", {128, 64}}, "position_embedding", kRows, false}});
  expect_roles({{{"h.0.attn.c_proj.weight", {64, 64}}, "attention_output", kColumns},
                {{"h.0.mlp.c_fc.weight", {256, 64}}, "up", kRows},
                {{"h.0.mlp.c_proj.weight", {64, 256}}, "down", kColumns}});
  // transformers' Conv1D, where nothing tells.
  EXPECT_EQ(role_alone("h.0.attn.c_proj.weight", {64, 64}).axis, kRows);
}

TEST(WeightRoles, SayHowFusedAndStackedWeightsAreCut) {
  const WeightRole fused = role_alone("h.0.attn.c_attn.weight", {64, 192});
  EXPECT_EQ(matrices_text(std::vector<Index>{64, 192}, fused.dimensions), "3 of 64x64");
  EXPECT_EQ(fused.axis, kRows) << "of each as [out, in]";
  EXPECT_TRUE(fused.guessed) << "no configuration says that it is GPT-2";
  EXPECT_FALSE(role_alone("h.0.attn.c_attn.weight", {64, 192}, {"gpt2", {}}).guessed);

  const WeightRole experts = role_alone("layers.0.mlp.experts.gate_up_proj", {4, 32, 8});
  EXPECT_EQ(matrices_text(std::vector<Index>{4, 32, 8}, experts.dimensions), "8 of 16x8");

  const ModelConfiguration neox{"gpt_neox", [](const std::string& name) {
                                  return name == "num_attention_heads" ? std::optional<Index>(4)
                                                                       : std::nullopt;
                                }};
  EXPECT_EQ(role_alone("a.query_key_value.weight", {48, 16}, neox).dimensions.repeats, 4);
}

TEST(WeightRoles, OfAFusedWeightWithoutItsNumbersAreThoseOfOneMatrixAndGuessed) {
  const WeightRole role = role_alone("a.query_key_value.weight", {48, 16}, {"gpt_neox", {}});
  EXPECT_FALSE(role.cut());
  EXPECT_TRUE(role.guessed);
  EXPECT_TRUE(role.hidden);
}

TEST(WeightRoles, OfThreeAxesThatNobodyKnowsAreNone) {
  EXPECT_FALSE(weight_roles(std::vector<NamedShape>{{"conv.kernel", {3, 8, 8}}}).front());
}

TEST(WeightRoles, AreGuessedByShapeWhereTheNameSaysNothing) {
  const WeightRole tall = role_alone("encoder.thing.weight", {9, 4});
  EXPECT_TRUE(tall.guessed);
  EXPECT_TRUE(tall.hidden);
  EXPECT_EQ(tall.name, "tall");
  EXPECT_EQ(tall.axis, kRows);
  const WeightRole wide = role_alone("a", {4, 9});
  EXPECT_EQ(wide.name, "wide");
  EXPECT_EQ(wide.axis, kColumns);
  EXPECT_EQ(role_alone("", {4, 4}).name, "square");
}

TEST(WeightRoles, OnlyWholePartsOfANameCount) {
  EXPECT_TRUE(role_alone("model.my_up_proj.weight", {9, 4}).guessed);
  EXPECT_TRUE(role_alone("model.up_proj.weight.extra", {9, 4}).guessed);
  EXPECT_FALSE(role_alone("up_proj", {9, 4}).guessed);
}

TEST(WeightParts, AreTheMatricesThatViewsOrSlicesShow) {
  const std::vector<Index> shape = {2, 3, 8};  // [experts, in, out], gate and up interleaved
  std::vector<double> values(48);
  std::iota(values.begin(), values.end(), 0.0);
  const TensorEntry weight{"w", "F64", shape, std::as_bytes(std::span(values))};
  const Dimensions interleaved{.batch = {0}, .rows = {2}, .cols = {1}, .row_blocks = {1, 1}, .repeats = 4};
  const Dimensions by_head{.batch = {0}, .rows = {2}, .cols = {1}, .row_blocks = {2, 2}, .repeats = 2};
  for (Index e = 0; e < 2; ++e) {
    for (Index block = 0; block < 2; ++block) {
      for (const bool heads : {false, true}) {
        const WeightPart part(weight, heads ? by_head : interleaved, 2 * e + block);
        ASSERT_EQ(part.entry().shape, (std::vector<Index>{4, 3}));
        std::vector<double> found(12);
        values_as_double(part.entry(), 0, found);
        for (Index i = 0; i < 4; ++i) {
          const Index out = heads ? i / 2 * 4 + block * 2 + i % 2 : 2 * i + block;
          for (Index j = 0; j < 3; ++j) {
            EXPECT_EQ(found[static_cast<std::size_t>(3 * i + j)], static_cast<double>(24 * e + 8 * j + out));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace aurora::trainer
