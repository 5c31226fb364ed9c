#include "aurora/ranks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "aurora/rules.hpp"

namespace aurora::test {
namespace {

using testing::ElementsAre;

TEST(AssignOwners, GivesTheLongestFirstToWhoHasLeastToDo) {
  const std::vector<double> costs = {2, 7, 3, 3, 5};
  // 7 -> 0, 5 -> 1, 3 -> 1 (5 < 7), 3 -> 0 (7 < 8), 2 -> 1 (8 < 10).
  EXPECT_THAT(assign_owners(costs, 2), ElementsAre(1, 0, 1, 0, 1));
  EXPECT_DOUBLE_EQ(unevenness(costs, assign_owners(costs, 2), 2), 1.0);
}

TEST(AssignOwners, BreaksTiesByTheLowerIndexAndTheLowerRank) {
  EXPECT_THAT(assign_owners(std::vector<double>{1, 1, 1, 1}, 3), ElementsAre(0, 1, 2, 0));
  EXPECT_DOUBLE_EQ(unevenness(std::vector<double>{1, 1, 1, 1}, std::vector<int>{0, 1, 2, 0}, 3), 1.5);
}

TEST(AssignOwners, TakesFewerMatricesThanRanksAndNone) {
  EXPECT_THAT(assign_owners(std::vector<double>{4}, 3), ElementsAre(0));
  EXPECT_TRUE(assign_owners({}, 3).empty());
  EXPECT_EQ(unevenness({}, {}, 3), 1);
}

TEST(AssignOwners, RefusesCostsThatAreNone) {
  EXPECT_THROW(assign_owners(std::vector<double>{1}, 0), std::invalid_argument);
  EXPECT_THROW(assign_owners(std::vector<double>{-1}, 2), std::invalid_argument);
  EXPECT_THROW(assign_owners(std::vector<double>{std::nan("")}, 2), std::invalid_argument);
  EXPECT_THROW(assign_owners(std::vector<double>{HUGE_VAL}, 2), std::invalid_argument);
}

TEST(StepCost, IsThatOfTheTransposeWhereNothingIsBalanced) {
  for (const Rule& rule : all_rules()) {
    const bool by_rows = name(rule) == "aurora" || name(rule) == "riemannian-aurora";
    if (by_rows) {
      EXPECT_GT(step_cost(rule, 96, 32), step_cost(rule, 32, 96)) << name(rule);
    } else {
      EXPECT_EQ(step_cost(rule, 96, 32), step_cost(rule, 32, 96)) << name(rule);
    }
    EXPECT_GT(step_cost(rule, 64, 64), step_cost(rule, 32, 32)) << name(rule);
  }
}

TEST(StepCost, CountsEveryPolarFactorOfARule) {
  const double one = step_cost(MuonOptions{}, 96, 32);
  const auto aurora = [](Balance balance, int evaluations) {
    return step_cost(AuroraOptions{.pp_iterations = evaluations, .balance = balance}, 96, 32);
  };
  EXPECT_EQ(aurora(Balance::carried, 2), one);
  EXPECT_EQ(aurora(Balance::odds, 1), one);
  EXPECT_GT(aurora(Balance::odds, 2), one);
  EXPECT_GT(aurora(Balance::release, 2), aurora(Balance::odds, 2));
  EXPECT_GT(aurora(Balance::optimum, 2), aurora(Balance::odds, 6));
  EXPECT_GT(step_cost(RiemannianAuroraOptions{}, 96, 32), 7 * (one - 32 * 96 * 32));
  EXPECT_GT(one, step_cost(RowNormalizedOptions{}, 96, 32));
  EXPECT_NE(one, step_cost(MuonOptions{}, 96, 32, Device::accelerator));
}

/// Shares of the matrices of a Llama-shaped model: attention, up, gate and down projections of each layer.
double unevenness_of_llama(Index layers, Index width, Index hidden, int ranks) {
  std::vector<double> costs;
  for (Index layer = 0; layer < layers; ++layer) {
    for (int i = 0; i < 4; ++i) costs.push_back(step_cost(AuroraOptions{}, width, width));
    for (int i = 0; i < 2; ++i) costs.push_back(step_cost(AuroraOptions{}, hidden, width));
    costs.push_back(step_cost(AuroraOptions{}, width, hidden));
  }
  return unevenness(costs, assign_owners(costs, ranks), ranks);
}

TEST(AssignOwners, IsEvenForModelsOfManyMatrices) {
  EXPECT_LE(unevenness_of_llama(12, 768, 2048, 8), 1.05);    // 124M parameters
  EXPECT_LE(unevenness_of_llama(24, 1024, 2816, 24), 1.05);  // 340M
}

/// One rank of two whose engine does nothing: what stands before the engine.
class Recorded final : public Collectives {
 public:
  int rank() const override { return 1; }
  int size() const override { return 2; }
  std::string description() const override { return "recorded"; }
  int calls = 0;

