#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "aurora/torch/optimizer.hpp"
#include "support/matchers.hpp"
#include "support/tensors.hpp"

namespace aurora::optim {
namespace {

using test::close_tensors;
using test::message_of;
using test::parameter;
using test::random_tensor;
using test::same_bits;
using testing::AllOf;
using testing::HasSubstr;
using torch::Tensor;
using torch::optim::OptimizerParamGroup;

OptimizerParamGroup group_of(std::vector<Tensor> parameters, const aurora::Rule& rule,
                             std::vector<Dimensions> dimensions = {}) {
  return {std::move(parameters), std::make_unique<GroupOptions>(rule, std::move(dimensions))};
}

GroupOptions& options_of(SpectralOptimizer& optimizer, std::size_t group) {
  return static_cast<GroupOptions&>(optimizer.param_groups()[group].options());
}

TEST(TorchAdamW, FollowsTorchsOwnForAHundredSteps) {
  for (const auto& [type, bound] : {std::pair{torch::kFloat64, 1e-13}, std::pair{torch::kFloat32, 2e-6}}) {
    const Tensor values = random_tensor({6, 5}, 1, type), bias = random_tensor({6}, 2, type);
    const std::vector<Tensor> own = {parameter(values), parameter(bias)},
                              torchs = {parameter(values), parameter(bias)};
    AdamW optimizer(own, {.lr = 0.01, .beta1 = 0.8, .beta2 = 0.98, .eps = 1e-7, .weight_decay = 0.1});
    torch::optim::AdamW reference(
        torchs, torch::optim::AdamWOptions(0.01).betas({0.8, 0.98}).eps(1e-7).weight_decay(0.1));
    for (std::uint64_t step = 0; step < 100; ++step) {
      for (std::size_t i = 0; i < own.size(); ++i) {
        own[i].mutable_grad() = random_tensor(own[i].sizes().vec(), 10 + 2 * step + i, type);
        torchs[i].mutable_grad() = own[i].grad().clone();
      }
      optimizer.step();
      reference.step();
      for (std::size_t i = 0; i < own.size(); ++i) {
        ASSERT_TRUE(close_tensors(own[i], torchs[i], bound)) << type << ", step " << step;
      }
    }
  }
}

TEST(TorchAdamW, CountsTheStepsOfEachParameter) {
  const Tensor early = parameter(random_tensor({4}, 1), random_tensor({4}, 2)),
               late = parameter(random_tensor({4}, 1));
  AdamW optimizer(std::vector<Tensor>{early, late});
  optimizer.step();
  optimizer.step();
  late.mutable_grad() = random_tensor({4}, 2);
  optimizer.step();
  EXPECT_EQ(optimizer.state_of(early).step, 3);
  EXPECT_EQ(optimizer.state_of(late).step, 1);
  const Tensor alone = parameter(random_tensor({4}, 1), random_tensor({4}, 2));
  AdamW(std::vector<Tensor>{alone}).step();
  EXPECT_TRUE(same_bits(late, alone));
}

TEST(TorchMuon, OnAnOrthogonalGradientIsSgdExactly) {
  // polar(I) = I, and all numbers are small integers times powers of two.
  const Tensor values = torch::randint(-8, 8, {8, 8}).to(torch::kFloat32), identity = torch::eye(8);
  const Tensor own = parameter(values, identity), torchs = parameter(values, identity);
  Muon optimizer(
      {own}, {.lr = 0.25, .momentum = 0, .nesterov = false, .weight_decay = 0.5, .scale = UpdateScale::none});
  torch::optim::SGD reference(std::vector<Tensor>{torchs}, torch::optim::SGDOptions(0.25).weight_decay(0.5));
  for (int step = 0; step < 3; ++step) {
    optimizer.step();
    reference.step();
    EXPECT_TRUE(same_bits(own, torchs)) << "step " << step;
  }
}

TEST(TorchOptimizer, KeepsTheOptionsOfEveryGroup) {
  const auto matrix = [] { return parameter(random_tensor({8, 4}, 1), random_tensor({8, 4}, 2)); };
  const std::vector<Tensor> own = {matrix(), matrix(), matrix(), matrix()};
  const NorMuonOptions normuon{.lr = 0.07, .beta2 = 0.5};
  const AdamWOptions adamw{.lr = 0.003, .weight_decay = 0.5};
  std::vector<OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<Tensor>{own[0]});
  groups.push_back(group_of({own[1]}, normuon));
  groups.push_back(group_of({own[2]}, adamw));
  Aurora optimizer(groups, {.lr = 0.11});
  optimizer.add_param_group(group_of({own[3]}, MuonOptions{.lr = 0.09}));

