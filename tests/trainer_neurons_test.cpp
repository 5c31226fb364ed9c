#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "neurons.hpp"

namespace {

using namespace aurora::trainer;
using aurora::Index;
using aurora::NeuronAxis;

TEST(Neurons, AreMeasuredByTheRmsOverAllTokens) {
  const auto activations =
      torch::tensor({{{3.0F, 0.0F}, {4.0F, 0.0F}}, {{0.0F, 1.0F}, {0.0F, -1.0F}}});  // [2, 2, 2]
  const auto rms = activation_rms(activations);
  ASSERT_EQ(rms.size(), 2U);
  EXPECT_NEAR(rms[0], 2.5, 1e-6);
  EXPECT_NEAR(rms[1], std::sqrt(0.5), 1e-6);
}

TEST(Neurons, AreDeadBelowAShareOfTheMedian) {
  const std::vector<double> rms = {0, 0.005, 0.05, 0.5, 1, 1, 2, 2, 3, 3};  // median 1
  EXPECT_DOUBLE_EQ(dead_share(rms, 0.01), 0.2);
  EXPECT_DOUBLE_EQ(dead_share(rms, 0.1), 0.3);
}

TEST(Neurons, ThatDoTheSameHaveEffectiveRankOne) {
  auto generator = at::detail::createCPUGenerator(1);
  const auto signal = torch::randn({100, 1}, generator);
  EXPECT_NEAR(activation_effective_rank(signal.expand({100, 8})), 1, 1e-3);
  EXPECT_NEAR(activation_effective_rank(torch::eye(8)), 8, 1e-4);
  EXPECT_NEAR(activation_effective_rank(torch::eye(8).repeat({1, 3})), 8, 1e-4) << "wide";
  EXPECT_EQ(activation_effective_rank(torch::zeros({4, 8})), 0);
}

TEST(Neurons, OfAnUnevenMatrixFollowItsShapeOfEntropy) {
  const auto x = torch::diag(torch::tensor({3.0F, 1.0F}));  // shares 0.9, 0.1
  EXPECT_NEAR(activation_effective_rank(x), std::exp(-0.9 * std::log(0.9) - 0.1 * std::log(0.1)), 1e-5);
}

/// 8 x 2, rows of a semi-orthogonal matrix with squared lengths 0.96, 0.01 (4), 0.5, 0.48, 0.02 by hand.
torch::Tensor uneven_momentum() {
  const double a = std::sqrt(0.96), b = std::sqrt(0.01), c = std::sqrt(0.5), d = std::sqrt(0.48),
               e = std::sqrt(0.02);
  return torch::tensor({a, 0.0, b, 0.0, b, 0.0, b, 0.0, b, 0.0, 0.0, c, 0.0, d, 0.0, e}, torch::kFloat64)
      .view({8, 2});
}

TEST(MatrixHealth, CountsStarvedRowsOfTheMomentumAgainstTheBalancedLeverage) {
  const auto backend = aurora::make_cpu_backend();
  // Any invertible mixing of the columns leaves the leverage as it is.
  const auto momentum =
      uneven_momentum().mm(torch::tensor({{2.0, 1.0}, {0.0, 0.3}}, torch::kFloat64)).to(torch::kFloat32);
  const MatrixHealth health = matrix_health(*backend, momentum, {}, NeuronAxis::rows);
  // The balanced value is 2/8, so the relative leverages are 3.84, 0.04 four times, 2, 1.92, 0.08.
  EXPECT_THAT(health.starved, testing::ElementsAre(0, 5.0 / 8, 5.0 / 8));
  EXPECT_NEAR(health.leverage.front(), 0.04, 1e-5);
  EXPECT_NEAR(health.leverage[3], 0.06, 1e-5);
  EXPECT_NEAR(health.leverage.back(), 3.84, 1e-5);
  EXPECT_TRUE(std::isnan(health.update_row_norm_cv));
  EXPECT_TRUE(std::isnan(health.orthogonality_error));
}

TEST(MatrixHealth, OfADownProjectionIsAlongItsColumns) {
  const auto backend = aurora::make_cpu_backend();
  const auto momentum = uneven_momentum().t().contiguous().to(torch::kFloat32);
  const auto direction = uneven_momentum().t().contiguous().to(torch::kFloat32);
  const MatrixHealth health = matrix_health(*backend, momentum, direction, NeuronAxis::columns);
  EXPECT_NEAR(health.leverage.back(), 3.84, 1e-5);
  EXPECT_NEAR(health.orthogonality_error, 0, 1e-6);
  const auto norms = uneven_momentum().norm(2, 1);
  const double mean = norms.mean().item<double>();
  const double deviation = std::sqrt((norms - mean).square().mean().item<double>());
  EXPECT_NEAR(health.update_row_norm_cv, deviation / mean, 1e-6);
}

TEST(MatrixHealth, OfEvenRowsIsBalanced) {
  const auto backend = aurora::make_cpu_backend();
  const auto even = torch::eye(4).repeat({4, 1}) / 2;
  const MatrixHealth health = matrix_health(*backend, even, even, NeuronAxis::rows);
  for (const double quantile : health.leverage) EXPECT_NEAR(quantile, 1, 1e-6);
  EXPECT_THAT(health.starved, testing::Each(0));
  EXPECT_NEAR(health.update_row_norm_cv, 0, 1e-6);
  EXPECT_NEAR(health.orthogonality_error, 0, 1e-6);
}

TEST(NeuronRecord, HasTheKeysOfTheLog) {
  LayerHealth health{};
  health.neurons = 512;
  health.dead = {0.25, 0.5};
  health.gate.update_row_norm_cv = std::nan("");
  const auto record = neuron_record(health, 50, 3);
  EXPECT_EQ(record["kind"], "neurons");
  EXPECT_EQ(record["step"], 50);
  EXPECT_EQ(record["layer"], 3);
  EXPECT_EQ(record["dead"].dump(), R"({"0.01":0.25,"0.1":0.5})");
  EXPECT_EQ(record["gate"]["starved"].dump(), R"({"0.01":0.0,"0.1":0.0,"0.5":0.0})");
  EXPECT_EQ(record["gate"]["leverage"].size(), 7U);
  EXPECT_EQ(record["gate"]["update_row_norm_cv"].dump(), "null");
}

TEST(NeuronHealth, ComesFromTheMomentumUnderMuonAndFromExpAvgUnderAdamW) {
  const ModelConfig config{.width = 16, .layers = 2, .heads = 2, .kv_heads = 2, .context = 8};
  auto generator = at::detail::createCPUGenerator(2);
  const auto tokens = torch::randint(256, {4, 9}, generator, torch::kInt64);
  const auto backend = aurora::make_cpu_backend();
  for (const aurora::Rule& rule :
       {aurora::Rule(aurora::MuonOptions{}), aurora::Rule(aurora::AdamWOptions{})}) {
    Model model(config, 0);
    aurora::optim::SpectralOptimizer optimizer(model, rule, {});
    optimizer.keep_directions(true);
    next_byte_loss(model, tokens, false).backward();
    optimizer.step();
    const auto found =
        neuron_health(model, optimizer, kept_directions(model, optimizer), *backend, tokens, false);
    ASSERT_TRUE(found);
    const auto& layers = *found;
    ASSERT_EQ(layers.size(), 2U);
    EXPECT_EQ(layers[0].neurons, 64);
    EXPECT_GT(layers[0].activation_effective_rank, 1);
    EXPECT_GT(layers[1].up.leverage.back(), 1);
    const bool muon = std::holds_alternative<aurora::MuonOptions>(rule);
    EXPECT_EQ(std::isnan(layers[0].gate.update_row_norm_cv), !muon);
    if (muon) {
      EXPECT_GT(layers[0].gate.update_row_norm_cv, 0);
      EXPECT_LT(layers[0].gate.orthogonality_error, 1e-5);
    }
  }
}

}  // namespace
