// One suite over all rules: what every optimizer must do in libtorch.
#include <limits>
#include <string_view>

#include "aurora/torch/optimizer.hpp"
#include "support/tensors.hpp"

namespace aurora::optim {
namespace {

using test::parameter;
using test::random_tensor;
using test::same_bits;
using torch::Tensor;

struct ThreadCount {
  explicit ThreadCount(int threads) : before(at::get_num_threads()) { at::set_num_threads(threads); }
  ~ThreadCount() { at::set_num_threads(before); }
  int before;
};

SpectralOptimizer optimizer_with(const aurora::Rule& rule, std::vector<Tensor> parameters) {
  return SpectralOptimizer({torch::optim::OptimizerParamGroup(std::move(parameters))},
                           std::make_unique<GroupOptions>(rule));
}

/// Two shapes, the first three times: batches and single matrices.
std::vector<Tensor> some_parameters(torch::ScalarType type) {
  std::vector<Tensor> parameters;
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    parameters.push_back(
        parameter(random_tensor({48, 16}, seed, type), random_tensor({48, 16}, seed + 10, type)));
  }
  parameters.push_back(parameter(random_tensor({12, 20}, 4, type), random_tensor({12, 20}, 14, type)));
  return parameters;
}

class TorchRule : public testing::TestWithParam<test::RuleAndType> {
 protected:
  aurora::Rule rule() const { return parse_variant(std::get<0>(GetParam())); }
  torch::ScalarType type() const { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(AllRules, TorchRule,
                         testing::Combine(testing::ValuesIn(test::kTestedRules),
                                          testing::Values(torch::kFloat32, torch::kFloat64,
                                                          torch::kBFloat16)),
                         test::text_of);

TEST_P(TorchRule, LearnsARegression) {
  const Tensor inputs = random_tensor({64, 8}, 1, type());
  const Tensor targets = inputs.matmul(random_tensor({8, 24}, 2, type()) * 0.3);
  const Tensor weight = parameter(torch::zeros({24, 8}, type()));
  GroupOptions options(rule());
  options.set_lr(0.05);
  auto optimizer = optimizer_with(options.rule, {weight});
  const auto loss_now = [&] { return torch::mse_loss(inputs.matmul(weight.t()), targets); };
  const double before = loss_now().item<double>();
  for (int step = 0; step < 100; ++step) {
    optimizer.zero_grad();
    loss_now().backward();
    optimizer.step();
  }
  EXPECT_LT(loss_now().item<double>(), 0.05 * before);
}

TEST_P(TorchRule, StepsLikeTheCoreBitForBit) {
  const auto own = some_parameters(type());
  auto optimizer = optimizer_with(rule(), own);
  auto copies = some_parameters(type());
  const auto backend = make_cpu_backend({.threads = at::get_num_threads()});
  const auto state_type = type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const auto view = [](const Tensor& tensor) {
    const DType dtype = tensor.scalar_type() == torch::kFloat64   ? DType::f64
                        : tensor.scalar_type() == torch::kFloat32 ? DType::f32
                                                                  : DType::bf16;
    return MatrixView{
        tensor.data_ptr(), tensor.size(0), tensor.size(1), tensor.stride(0), tensor.stride(1), 1, 0, dtype};
  };
  std::vector<Tensor> first, second, rows;
  for (const auto& copy : copies) {
    first.push_back(torch::zeros(copy.sizes(), state_type));
    second.push_back(torch::zeros(copy.sizes(), state_type));
    rows.push_back(torch::zeros({row_state_size(rule(), copy.size(0), copy.size(1)), 1}, state_type));
  }
  for (int step = 1; step <= 3; ++step) {
    optimizer.step();
    for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 3}, {3, 4}}) {
      std::vector<ConstMatrixView> gradients;
      std::vector<MatrixView> firsts, seconds, row_states, weights;
      for (std::size_t i = begin; i < end; ++i) {
        gradients.push_back(view(copies[i].grad()));
        firsts.push_back(view(first[i]));
        seconds.push_back(view(second[i]));
        if (rows[i].numel() > 0) row_states.push_back(view(rows[i]));
        weights.push_back(view(copies[i]));
      }
      const Rule any = rule();
      if (const auto* adamw = std::get_if<AdamWOptions>(&any)) {
        adamw_step(*backend, *adamw, step, {gradients, firsts, seconds, weights});
      } else {
        aurora::step(*backend, any, {gradients, firsts, weights, row_states});
      }
    }
  }
  for (std::size_t i = 0; i < own.size(); ++i) EXPECT_TRUE(same_bits(own[i], copies[i])) << "parameter " << i;
}

