#include <gmock/gmock.h>

#include <limits>
#include <sstream>

#include "aurora/torch/optimizer.hpp"
#include "support/matchers.hpp"
#include "support/tensors.hpp"

namespace aurora::optim {
namespace {

using test::message_of;
using test::parameter;
using test::random_tensor;
using test::same_bits;
using testing::HasSubstr;
using torch::Tensor;
using torch::optim::OptimizerParamGroup;

/// An experts' tensor, a convolution and a matrix in a group of `rule`; a vector and an unused vector for
/// AdamW.
struct Training {
  std::vector<Tensor> matrices, vectors;
  std::unique_ptr<SpectralOptimizer> optimizer;
  std::uint64_t seed = 100;

  Training(const aurora::Rule& rule, torch::ScalarType type, std::vector<Dimensions> dimensions) {
    matrices = {parameter(random_tensor({3, 24, 8}, 1, type)),
                parameter(random_tensor({12, 4, 3, 3}, 2, type)), parameter(random_tensor({24, 8}, 3, type))};
    vectors = {parameter(random_tensor({40}, 4, type)), parameter(random_tensor({7}, 5, type))};
    std::vector<OptimizerParamGroup> groups;
    groups.emplace_back(matrices, std::make_unique<GroupOptions>(rule, std::move(dimensions)));
    groups.emplace_back(vectors, std::make_unique<GroupOptions>(AdamWOptions{}));
    optimizer = std::make_unique<SpectralOptimizer>(groups, std::make_unique<GroupOptions>());
  }

  static std::vector<Dimensions> dimensions() {
    const Dimensions experts{.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {16, 8}};
    return {experts, default_dimensions(4), default_dimensions(2)};
  }

  /// Gradients that depend on the number of the step; the last vector never gets one.
  void step(double gradient_factor = 1) {
    ++seed;
    for (const auto& each : matrices) set_gradient(each, gradient_factor);
    set_gradient(vectors[0], gradient_factor);
    optimizer->step();
  }

  void set_gradient(const Tensor& each, double factor) {
    each.mutable_grad() = random_tensor(each.sizes().vec(), seed, each.scalar_type()) * factor;
  }

  void take_weights(const Training& other) {
    const torch::NoGradGuard no_gradients;
    for (std::size_t i = 0; i < matrices.size(); ++i) matrices[i].copy_(other.matrices[i]);
    for (std::size_t i = 0; i < vectors.size(); ++i) vectors[i].copy_(other.vectors[i]);
    seed = other.seed;
  }