  EXPECT_EQ(options_of(optimizer, 0).rule, aurora::Rule(AuroraOptions{.lr = 0.11}));
  EXPECT_EQ(options_of(optimizer, 1).rule, aurora::Rule(normuon));
  EXPECT_EQ(options_of(optimizer, 2).rule, aurora::Rule(adamw));
  EXPECT_EQ(options_of(optimizer, 3).rule, aurora::Rule(MuonOptions{.lr = 0.09}));

  optimizer.step();
  const std::vector<Tensor> alone = {matrix(), matrix(), matrix(), matrix()};
  Aurora({alone[0]}, {.lr = 0.11}).step();
  NorMuon({alone[1]}, normuon).step();
  AdamW(std::vector<Tensor>{alone[2]}, adamw).step();
  Muon({alone[3]}, {.lr = 0.09}).step();
  for (std::size_t i = 0; i < own.size(); ++i) EXPECT_TRUE(same_bits(own[i], alone[i])) << "group " << i;
}

TEST(TorchOptimizer, LetsASchedulerMultiplyEveryGroup) {
  const auto matrix = [](std::uint64_t seed) {
    return parameter(random_tensor({8, 4}, seed), random_tensor({8, 4}, 2));
  };
  std::vector<OptimizerParamGroup> groups;
  groups.push_back(group_of({matrix(1)}, AuroraOptions{.lr = 0.5}));
  groups.push_back(group_of({matrix(2)}, AdamWOptions{.lr = 0.25}));
  SpectralOptimizer optimizer(groups, std::make_unique<GroupOptions>());
  torch::optim::StepLR scheduler(optimizer, /*step_size=*/1, /*gamma=*/0.5);
  for (int i = 0; i < 3; ++i) {
    optimizer.step();
    scheduler.step();
  }
  const double factor = options_of(optimizer, 0).get_lr() / 0.5;
  EXPECT_LT(factor, 0.5);
  EXPECT_EQ(options_of(optimizer, 1).get_lr() / 0.25, factor);
  EXPECT_EQ(std::get<AuroraOptions>(options_of(optimizer, 0).rule).lr, 0.5 * factor);
}

TEST(TorchOptimizer, SkipsParametersWithoutGradient) {
  const Tensor used = parameter(random_tensor({8, 4}, 1), random_tensor({8, 4}, 2)),
               unused = parameter(random_tensor({8, 4}, 3));
  const Tensor before = unused.detach().clone();
  Aurora optimizer({unused, used});
  optimizer.step();
  EXPECT_TRUE(same_bits(unused, before));
  EXPECT_EQ(optimizer.state().size(), 1U);
  EXPECT_EQ(optimizer.state_of(used).step, 1);
}

TEST(TorchOptimizer, CallsTheClosureWithGradientsAndReturnsItsLoss) {
  const Tensor weight = parameter(random_tensor({8, 4}, 1)), before = weight.detach().clone();
  Muon optimizer({weight});
  const torch::NoGradGuard no_gradients;
  const Tensor loss = optimizer.step([&] {
    optimizer.zero_grad();
    Tensor value = weight.square().sum();
    value.backward();
    return value;
  });
  EXPECT_FLOAT_EQ(loss.item<float>(), before.square().sum().item<float>());
  EXPECT_FALSE(same_bits(weight, before));
  EXPECT_FALSE(optimizer.step().defined());
}

TEST(TorchOptimizer, TellsAutogradThatWeightsChanged) {
  const Tensor weight = parameter(random_tensor({8, 4}, 1), random_tensor({8, 4}, 2));
  const Tensor loss = weight.square().sum();  // saves the weight for its backward pass
  Muon({weight}).step();
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST(TorchOptimizer, LooksAtTheGradientsOfAllGroupsFirst) {
  const Tensor matrix = parameter(random_tensor({8, 4}, 1), random_tensor({8, 4}, 2));
  const Tensor vector = parameter(random_tensor({5}, 3), torch::tensor({1.0F, 2.0F, INFINITY, 4.0F, 5.0F}));
  const Tensor matrix_before = matrix.detach().clone(), vector_before = vector.detach().clone();
  std::vector<OptimizerParamGroup> groups;
  groups.push_back(group_of({matrix}, AuroraOptions{}));
  groups.push_back(group_of({vector}, AdamWOptions{}));
  SpectralOptimizer optimizer(groups, std::make_unique<GroupOptions>());
  optimizer.step();
  EXPECT_EQ(optimizer.skipped_steps(), 1);
  EXPECT_TRUE(same_bits(matrix, matrix_before));
  EXPECT_TRUE(same_bits(vector, vector_before));
  EXPECT_TRUE(optimizer.state().empty());
}

TEST(TorchOptimizer, KeepsDirectionsBeforeScaling) {
  const Tensor weight = parameter(random_tensor({24, 8}, 1), random_tensor({24, 8}, 2)),
               before = weight.detach().clone();
  const Tensor vector = parameter(random_tensor({5}, 3), random_tensor({5}, 4));
  std::vector<OptimizerParamGroup> groups;
  groups.push_back(group_of({weight}, AuroraOptions{.lr = 0.5, .weight_decay = 0}));
  groups.push_back(group_of({vector}, AdamWOptions{}));
  SpectralOptimizer optimizer(groups, std::make_unique<GroupOptions>());
  optimizer.step();
  EXPECT_FALSE(optimizer.direction_of(weight).defined());
  optimizer.keep_directions(true);
  const Tensor start = weight.detach().clone();
  optimizer.step();
  const Tensor direction = optimizer.direction_of(weight).clone();
  EXPECT_TRUE(close_tensors(direction.t().matmul(direction), torch::eye(8), 1e-5));
  EXPECT_TRUE(close_tensors(weight, start - 0.5 * std::sqrt(3.0) * direction, 1e-6));
  EXPECT_FALSE(optimizer.direction_of(vector).defined());
  optimizer.keep_directions(false);
  weight.mutable_grad() = random_tensor({24, 8}, 9);
  optimizer.step();
  EXPECT_TRUE(same_bits(optimizer.direction_of(weight), direction));
}

/// After three steps with the same gradients: a parameter of many matrices, and its matrices held apart.
struct OneAndMany {
  Tensor one;
  std::vector<Tensor> many;
};

template <class Options>
OneAndMany stepped(const Tensor& values, const Dimensions& dimensions, const std::vector<Tensor>& matrices) {
  OneAndMany result{parameter(values), {}};
  for (const auto& matrix : matrices) result.many.push_back(parameter(matrix));
  std::vector<OptimizerParamGroup> groups;
  groups.push_back(group_of({result.one}, Options{}, {dimensions}));
  SpectralOptimizer one(groups, std::make_unique<GroupOptions>());
  RuleOptimizer<Options> many(result.many);
  for (int step = 0; step < 3; ++step) {
    // Any gradient does as long as both see the same: the weights themselves.
    result.one.mutable_grad() = result.one.detach().clone();
    for (const auto& each : result.many) each.mutable_grad() = each.detach().clone();
    one.step();
    many.step();
  }
  return result;
}

template <class Options>
class TorchDimensions : public testing::Test {};
using RulesOfDimensions = testing::Types<AuroraOptions, NorMuonOptions>;
TYPED_TEST_SUITE(TorchDimensions, RulesOfDimensions);

TYPED_TEST(TorchDimensions, OfStackedExpertsEqualTheExpertsApart) {
  const Tensor values = random_tensor({4, 24, 16}, 1);
  const auto [one, many] = stepped<TypeParam>(
      values, {.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {}}, values.unbind(0));
  for (std::int64_t i = 0; i < 4; ++i)
    EXPECT_TRUE(same_bits(one[i], many[static_cast<std::size_t>(i)])) << "expert " << i;
}

TYPED_TEST(TorchDimensions, OfAFusedQueryKeyValueEqualTheThreeApart) {
  const Tensor values = random_tensor({16 + 8 + 8, 12}, 1);
  const auto parts = values.split_with_sizes({16, 8, 8}, 0);
  const auto [one, many] =
      stepped<TypeParam>(values, {.batch = {}, .rows = {0}, .cols = {1}, .row_blocks = {16, 8, 8}}, parts);
  EXPECT_TRUE(same_bits(one, torch::cat(many, 0)));
}

TYPED_TEST(TorchDimensions, OfAConvolutionAreRowsOfFilters) {
  const Tensor values = random_tensor({24, 4, 3, 3}, 1);
  const auto [one, many] = stepped<TypeParam>(values, default_dimensions(4), {values.reshape({24, 36})});
  EXPECT_TRUE(same_bits(one.reshape({24, 36}), many[0]));
}

TYPED_TEST(TorchDimensions, OfAChannelsLastConvolutionAreTheSame) {
  const Tensor values = random_tensor({24, 4, 3, 3}, 1).contiguous(at::MemoryFormat::ChannelsLast);
  const Tensor in_memory_order = values.permute({0, 2, 3, 1}).reshape({24, 36});
  Tensor leaf = values.detach().clone().requires_grad_();
  ASSERT_FALSE(leaf.is_contiguous());
  const auto [one, many] = stepped<TypeParam>(leaf, default_dimensions(4), {in_memory_order});
  ASSERT_TRUE(one.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(same_bits(one.permute({0, 2, 3, 1}).reshape({24, 36}), many[0]));
  const auto contiguous = stepped<TypeParam>(values.contiguous(), default_dimensions(4), {in_memory_order});
  EXPECT_TRUE(close_tensors(one, contiguous.one, 1e-5));
}

TYPED_TEST(TorchDimensions, MayBeASliceOfALargerTensor) {
  Tensor whole = random_tensor({24, 20}, 1);
  const Tensor slice = whole.slice(1, 4, 16).requires_grad_();
  ASSERT_FALSE(slice.is_contiguous());
  const Tensor apart = parameter(slice, random_tensor({24, 12}, 2));
  const Tensor before = whole.clone();
  slice.mutable_grad() = apart.grad().clone();
  RuleOptimizer<TypeParam>({slice}).step();
  RuleOptimizer<TypeParam>({apart}).step();
  EXPECT_TRUE(same_bits(slice, apart));
  EXPECT_TRUE(same_bits(whole.slice(1, 0, 4), before.slice(1, 0, 4)));
  EXPECT_TRUE(same_bits(whole.slice(1, 16, 20), before.slice(1, 16, 20)));
}

TEST(TorchOptimizer, SendsVectorsAndThinMatricesToAdamW) {
  const Tensor matrix = parameter(random_tensor({4, 4}, 1));
  EXPECT_THAT(message_of([&] {
                Aurora({matrix, parameter(torch::zeros({7}))});
              }),
              AllOf(HasSubstr("AdamW"), HasSubstr("group 0, parameter 1, shape [7], rule aurora")));
  EXPECT_THAT(message_of([&] {
                Muon({parameter(torch::zeros({7, 1}))});
              }),
              AllOf(HasSubstr("AdamW"), HasSubstr("shape [7, 1], rule muon")));
  EXPECT_THAT(message_of([&] { Muon({parameter(torch::zeros({1, 7}))}); }), HasSubstr("shape [1, 7]"));
  Muon optimizer({matrix});
  EXPECT_THAT(
      message_of([&] { optimizer.add_param_group(OptimizerParamGroup({parameter(torch::zeros({}))})); }),
      AllOf(HasSubstr("AdamW"), HasSubstr("group 1, parameter 0, shape []")));
  EXPECT_EQ(optimizer.param_groups().size(), 1U);
}

TEST(TorchOptimizer, RefusesSparseGradientsAndChangesNothing) {
  const Tensor first = parameter(random_tensor({4, 4}, 1), random_tensor({4, 4}, 2)),
               before = first.detach().clone();
  const Tensor second = parameter(random_tensor({4, 4}, 3));
  second.mutable_grad() = random_tensor({4, 4}, 4).to_sparse();
  AdamW optimizer(std::vector<Tensor>{first, second});
  EXPECT_THAT(message_of([&] { optimizer.step(); }),
              AllOf(HasSubstr("Sparse"), HasSubstr("group 0, parameter 1, shape [4, 4], rule adamw")));
  EXPECT_TRUE(same_bits(first, before));
}

TEST(TorchOptimizer, RefusesOtherTypes) {
  for (const auto type : {torch::kComplexDouble, torch::kComplexFloat}) {
    EXPECT_THAT(
        message_of([&] {
          Muon({torch::zeros({4, 4}, type).requires_grad_()});
        }),
        AllOf(HasSubstr(c10::toString(type)), HasSubstr("group 0, parameter 0, shape [4, 4], rule muon")));
  }
}

TEST(TorchOptimizer, RefusesWhatItCannotStep) {
  const Tensor weight = parameter(random_tensor({4, 4}, 1));
  EXPECT_THAT(message_of([&] { Muon({weight, weight}); }), HasSubstr("given twice"));
  EXPECT_THAT(message_of([&] { Muon({Tensor()}); }), HasSubstr("undefined"));
  EXPECT_THAT(message_of([&] {
                Muon({torch::zeros({4, 4}, torch::kMeta).requires_grad_()});
              }),
              HasSubstr("meta"));
  EXPECT_THAT(message_of([&] { Muon({weight}, {.lr = -1}); }), HasSubstr("-1"));
  EXPECT_THAT(message_of([&] {
                AdamW(std::vector<Tensor>{torch::zeros({4}).expand({3, 4}).requires_grad_()});
              }),
              HasSubstr("expanded"));
  Muon optimizer({weight});
  EXPECT_THAT(message_of([&] { optimizer.add_param_group(OptimizerParamGroup({weight})); }),
              HasSubstr("given twice"));
  EXPECT_THAT(message_of([&] { optimizer.state_of(torch::zeros({3, 3})); }), HasSubstr("[3, 3]"));
  const std::vector<Tensor> two = {parameter(random_tensor({4, 4}, 1)), parameter(random_tensor({4, 4}, 1))};
  EXPECT_THAT(
      message_of([&] { optimizer.add_param_group(group_of(two, MuonOptions{}, {default_dimensions(2)})); }),
      HasSubstr("dimensions"));
  EXPECT_THAT(message_of([&] {
                optimizer.add_param_group({two, std::make_unique<torch::optim::AdamWOptions>(0.1)});
              }),
              HasSubstr("GroupOptions"));
  EXPECT_THAT(message_of([&] { options_of(optimizer, 0).set_lr(std::numeric_limits<double>::quiet_NaN()); }),
              HasSubstr("lr"));
  EXPECT_EQ(options_of(optimizer, 0).get_lr(), MuonOptions{}.lr);
}

}  // namespace
}  // namespace aurora::optim
