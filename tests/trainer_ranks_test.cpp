#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>

#include "gradient.hpp"
#include "ranks.hpp"
#include "support/threaded_ranks.hpp"

namespace {

using namespace aurora::trainer;
using aurora::Collectives;
using aurora::Index;
using aurora::optim::SpectralOptimizer;
using aurora::test::ThreadedRanks;

const ModelConfig kSmall = {
    .width = 16, .layers = 2, .heads = 2, .kv_heads = 2, .context = 8, .expansion = 2};

/// One rank's model, optimizer and gradients, and the sequences of a step.
struct Trained {
  Model model{kSmall, 1};
  SpectralOptimizer optimizer{model, aurora::AuroraOptions{}, aurora::AdamWOptions{}};
  Ranks ranks;
  explicit Trained(Collectives* engine, bool ordered = true) : ranks(engine, model, optimizer, ordered) {}

  /// The loss of a step of `micro_batches` sequences; `spoil` may change gradients before they are added.
  double step(Index micro_batches, int number, const std::function<void()>& spoil = {}) {
    const torch::Tensor all =
        (torch::arange(micro_batches * 9).reshape({micro_batches, 9}) * (7 + number)).remainder(256);
    std::vector<torch::Tensor> own;
    for (Index m = ranks.rank(); m < micro_batches; m += ranks.size()) own.push_back(all.narrow(0, m, 1));
    optimizer.zero_grad();
    const auto loss =
        accumulate_gradients(model, own.empty() ? all : torch::cat(own), micro_batches, false, ranks);
    if (spoil) spoil();
    clip_gradients(model.parameters(), 1, ranks);
    optimizer.step();
    ranks.share_weights();
    return loss.item<double>();
  }
  Index state_elements() {
    Index count = 0;
    for (const auto& [key, state] : optimizer.state()) {
      const auto& own = dynamic_cast<const aurora::optim::ParameterState&>(*state);
      for (const auto& tensor : {own.momentum_buffer, own.row_state, own.exp_avg, own.exp_avg_sq})
        if (tensor.defined()) count += tensor.numel();
    }
    return count;
  }
};

void expect_same_weights(const Model& a, const Model& b) {
  const auto other = b.named_parameters();
  for (const auto& parameter : a.named_parameters())
    EXPECT_TRUE(torch::equal(parameter.value(), other[parameter.key()])) << parameter.key();
}

class Counts : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Counts, testing::Values(2, 3, 4, 40));

TEST_P(Counts, TakeTheStepsOfOneAndShareItsState) {
  Trained one(nullptr);
  std::vector<double> losses;
  for (int i = 0; i < 3; ++i) losses.push_back(one.step(5, i));
  std::atomic<Index> elements = 0;
  ThreadedRanks(GetParam()).run([&](const std::shared_ptr<Collectives>& collectives) {
    Collectives& engine = *collectives;
    Trained many(&engine);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(many.step(5, i), losses[static_cast<std::size_t>(i)]);
    expect_same_weights(one.model, many.model);
    elements += many.state_elements();
  });
  EXPECT_EQ(elements, one.state_elements());
}

TEST(Ranks, SendTheBytesOfAnAllReduce) {
  constexpr int kCount = 3;
  std::atomic<Index> sent = 0;
  Index parameters = 0, number = 0;
  for (const auto& parameter : Model(kSmall, 1).parameters()) {
    parameters += parameter.numel();
    ++number;
  }
  ThreadedRanks(kCount).run([&](const std::shared_ptr<Collectives>& collectives) {
    Collectives& engine = *collectives;
    Trained many(&engine, /*ordered=*/false);
    const Index before = engine.bytes_sent();
    many.step(3, 0);
    sent += engine.bytes_sent() - before;
  });
  // Gradients and weights each cross once to every other rank. Norms, losses and the flag are all-reduced.
  const Index exchanged = 2 * (kCount - 1) * parameters * 4;
  const Index small = kCount * (2 * (kCount - 1) * (number + 3 + 1) * 4 / kCount);
  EXPECT_GE(sent, exchanged);
  EXPECT_LE(sent, exchanged + small);
}

TEST(Ranks, AllLeaveTheirWeightsWhereOneGradientIsNotFinite) {
  Model before(kSmall, 1);
  ThreadedRanks(3).run([&](const std::shared_ptr<Collectives>& collectives) {
    Collectives& engine = *collectives;
    Trained many(&engine);
    many.step(3, 0, [&] {
      if (engine.rank() != 1) return;
      for (auto& parameter : many.model.parameters())
        if (parameter.grad().defined()) parameter.mutable_grad().view(-1)[0] = std::nan("");
    });
    expect_same_weights(before, many.model);
    EXPECT_EQ(many.optimizer.skipped_steps(), 1);
    many.step(3, 1);
    EXPECT_EQ(many.optimizer.skipped_steps(), 1);
    EXPECT_EQ(many.optimizer.skipped_in_a_row(), 0);
  });
}

TEST(Ranks, AgreeAndSayWhoDiffers) {
  ThreadedRanks(3).run([&](const std::shared_ptr<Collectives>& collectives) {
    Collectives& engine = *collectives;
    Trained many(&engine);
    const Ranks& ranks = many.ranks;
    EXPECT_TRUE(ranks.any(engine.rank() == 2));
    EXPECT_FALSE(ranks.any(false));
    EXPECT_EQ(ranks.first_of(engine.rank() == 0 ? "" : "rank " + std::to_string(engine.rank())), "rank 1");
    EXPECT_EQ(ranks.first_of(""), "");
    Index number = 10 + engine.rank();
    bool flag = engine.rank() == 0;
    ranks.share(number, flag);
    EXPECT_EQ(number, 10);
    EXPECT_TRUE(flag);
    TrainConfig config;
    EXPECT_NO_THROW(require_same_ranks(ranks, config, "text", "weights"));
    config.clip = engine.rank() == 2 ? 2 : 1;
    try {
      require_same_ranks(ranks, config, "text", "weights");
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::invalid_argument& error) {
      EXPECT_STREQ(error.what(), "rank 2 has train.clip = 2 instead of 1 on rank 0");
    }
  });
}

}  // namespace
