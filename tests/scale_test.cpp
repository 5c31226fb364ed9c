#include "scale.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model_size.hpp"

namespace {

using namespace aurora::trainer;

TrainConfig seven_billion(int ranks) {
  TrainConfig config;
  config.model = {
      .width = 4096, .layers = 32, .heads = 32, .kv_heads = 32, .context = 2048, .expansion = 2.6875};
  config.batch = 1;
  config.accumulate = ranks;
  return config;
}

ScaleEstimate estimate(int ranks, Sharing sharing = Sharing::owners) {
  return scale_estimate(seven_billion(ranks), ranks, gpu_of("h100"), sharing);
}

TEST(Scale, OfOneRankIsOneProcessHoweverItShares) {
  const TrainConfig config = seven_billion(1);
  for (const Sharing sharing : kSharings) {
    const ScaleEstimate one = estimate(1, sharing);
    EXPECT_EQ(one.sent, 0) << name(sharing);
    EXPECT_DOUBLE_EQ(one.memory, memory_bytes(config)) << name(sharing);
    EXPECT_DOUBLE_EQ(one.optimizer_ms, estimate(1).optimizer_ms) << name(sharing);
    EXPECT_EQ(one.unevenness, 1) << name(sharing);
  }
}

TEST(Scale, OwnersSendWhatDdpSendsAndShareStateAndTime) {
  const auto parameters = static_cast<double>(parameter_count(seven_billion(1).model));
  const ScaleEstimate one = estimate(1), owners = estimate(8), replicas = estimate(8, Sharing::replicas);
  EXPECT_DOUBLE_EQ(owners.sent, 2 * 4 * parameters * 7 / 8);
  EXPECT_EQ(replicas.sent, owners.sent);
  EXPECT_DOUBLE_EQ(replicas.optimizer_ms, one.optimizer_ms);
  EXPECT_DOUBLE_EQ(replicas.state, one.state);
  EXPECT_LE(owners.unevenness, 1.05);
  EXPECT_NEAR(owners.optimizer_ms, one.optimizer_ms / 8 * owners.unevenness, 1e-9 * one.optimizer_ms);
  EXPECT_LE(owners.state, one.state * 1.15 / 8);
  EXPECT_DOUBLE_EQ(owners.model_ms, one.model_ms);  // each rank has as many tokens
}

TEST(Scale, ShardsSendTwoOverRMoreAndNewtonSchulzOnShardsItsGramMatrices) {
  const int ranks = 64;
  const ScaleEstimate owners = estimate(ranks), shards = estimate(ranks, Sharing::shards),
                      split = estimate(ranks, Sharing::tensor_parallel);
  // Hidden matrices: four of 4096 x 4096 and three of 11008 x 4096 a layer.
  const double matrices = 32 * (4.0 * 4096 * 4096 + 3.0 * 11008 * 4096);
  EXPECT_NEAR(shards.sent - owners.sent, 2 * 4 * matrices * 63 / (64.0 * 64), 1e-6 * owners.sent);
  EXPECT_NEAR(split.sent - owners.sent, 2 * 63 / 64.0 * 2 * 7 * 32 * 7 * 4096.0 * 4096, 1e-6 * owners.sent);
  EXPECT_GT(split.optimizer_ms, owners.optimizer_ms) << "products with n x n are made by every rank";
  EXPECT_LT(shards.memory, owners.memory) << "weights are sharded too";
}

TEST(Scale, EndsAtOneMatrixForEachRank) {
  EXPECT_EQ(estimate(1024).optimizer_ms, estimate(512).optimizer_ms);
  EXPECT_GT(estimate(1024).unevenness, 1.9 * estimate(512).unevenness);
}

TEST(Scale, OfAdamWHasNoMatrices) {
  TrainConfig config = seven_billion(8);
  config.optim.reset();
  const auto one = scale_estimate(config, 8, gpu_of("h200"), Sharing::tensor_parallel);
  const auto owners = scale_estimate(config, 8, gpu_of("h200"), Sharing::owners);
  EXPECT_EQ(one.sent, owners.sent);
}

TEST(Scale, AnUnknownGpuIsAnErrorThatListsThoseThereAre) {
  try {
    gpu_of("h10");
    ADD_FAILURE();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("'h10'"), testing::HasSubstr("a100, h100, h200")));
  }
}

}  // namespace
