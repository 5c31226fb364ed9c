// What a program does to a module and its optimizer in the middle of training.

#include <gmock/gmock.h>

#include <sstream>

#include "aurora/torch/backend.hpp"
#include "aurora/torch/optimizer.hpp"
#include "support/matchers.hpp"
#include "support/other_device.hpp"
#include "support/tensors.hpp"

namespace aurora::optim {
namespace {

using test::message_of;
using test::other_device;
using test::parameter;
using test::random_tensor;
using test::same_bits;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using torch::Tensor;
using torch::optim::OptimizerParamGroup;

struct NetImpl : torch::nn::Module {
  NetImpl()
      : up(register_module("up", torch::nn::Linear(8, 24))),
        down(register_module("down", torch::nn::Linear(24, 8))) {
    const torch::NoGradGuard no_gradients;
    std::uint64_t seed = 0;
    for (auto& each : parameters()) each.copy_(random_tensor(each.sizes().vec(), ++seed));
  }
  torch::nn::Linear up, down;
};
TORCH_MODULE(Net);

void set_gradients(torch::nn::Module& module, std::uint64_t seed) {
  for (auto& each : module.parameters()) {
    each.mutable_grad() = random_tensor(each.sizes().vec(), seed++).to(each.device(), each.scalar_type());
  }
}

std::vector<Tensor> states_of(SpectralOptimizer& optimizer, const Tensor& each) {
  const ParameterState& state = optimizer.state_of(each);
  std::vector<Tensor> tensors;
  for (const Tensor& tensor : {state.momentum_buffer, state.row_state, state.exp_avg, state.exp_avg_sq}) {
    if (tensor.defined()) tensors.push_back(tensor.clone());
  }
  return tensors;
}

const RoutePattern kAllMatrices{.pattern = "*.weight", .route = Route::matrix};

class ModuleMovedInTraining : public testing::TestWithParam<std::string_view> {
 protected:
  Net net;
  SpectralOptimizer optimizer{*net, parse_variant(GetParam()), AdamWOptions{}, {&kAllMatrices, 1}};