 private:
  struct Done final : Exchange {
    void wait() override {}
  };
  void do_all_reduce(MatrixView, Reduction) override { ++calls; }
  void do_reduce_scatter(std::span<const ConstMatrixView>, MatrixView) override { ++calls; }
  void do_all_gather(ConstMatrixView, std::span<const MatrixView>) override { ++calls; }
  std::unique_ptr<Exchange> do_start_all_to_all(std::span<const ConstMatrixView>,
                                                std::span<const MatrixView>) override {
    ++calls;
    return std::make_unique<Done>();
  }
  void do_broadcast(MatrixView, int) override { ++calls; }
  void do_barrier() override { ++calls; }
};

struct Numbers {
  std::vector<float> values = std::vector<float>(16);
  MatrixView of(Index count) { return packed(values.data(), count); }
};

TEST(Collectives, CountWhatGoesToOthers) {
  Recorded ranks;
  Numbers a, b, c;
  ranks.all_to_all(std::vector<ConstMatrixView>{a.of(3), a.of(5)}, std::vector<MatrixView>{b.of(2), b.of(5)});
  EXPECT_EQ(ranks.bytes_sent(), 3 * 4);
  ranks.reduce_scatter(std::vector<ConstMatrixView>{a.of(7), a.of(0)}, b.of(0));
  EXPECT_EQ(ranks.bytes_sent(), (3 + 7) * 4);
  ranks.all_gather(a.of(4), std::vector<MatrixView>{b.of(9), c.of(4)});
  EXPECT_EQ(ranks.bytes_sent(), (3 + 7 + 4) * 4);
  ranks.all_reduce(a.of(2), Reduction::minimum);
  EXPECT_EQ(ranks.bytes_sent(), (3 + 7 + 4 + 2) * 4);
  ranks.broadcast(a.of(6), 0);
  EXPECT_EQ(ranks.bytes_sent(), (3 + 7 + 4 + 2) * 4);
  ranks.broadcast(a.of(6), 1);
  EXPECT_EQ(ranks.bytes_sent(), (3 + 7 + 4 + 2 + 6) * 4);
  EXPECT_EQ(ranks.calls, 6);
}

TEST(Collectives, RefuseWhatDoesNotFitBeforeAnythingIsSent) {
  Recorded ranks;
  Numbers a, b;
  const std::vector<ConstMatrixView> one = {a.of(3)}, two = {a.of(3), a.of(3)};
  const std::vector<MatrixView> to = {b.of(3), b.of(2)};
  EXPECT_THROW(ranks.all_to_all(one, to), std::invalid_argument);
  EXPECT_THROW(ranks.all_to_all(two, to), std::invalid_argument);
  EXPECT_THROW(ranks.all_gather(a.of(3), to), std::invalid_argument);
  EXPECT_THROW(ranks.reduce_scatter(two, b.of(4)), std::invalid_argument);
  EXPECT_THROW(ranks.broadcast(b.of(3), 2), std::invalid_argument);
  EXPECT_THROW(ranks.all_reduce(row_major(b.values.data(), 2, 2), Reduction::sum), std::invalid_argument);
  EXPECT_THROW(ranks.all_reduce(packed(static_cast<float*>(nullptr), 2), Reduction::sum),
               std::invalid_argument);
  EXPECT_EQ(ranks.calls, 0);
  EXPECT_EQ(ranks.bytes_sent(), 0);
}

}  // namespace
}  // namespace aurora::test
