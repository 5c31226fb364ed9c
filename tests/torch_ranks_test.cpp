#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <mutex>
#include <sstream>

#include "aurora/torch/optimizer.hpp"
#include "aurora/torch/ranks.hpp"
#include "support/threaded_ranks.hpp"

namespace aurora::test {
namespace {

using optim::SpectralOptimizer;
using testing::HasSubstr;
using torch::Tensor;

std::vector<Tensor> parameters() {
  torch::manual_seed(1);
  std::vector<Tensor> made;
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{12, 8}, {8, 12}, {9, 9}, {7, 3}, {5}}) {
    made.push_back(torch::randn(shape).requires_grad_());
  }
  return made;
}

void set_gradients(const std::vector<Tensor>& parameters, int step) {
  auto generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(step));
  for (const Tensor& p : parameters) p.mutable_grad() = torch::randn(p.sizes(), generator);
}

std::unique_ptr<SpectralOptimizer> optimizer_of(const std::vector<Tensor>& parameters) {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<Tensor>(parameters.begin(), parameters.end() - 1),
                      std::make_unique<optim::GroupOptions>(NorMuonOptions{}));
  groups.emplace_back(std::vector<Tensor>{parameters.back()},
                      std::make_unique<optim::GroupOptions>(AdamWOptions{}));
  return std::make_unique<SpectralOptimizer>(groups, std::make_unique<optim::GroupOptions>());
}

void step(SpectralOptimizer& optimizer, const std::vector<Tensor>& parameters, int number) {
  set_gradients(parameters, number);
  optimizer.step();
}

/// The same, for threads that share torch's generator.
std::vector<Tensor> parameters_in_a_thread() {
  static std::mutex one_generator;
  const std::lock_guard lock(one_generator);
  return parameters();
}

TEST(SharedOptimizer, TakesTheStepsOfOneToTheBitAndKeepsTheStatesOfItsOwn) {
  for (const int size : {2, 3, 5}) {
    const auto alone = parameters();
    const auto reference = optimizer_of(alone);
    for (int s = 0; s < 3; ++s) step(*reference, alone, s);
    std::atomic<std::size_t> states = 0;
    ThreadedRanks(size).run([&](const std::shared_ptr<Collectives>& ranks) {
      const std::vector<Tensor> own = parameters_in_a_thread();
      const auto optimizer = optimizer_of(own);
      optimizer->share(ranks);
      for (int s = 0; s < 3; ++s) step(*optimizer, own, s);
      for (std::size_t i = 0; i < own.size(); ++i)
        EXPECT_TRUE(torch::equal(own[i], alone[i])) << size << " " << i;
      states += optimizer->state().size();
    });
    EXPECT_EQ(states,
              alone.size() - 1 + static_cast<std::size_t>(size));  // each matrix once, the vector everywhere
  }
}

TEST(SharedOptimizer, SavesAfterItHasGatheredAndGoesOnAlone) {
  const auto alone = parameters();
  const auto reference = optimizer_of(alone);
  for (int s = 0; s < 4; ++s) step(*reference, alone, s);
  std::stringstream file;
  std::vector<Tensor> weights;
  ThreadedRanks(3).run([&](const std::shared_ptr<Collectives>& ranks) {
    const std::vector<Tensor> own = parameters_in_a_thread();
    const auto optimizer = optimizer_of(own);
    optimizer->share(ranks);
    for (int s = 0; s < 2; ++s) step(*optimizer, own, s);
    torch::serialize::OutputArchive archive;
    EXPECT_THROW(optimizer->save(archive), std::logic_error);
    optimizer->gather_states();
    if (ranks->rank() == 1) {
      torch::save(*optimizer, file);
      for (const Tensor& p : own) weights.push_back(p.detach().clone().requires_grad_());
    }
  });
  const auto loaded = optimizer_of(weights);
  torch::load(*loaded, file);
  for (int s = 2; s < 4; ++s) step(*loaded, weights, s);
  for (std::size_t i = 0; i < weights.size(); ++i) EXPECT_TRUE(torch::equal(weights[i], alone[i])) << i;
}

TEST(SharedOptimizer, NamesTheRankThatCannotStep) {
  ThreadedRanks(2).run([&](const std::shared_ptr<Collectives>& ranks) {
    const std::vector<Tensor> own = parameters_in_a_thread();
    const auto optimizer = optimizer_of(own);
    optimizer->share(ranks);
    EXPECT_THROW(optimizer->share(ranks), std::invalid_argument);
    set_gradients(own, 0);
    if (ranks->rank() == 1) own[2].mutable_grad().reset();
    try {
      optimizer->step();
      ADD_FAILURE() << "stepped";
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr("'group 0, parameter 2' has a gradient on rank 0 and none on rank 1"));
    }
  });
}

TEST(ChooseSenders, TakesOneOfEqualBoxesTheOwnersWhereItHasOne) {
  const Tensor piece = torch::zeros({2, 4});
  const optim::GroupOptions options(MuonOptions{});
  const std::vector<std::int64_t> whole = {4, 4};
  const optim::Place place{piece, options, 0, 0, "up", whole};
  const optim::Box top{{0, 0}, {2, 4}}, bottom{{2, 0}, {2, 4}}, middle{{1, 0}, {2, 4}}, none{{4, 0}, {0, 4}};
  optim::Share share{.kind = optim::Share::Kind::pieces,
                     .owner = 2,
                     .shape = whole,
                     .boxes = {top, bottom, top, bottom, none},
                     .sends = {}};
  choose_senders(place, share);
  EXPECT_EQ(share.sends, (std::vector<bool>{false, true, true, false, false}));
  share.boxes = {top, middle};
  EXPECT_THROW(choose_senders(place, share), std::invalid_argument);
  share.boxes = {top, none};
  EXPECT_THROW(choose_senders(place, share), std::invalid_argument);
}

}  // namespace
}  // namespace aurora::test