  void step(std::uint64_t seed) {
    set_gradients(*net, seed);
    optimizer.step();
  }
};
INSTANTIATE_TEST_SUITE_P(AllRules, ModuleMovedInTraining, testing::ValuesIn(test::kTestedRules),
                         [](const auto& test) {
                           return test::text_of({{test.param, torch::kFloat32}, test.index});
                         });

TEST_P(ModuleMovedInTraining, ToDoubleGoesOnWithTheSameStateExactly) {
  step(10);
  std::vector<std::vector<Tensor>> before;
  for (const auto& each : net->parameters()) before.push_back(states_of(optimizer, each));

  net->to(torch::kDouble);
  std::size_t next = 0;
  for (const auto& each : net->parameters()) {
    const auto after = states_of(optimizer, each);
    ASSERT_EQ(after.size(), before[next].size());
    for (std::size_t i = 0; i < after.size(); ++i) {
      EXPECT_TRUE(same_bits(after[i], before[next][i].to(torch::kDouble)));
    }
    EXPECT_EQ(optimizer.state_of(each).step, 1);
    ++next;
  }
  EXPECT_EQ(next, 4U);

  // The run that was in float64 from then on, its state put there by hand, is the same bit for bit.
  Net other;
  SpectralOptimizer expected(*other, parse_variant(GetParam()), AdamWOptions{}, {&kAllMatrices, 1});
  other->to(torch::kDouble);
  const auto from = net->parameters(), to = other->parameters();
  for (std::size_t p = 0; p < to.size(); ++p) {
    const torch::NoGradGuard no_gradients;
    to[p].copy_(from[p]);
    ParameterState& state = expected.state_of(to[p]);
    state.step = 1;
    std::size_t i = 0;
    for (Tensor* tensor : {&state.momentum_buffer, &state.row_state, &state.exp_avg, &state.exp_avg_sq}) {
      if (tensor->defined()) tensor->copy_(before[p][i++]);
    }
  }
  step(20);
  set_gradients(*other, 20);
  expected.step();
  for (std::size_t p = 0; p < to.size(); ++p) EXPECT_TRUE(same_bits(from[p], to[p])) << "parameter " << p;
}

TEST_P(ModuleMovedInTraining, ToAnotherDeviceAndBackTakesStateAndCountAlong) {
  std::uint64_t seed = 10;
  for (const at::Device device : {other_device(), at::Device(at::kCPU)}) {
    step(seed += 10);
    std::vector<std::vector<Tensor>> before;
    for (const auto& each : net->parameters()) before.push_back(states_of(optimizer, each));
    net->to(device);
    std::size_t next = 0;
    for (const auto& each : net->parameters()) {
      const auto after = states_of(optimizer, each);
      ASSERT_EQ(after.size(), before[next].size());
      for (std::size_t i = 0; i < after.size(); ++i) {
        EXPECT_EQ(after[i].device(), device);
        EXPECT_TRUE(same_bits(after[i].cpu(), before[next][i].cpu()));
      }
      ++next;
    }
  }
  step(seed += 10);
  EXPECT_EQ(optimizer.skipped_steps(), 0);
  for (const auto& each : net->parameters()) EXPECT_EQ(optimizer.state_of(each).step, 3);
}

TEST(ModuleInTraining, BackToFloatRoundsTheStateAndRefusesWhatOverflows) {
  Tensor weight =
      parameter(random_tensor({8, 4}, 1, torch::kDouble), random_tensor({8, 4}, 2, torch::kDouble));
  Muon optimizer({weight});
  optimizer.step();
  const Tensor before = optimizer.state_of(weight).momentum_buffer.clone();
  weight.mutable_grad().reset();
  weight.set_data(weight.detach().to(torch::kFloat));
  EXPECT_TRUE(same_bits(optimizer.state_of(weight).momentum_buffer, before.to(torch::kFloat)));

  Tensor large =
      parameter(random_tensor({8, 4}, 1, torch::kDouble), random_tensor({8, 4}, 2, torch::kDouble));
  Muon of_large({large});
  of_large.state_of(large).momentum_buffer.fill_(1e200);
  large.mutable_grad().reset();
  large.set_data(large.detach().to(torch::kFloat));
  large.mutable_grad() = random_tensor({8, 4}, 2);
  const Tensor unchanged = large.detach().clone();
  EXPECT_THAT(message_of([&] { of_large.step(); }),
              AllOf(HasSubstr("momentum_buffer overflows in Float"), HasSubstr("group 0, parameter 0")));
  EXPECT_TRUE(same_bits(large, unchanged));
  large.mutable_grad().reset();
  large.set_data(large.detach().to(torch::kDouble));
  EXPECT_EQ(of_large.state_of(large).momentum_buffer.max().item<double>(), 1e200) << "the state is as it was";
}

TEST(ModuleInTraining, ParametersWithoutElementsAreSkipped) {
  for (const std::string_view rule : test::kTestedRules) {
    SCOPED_TRACE(rule);
    const std::vector<std::vector<std::int64_t>> shapes = {{0, 5}, {5, 0}, {0, 0}, {0, 3, 4}};
    std::vector<Tensor> parameters;
    for (const auto& shape : shapes)
      parameters.push_back(parameter(torch::zeros(shape), torch::zeros(shape)));
    const Tensor matrix = parameter(random_tensor({8, 4}, 1), random_tensor({8, 4}, 2)),
                 alone = parameter(matrix, matrix.grad());
    parameters.push_back(matrix);
    std::vector<Dimensions> dimensions(parameters.size(), default_dimensions(2));
    dimensions[3] = {.batch = {0}, .rows = {1}, .cols = {2}};
    const auto of = [&](const std::vector<Tensor>& list, std::vector<Dimensions> each) {
      std::vector<OptimizerParamGroup> groups;
      groups.emplace_back(list, std::make_unique<GroupOptions>(parse_variant(rule), std::move(each)));
      return SpectralOptimizer(groups, std::make_unique<GroupOptions>());
    };
    SpectralOptimizer optimizer = of(parameters, dimensions), expected = of({alone}, {default_dimensions(2)});
    for (int i = 0; i < 2; ++i) {
      optimizer.step();
      expected.step();
    }
    EXPECT_TRUE(same_bits(matrix, alone));
    EXPECT_EQ(optimizer.state().size(), 1U) << "no state for what is not stepped";
    for (const auto& each : parameters) EXPECT_EQ(optimizer.state_of(each).step, each.numel() > 0 ? 2 : 0);

    std::stringstream stream;
    torch::save(optimizer, stream);
    torch::load(optimizer, stream);
    optimizer.step();
    expected.step();
    EXPECT_TRUE(same_bits(matrix, alone));
  }
}

TEST(ModuleInTraining, AModuleWithEmptyParametersIsRouted) {
  torch::nn::Linear none(torch::nn::LinearOptions(4, 0));
  Aurora optimizer(*none);
  for (auto& each : none->parameters()) each.mutable_grad() = torch::zeros_like(each);
  optimizer.step();
  EXPECT_TRUE(optimizer.state().empty());
}

TEST(OptimizerByItsBase, DoesNotStepAGroupWhoseOptionsTorchDropped) {
  const auto matrix = [] { return parameter(random_tensor({8, 4}, 1), random_tensor({8, 4}, 2)); };
  const Tensor first = matrix(), second = matrix(), expected = matrix(), before = first.detach().clone();
  Aurora optimizer({first});
  torch::optim::Optimizer& base = optimizer;
  base.add_param_group({{second}, std::make_unique<GroupOptions>(MuonOptions{.lr = 0.5})});
  EXPECT_THAT(message_of([&] { optimizer.step(); }),
              AllOf(StartsWith("[aurora::optim]"), HasSubstr("add_param_group"), HasSubstr("group 1")));
  EXPECT_TRUE(same_bits(first, before));
  EXPECT_TRUE(same_bits(second, before));

  base.param_groups()[1].set_options(std::make_unique<GroupOptions>(MuonOptions{.lr = 0.5}));
  optimizer.step();
  Muon({expected}, {.lr = 0.5}).step();
  EXPECT_TRUE(same_bits(second, expected));
}

TEST(BackendOfADevice, ThatThisTorchLacksIsAnErrorThatNamesIt) {
  if (!torch::cuda::is_available()) {
    EXPECT_THAT(message_of([] { make_aten_backend(c10::Device("cuda")); }),
                AllOf(StartsWith("[aurora::make_aten_backend] This torch cannot use the device cuda"),
                      testing::Not(HasSubstr("Exception raised from"))));
  }
  EXPECT_THAT(message_of([] { make_aten_backend(c10::Device("xla")); }), HasSubstr("device xla"));
  EXPECT_THAT(message_of([] { make_aten_backend(c10::Device("meta")); }), HasSubstr("device meta"));
}

}  // namespace
}  // namespace aurora::optim
