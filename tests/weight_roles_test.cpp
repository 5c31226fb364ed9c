#include "weight_roles.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace aurora::trainer {
namespace {

constexpr NeuronAxis kRows = NeuronAxis::rows, kColumns = NeuronAxis::columns;

struct Expected {
  NamedShape matrix;
  std::string_view role;
  NeuronAxis axis;
  bool hidden = true;
};

void expect_roles(const std::vector<Expected>& all, bool in_out) {
  for (const Expected& expected : all) {
    SCOPED_TRACE(expected.matrix.name);
    const WeightRole role = weight_role(expected.matrix, in_out);
    EXPECT_EQ(role.name, expected.role);
    EXPECT_EQ(role.axis, expected.axis);
    EXPECT_EQ(role.hidden, expected.hidden);
    EXPECT_FALSE(role.guessed);
  }
}

TEST(WeightRoles, OfALlamaAreKnownByName) {
  const std::vector<Expected> all = {
      {{"model.embed_tokens.weight", 1000, 64}, "embedding", kRows, false},
      {{"model.layers.0.self_attn.q_proj.weight", 64, 64}, "query", kRows},
      {{"model.layers.0.self_attn.k_proj.weight", 16, 64}, "key", kRows},
      {{"model.layers.0.self_attn.v_proj.weight", 16, 64}, "value", kRows},
      {{"model.layers.0.self_attn.qkv_proj.weight", 96, 64}, "query_key_value", kRows},
      {{"model.layers.0.self_attn.o_proj.weight", 64, 64}, "attention_output", kColumns},
      {{"model.layers.0.mlp.gate_proj.weight", 256, 64}, "gate", kRows},
      {{"model.layers.0.mlp.up_proj.weight", 256, 64}, "up", kRows},
      {{"model.layers.0.mlp.gate_up_proj.weight", 512, 64}, "gate_up", kRows},
      {{"model.layers.0.mlp.down_proj.weight", 64, 256}, "down", kColumns},
      {{"lm_head.weight", 1000, 64}, "output_head", kRows, false},
      {{"layers.0.block_sparse_moe.gate.weight", 8, 64}, "router", kRows, false},
      {{"layers.0.block_sparse_moe.experts.3.w2.weight", 64, 256}, "down", kColumns},
  };
  expect_roles(all, false);
  // How GPT-2's weights would be stored has nothing to do with these names.
  expect_roles(all, true);
}

TEST(WeightRoles, OfGpt2FollowHowItsModelIsStored) {
  expect_roles({{{"h.0.attn.c_attn.weight", 64, 192}, "query_key_value", kColumns},
                {{"h.0.attn.c_proj.weight", 64, 64}, "attention_output", kRows},
                {{"h.0.mlp.c_fc.weight", 64, 256}, "up", kColumns},
                {{"transformer.h.11.mlp.c_proj.weight", 256, 64}, "down", kRows},
                {{"wte.weight", 1000, 64}, "embedding", kRows, false},
                {{"wpe.weight", 128, 64}, "position_embedding", kRows, false}},
               true);
  expect_roles({{{"h.0.attn.c_attn.weight", 192, 64}, "query_key_value", kRows},
                {{"h.0.attn.c_proj.weight", 64, 64}, "attention_output", kColumns},
                {{"h.0.mlp.c_fc.weight", 256, 64}, "up", kRows},
                {{"h.0.mlp.c_proj.weight", 64, 256}, "down", kColumns}},
               false);
}

TEST(WeightRoles, ShapesTellWhetherGpt2IsStoredInOut) {
  EXPECT_TRUE(stores_in_out(std::vector<NamedShape>{{"h.0.mlp.c_fc.weight", 64, 256}}));
  EXPECT_TRUE(stores_in_out(std::vector<NamedShape>{{"h.0.mlp.c_proj.weight", 256, 64}}));
  EXPECT_FALSE(stores_in_out(std::vector<NamedShape>{{"h.0.mlp.c_fc.weight", 256, 64}}));
  EXPECT_FALSE(stores_in_out(
      std::vector<NamedShape>{{"h.0.attn.c_proj.weight", 64, 64}, {"h.0.mlp.c_proj.weight", 64, 256}}));
  // transformers' Conv1D, where nothing tells.
  EXPECT_TRUE(stores_in_out(std::vector<NamedShape>{{"h.0.attn.c_proj.weight", 64, 64}}));
}

TEST(WeightRoles, AreGuessedByShapeWhereTheNameSaysNothing) {
  const WeightRole tall = weight_role({"encoder.thing.weight", 9, 4}, true);
  EXPECT_TRUE(tall.guessed);
  EXPECT_TRUE(tall.hidden);
  EXPECT_EQ(tall.name, "tall");
  EXPECT_EQ(tall.axis, kRows);
  const WeightRole wide = weight_role({"a", 4, 9}, false);
  EXPECT_EQ(wide.name, "wide");
  EXPECT_EQ(wide.axis, kColumns);
  EXPECT_EQ(weight_role({"", 4, 4}, false).name, "square");
}

TEST(WeightRoles, OnlyWholePartsOfANameCount) {
  EXPECT_TRUE(weight_role({"model.my_up_proj.weight", 9, 4}, false).guessed);
  EXPECT_TRUE(weight_role({"model.up_proj.weight.extra", 9, 4}, false).guessed);
  EXPECT_FALSE(weight_role({"up_proj", 9, 4}, false).guessed);
}

}  // namespace
}  // namespace aurora::trainer