TEST_P(TorchRule, KeepsStateInFloat64ForFloat64AndInFloat32Otherwise) {
  const auto parameters = some_parameters(type());
  auto optimizer = optimizer_with(rule(), parameters);
  optimizer.step();
  const auto expected = type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const ParameterState& state = optimizer.state_of(parameters[0]);
  const bool adamw = std::holds_alternative<AdamWOptions>(rule());
  const Tensor& moment = adamw ? state.exp_avg : state.momentum_buffer;
  ASSERT_TRUE(moment.defined());
  EXPECT_EQ(moment.scalar_type(), expected);
  EXPECT_EQ(state.exp_avg_sq.defined(), adamw);
  EXPECT_EQ(state.row_state.defined(), !row_state_name(rule()).empty());
  EXPECT_EQ(state.step, 1);
}

TEST_P(TorchRule, LeavesTheGradientAsItIs) {
  const auto parameters = some_parameters(type());
  std::vector<Tensor> before;
  for (const auto& each : parameters) before.push_back(each.grad().clone());
  optimizer_with(rule(), parameters).step();
  for (std::size_t i = 0; i < parameters.size(); ++i) EXPECT_TRUE(same_bits(parameters[i].grad(), before[i]));
}

TEST_P(TorchRule, ChangesNothingWhenAGradientIsNotFinite) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const auto parameters = some_parameters(type());
    auto optimizer = optimizer_with(rule(), parameters);
    optimizer.step();
    std::vector<Tensor> weights, moments;
    const auto moment_of = [&](const Tensor& each) {
      const auto& state = optimizer.state_of(each);
      return state.exp_avg.defined() ? state.exp_avg : state.momentum_buffer;
    };
    for (const auto& each : parameters) {
      weights.push_back(each.detach().clone());
      moments.push_back(moment_of(each).clone());
    }
    parameters[2].mutable_grad()[7][3] = bad;
    optimizer.step();
    optimizer.step();
    EXPECT_EQ(optimizer.skipped_steps(), 2);
    EXPECT_EQ(optimizer.skipped_in_a_row(), 2);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_TRUE(same_bits(parameters[i], weights[i]));
      EXPECT_TRUE(same_bits(moment_of(parameters[i]), moments[i]));
      EXPECT_EQ(optimizer.state_of(parameters[i]).step, 1);
    }
    parameters[2].mutable_grad()[7][3] = 1.0;
    optimizer.step();
    EXPECT_EQ(optimizer.skipped_steps(), 2);
    EXPECT_EQ(optimizer.skipped_in_a_row(), 0);
    EXPECT_FALSE(same_bits(parameters[0], weights[0]));
  }
}

TEST_P(TorchRule, RepeatsItsBitsAndHardlyDependsOnTheThreads) {
  const auto after_steps = [&](int threads) {
    const ThreadCount count(threads);
    const auto parameters = some_parameters(type());
    auto optimizer = optimizer_with(rule(), parameters);
    for (int step = 0; step < 3; ++step) optimizer.step();
    return parameters;
  };
  const auto one = after_steps(1), two = after_steps(2), again = after_steps(2);
  // Weights of size 1, a few steps of size 0.05: a bound on the rounding of the weights themselves.
  const double bound = type() == torch::kBFloat16 ? 0x1p-6 : type() == torch::kFloat32 ? 1e-5 : 1e-12;
  for (std::size_t i = 0; i < two.size(); ++i) {
    EXPECT_TRUE(same_bits(two[i], again[i]));
    EXPECT_TRUE(test::close_tensors(one[i], two[i], bound));
  }
}

TEST_P(TorchRule, ReadsTransposedGradientsAndWeightsAsTheyAre) {
  const Tensor values = random_tensor({20, 12}, 1, type()), gradient = random_tensor({20, 12}, 2, type());
  const Tensor plain = parameter(values, gradient);
  const Tensor turned_gradient = parameter(values, gradient);
  turned_gradient.mutable_grad() = gradient.t().contiguous().t();
  const Tensor turned = parameter(values.t().contiguous().t(), gradient);
  for (const auto& each : {plain, turned_gradient, turned}) optimizer_with(rule(), {each}).step();
  ASSERT_FALSE(turned.is_contiguous());
  EXPECT_TRUE(same_bits(turned_gradient, plain));
  EXPECT_TRUE(test::close_tensors(turned, plain, type() == torch::kBFloat16 ? 0x1p-6 : 1e-6));
}

}  // namespace
}  // namespace aurora::optim