  GroupOptions& options(std::size_t group) {
    return static_cast<GroupOptions&>(optimizer->param_groups()[group].options());
  }
};

std::string saved(const SpectralOptimizer& optimizer) {
  std::stringstream stream;
  torch::save(optimizer, stream);
  return stream.str();
}

void load(SpectralOptimizer& optimizer, const std::string& bytes) {
  std::stringstream stream(bytes);
  torch::load(optimizer, stream);
}

class SavedRule : public testing::TestWithParam<test::RuleAndType> {};

INSTANTIATE_TEST_SUITE_P(AllRules, SavedRule,
                         testing::Combine(testing::ValuesIn(test::kTestedRules),
                                          testing::Values(torch::kFloat32, torch::kFloat64,
                                                          torch::kBFloat16)),
                         test::text_of);

TEST_P(SavedRule, GoesOnInADefaultObjectAsIfNeverStopped) {
  const auto& [rule_name, type] = GetParam();
  aurora::Rule rule = parse_variant(rule_name);
  set_hyperparameter(rule, "lr", "0.017");
  set_hyperparameter(rule, "weight_decay", "0.1");
  Training never_stopped(rule, type, Training::dimensions());
  for (int i = 0; i < 3; ++i) never_stopped.step();
  never_stopped.step(std::numeric_limits<double>::quiet_NaN());
  never_stopped.optimizer->param_groups()[1].options().set_lr(0.3);

  // Neither the options nor the dimensions of the saved one.
  Training resumed(parse_variant(rule_name), type, {});
  load(*resumed.optimizer, saved(*never_stopped.optimizer));
  resumed.take_weights(never_stopped);
  EXPECT_EQ(resumed.optimizer->skipped_steps(), 1);
  EXPECT_EQ(resumed.optimizer->skipped_in_a_row(), 1);
  EXPECT_EQ(resumed.optimizer->state().size(), 4U) << "a parameter without a gradient has no state";

  for (int i = 0; i < 3; ++i) {
    never_stopped.step();
    resumed.step();
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(resumed.matrices[i], never_stopped.matrices[i]));
  EXPECT_TRUE(same_bits(resumed.vectors[0], never_stopped.vectors[0]));
  EXPECT_EQ(resumed.optimizer->state_of(resumed.vectors[0]).step, 6);
}

TEST(SavedOptions, OfEveryGroupAreRestored) {
  const AuroraOptions rule{.lr = 1e30,  // "1e+30": the plus is part of the number
                           .momentum = 0.9,
                           .nesterov = false,
                           .weight_decay = 0.1 + 0.2,
                           .scale = UpdateScale::match_rms_adamw,
                           .polar = Polar::polar_express_7,
                           .sides = Sides::longer,
                           .pp_iterations = 4,
                           .pp_beta = 0.25,
                           .balance = Balance::release};
  Training from(rule, torch::kFloat32, Training::dimensions());
  from.options(1).rule =
      AdamWOptions{.lr = 0.5, .beta1 = 0.8, .beta2 = 0.999, .eps = 1e-6, .weight_decay = 0.3};
  Training to(AuroraOptions{}, torch::kFloat32, {});
  load(*to.optimizer, saved(*from.optimizer));
  EXPECT_EQ(to.options(0).rule, aurora::Rule(rule));
  EXPECT_EQ(to.options(1).rule, from.options(1).rule);
  ASSERT_EQ(to.options(0).dimensions.size(), 3U);
  EXPECT_EQ(to.options(0).dimensions[0].batch, std::vector<int>{0});
  EXPECT_EQ(to.options(0).dimensions[0].rows, std::vector<int>{1});
  EXPECT_EQ(to.options(0).dimensions[0].cols, std::vector<int>{2});
  EXPECT_EQ(to.options(0).dimensions[0].row_blocks, (std::vector<Index>{16, 8}));
  EXPECT_TRUE(to.options(1).dimensions.empty());
}

/// Loads into `training`, which must throw and change nothing; the message.
std::string refusal(Training& training, const std::string& bytes) {
  training.step();
  const std::string before = saved(*training.optimizer);
  const std::string message = message_of([&] { load(*training.optimizer, bytes); });
  EXPECT_EQ(saved(*training.optimizer), before);
  return message;
}

TEST(SavedOptimizer, OfAnotherRuleIsRefused) {
  Training muon(MuonOptions{}, torch::kFloat32, {}), aurora(AuroraOptions{}, torch::kFloat32, {});
  EXPECT_THAT(refusal(aurora, saved(*muon.optimizer)), HasSubstr("group 0: muon vs aurora"));
}

TEST(SavedOptimizer, WithAnotherNumberOfGroupsOrParametersIsRefused) {
  Training training(MuonOptions{}, torch::kFloat32, {});
  const Tensor weight = parameter(random_tensor({8, 8}, 1));
  const Muon one_group({weight});
  EXPECT_THAT(refusal(training, saved(one_group)), HasSubstr("number of groups: 1 vs 2"));
  Muon two_groups({weight});
  two_groups.add_param_group(OptimizerParamGroup({parameter(random_tensor({8, 8}, 1))}));
  EXPECT_THAT(refusal(training, saved(two_groups)), HasSubstr("parameters in group 0: 1 vs 3"));
}

TEST(SavedOptimizer, WithStateOfAnotherShapeOrTypeIsRefused) {
  Training from(NorMuonOptions{}, torch::kFloat32, {}), to(NorMuonOptions{}, torch::kFloat32, {});
  from.vectors[0] = parameter(random_tensor({41}, 1));
  from.optimizer->param_groups()[1].params()[0] = from.vectors[0];
  from.step();
  const std::string message = refusal(to, saved(*from.optimizer));
  EXPECT_THAT(message, HasSubstr("exp_avg: Float [41] vs Float [40]"));
  EXPECT_THAT(message, HasSubstr("group 1, parameter 0"));

  Training wide(NorMuonOptions{}, torch::kFloat64, {});
  wide.step();
  EXPECT_THAT(refusal(to, saved(*wide.optimizer)), HasSubstr("momentum_buffer: Double"));
}

TEST(SavedOptimizer, OfTorchItselfIsRefused) {
  Training training(MuonOptions{}, torch::kFloat32, {});
  std::stringstream stream;
  torch::save(torch::optim::AdamW(std::vector<Tensor>{parameter(random_tensor({8, 8}, 1))}), stream);
  EXPECT_THAT(refusal(training, stream.str()), HasSubstr("was not saved by an optimizer of aurora::optim"));
}

TEST(SavedOptimizer, KeepsTheStridesOfItsOwnParameters) {
  const Tensor values = random_tensor({8, 4, 3, 3}, 1), gradient = random_tensor({8, 4, 3, 3}, 2);
  const Tensor plain = parameter(values, gradient);
  const Tensor last = parameter(values.contiguous(at::MemoryFormat::ChannelsLast), gradient);
  Muon from({plain}), to({last});
  from.step();
  load(to, saved(from));
  EXPECT_EQ(to.state_of(last).momentum_buffer.strides(), last.strides());
  EXPECT_TRUE(same_bits(to.state_of(last).momentum_buffer, from.state_of(plain).momentum_buffer));
}

TEST(SavedOptimizer, OfAWholeModelGoesOnInAnother) {
  const auto made = [] {
    torch::manual_seed(1);
    return torch::nn::Sequential(torch::nn::Linear(8, 16), torch::nn::SiLU(), torch::nn::Linear(16, 16),
                                 torch::nn::Linear(16, 4));
  };
  auto model = made(), other = made();
  Aurora optimizer(*model, {.lr = 0.01}), resumed(*other);
  const Tensor inputs = random_tensor({32, 8}, 7);
  const auto step = [&](torch::nn::Sequential& network, SpectralOptimizer& by) {
    by.zero_grad();
    network->forward(inputs).square().mean().backward();
    by.step();
  };
  for (int i = 0; i < 3; ++i) step(model, optimizer);
  std::stringstream weights;
  torch::save(model, weights);
  torch::load(other, weights);
  load(resumed, saved(optimizer));
  for (int i = 0; i < 3; ++i) {
    step(model, optimizer);
    step(other, resumed);
  }
  const auto a = model->parameters(), b = other->parameters();
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(b[i], a[i]));
}

}  // namespace
}  // namespace aurora::optim
