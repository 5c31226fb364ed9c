// Parameters that are not on the CPU: the backend of ATen operations and its algorithms, behind the
// optimizer.

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "aurora/balance.hpp"
#include "aurora/diagnostics.hpp"
#include "aurora/torch/backend.hpp"
#include "aurora/torch/optimizer.hpp"
#include "support/matchers.hpp"
#include "support/other_device.hpp"
#include "support/tensors.hpp"

namespace aurora::optim {
namespace {

using test::close_tensors;
using test::host_waits;
using test::message_of;
using test::other_device;
using test::parameter;
using test::random_tensor;
using test::same_bits;
using testing::AllOf;
using testing::HasSubstr;
using torch::Tensor;

constexpr double kInf = std::numeric_limits<double>::infinity();

Tensor there(const Tensor& x) { return x.to(other_device()); }
Tensor here(const Tensor& x) { return x.detach().to(torch::kCPU); }

/// Rows of uneven length, as weights' gradients have.
Tensor uneven(std::int64_t rows, std::int64_t cols, std::uint64_t seed,
              torch::ScalarType type = torch::kFloat32) {
  const Tensor lengths = random_tensor({rows, 1}, seed + 1000, torch::kFloat64).exp();
  return (random_tensor({rows, cols}, seed, torch::kFloat64) * lengths).to(type);
}

/// A tall, a wide and a square matrix, a stack of two, and of each two, so that there is something to batch.
std::vector<Tensor> some_matrices(torch::ScalarType type) {
  std::vector<Tensor> values;
  for (std::uint64_t i = 0; i < 2; ++i) {
    values.push_back(uneven(48, 16, 10 + i, type));
    values.push_back(uneven(12, 40, 20 + i, type));
    values.push_back(uneven(16, 16, 30 + i, type));
    values.push_back(uneven(24, 32, 40 + i, type).reshape({2, 12, 32}));
  }
  return values;
}

/// The same parameters here and there, stepped with the same gradients.
struct Twins {
  std::vector<Tensor> cpu, device;
  SpectralOptimizer on_cpu, on_device;

  Twins(const std::vector<Tensor>& values, const aurora::Rule& rule)
      : cpu(leaves(values, false)),
        device(leaves(values, true)),
        on_cpu({group(cpu)}, std::make_unique<GroupOptions>(rule, dimensions(cpu, rule))),
        on_device({group(device)}, std::make_unique<GroupOptions>(rule, dimensions(device, rule))) {}

  void set_gradients(std::uint64_t seed) {
    for (std::size_t i = 0; i < cpu.size(); ++i) {
      const Tensor gradient = uneven(cpu[i].numel() / cpu[i].size(-1), cpu[i].size(-1), 100 * seed + i)
                                  .reshape(cpu[i].sizes())
                                  .to(cpu[i].scalar_type());
      cpu[i].mutable_grad() = gradient;
      device[i].mutable_grad() = there(gradient);
    }
  }

 private:
  static std::vector<Tensor> leaves(const std::vector<Tensor>& values, bool move) {
    std::vector<Tensor> list;
    for (const auto& value : values) list.push_back(parameter(move ? there(value) : value));
    return list;
  }
  static torch::optim::OptimizerParamGroup group(const std::vector<Tensor>& list) {
    return torch::optim::OptimizerParamGroup(list);
  }
  /// Three axes are a stack of matrices.
  static std::vector<Dimensions> dimensions(const std::vector<Tensor>& list, const aurora::Rule& rule) {
    std::vector<Dimensions> all;
    if (std::holds_alternative<AdamWOptions>(rule)) return all;
    for (const auto& tensor : list) {
      all.push_back(tensor.dim() == 3 ? Dimensions{.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {}}
                                      : default_dimensions(2));
    }
    return all;
  }
};

class OnADevice : public ::testing::TestWithParam<test::RuleAndType> {
 protected:
  aurora::Rule rule() const { return parse_variant(std::get<0>(GetParam())); }
  torch::ScalarType type() const { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(All, OnADevice,
                         ::testing::Combine(::testing::ValuesIn(test::kTestedRules),
                                            ::testing::Values(torch::kFloat64, torch::kFloat32,
                                                              torch::kBFloat16)),
                         test::text_of);

TEST_P(OnADevice, StepsAsOnTheCpuToTheAccuracyOfItsPolarFactor) {
  Twins twins(some_matrices(type()), rule());
  for (std::uint64_t step = 1; step <= 3; ++step) {
    twins.set_gradients(step);
    twins.on_cpu.step();
    twins.on_device.step();
  }
  // Of an update of size one, lr = 0.02. Square matrices of Gaussian numbers have singular values that Polar
  // Express does not reach; in float64 only the factors between evaluations are Polar Express's.
  for (std::size_t i = 0; i < twins.cpu.size(); ++i) {
    const bool square = twins.cpu[i].size(0) == twins.cpu[i].size(-1);
    const bool loose =
        square || std::get<0>(GetParam()) == "riemannian-aurora";  // conjugate gradients magnify
    const double bound = type() == torch::kFloat64    ? 5e-5
                         : type() == torch::kBFloat16 ? 0.1
                         : loose                      ? 0.03
                                                      : 2e-3;
    EXPECT_EQ(twins.device[i].device(), other_device());
    EXPECT_TRUE(close_tensors(here(twins.device[i]), twins.cpu[i], bound)) << "parameter " << i;
  }
}

TEST_P(OnADevice, NothingChangesAfterOneGradientThatIsNotFinite) {
  Twins twins(some_matrices(type()), rule());
  twins.set_gradients(1);
  twins.on_device.step();
  std::vector<Tensor> before;
  for (const auto& weight : twins.device) before.push_back(here(weight).clone());
  const ParameterState state = twins.on_device.state_of(twins.device[0]);
  const Tensor& kept = state.momentum_buffer.defined() ? state.momentum_buffer : state.exp_avg_sq;
  const Tensor kept_before = here(kept).clone();

  twins.set_gradients(2);
  twins.device[3].mutable_grad().view({-1}).narrow(0, 7, 1).fill_(kInf);
  twins.on_device.step();
  twins.on_device.step();
  EXPECT_EQ(twins.on_device.skipped_steps(), 2);
  EXPECT_EQ(twins.on_device.skipped_in_a_row(), 2);
  EXPECT_EQ(twins.on_device.state_of(twins.device[0]).step, 1);
  EXPECT_TRUE(same_bits(here(kept), kept_before));
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(same_bits(here(twins.device[i]), before[i]));

  // And the next step is the one that would have been the second.
  Twins others(some_matrices(type()), rule());
  others.set_gradients(1);
  others.on_device.step();
  for (Twins* each : {&twins, &others}) {
    each->set_gradients(3);
    each->on_device.step();
  }
  EXPECT_EQ(twins.on_device.skipped_in_a_row(), 0);
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_TRUE(same_bits(here(twins.device[i]), here(others.device[i])));
  }
}

TEST(TorchDevice, NobodyWaitsInAStep) {
  for (const std::string_view name :
       {"adamw", "muon", "normuon", "u-normuon", "row-normalized", "aurora", "aurora:pp_iterations=4",
        "muon:polar=keller-jordan-5", "aurora:balance=release+polar=cans-12"}) {
    Twins twins(some_matrices(torch::kFloat32), parse_variant(name));
    for (std::uint64_t step = 1; step <= 3; ++step) {
      twins.set_gradients(step);
      const auto before = host_waits();
      twins.on_device.step();
      EXPECT_EQ(host_waits(), before) << name << ", step " << step;
    }
  }
}

TEST(TorchDevice, AGroupMayBeOnSeveralDevices) {
  const Tensor values = uneven(48, 16, 1), gradient = uneven(48, 16, 2);
  const Tensor left = parameter(values, gradient), right = parameter(there(values), there(gradient));
  Aurora optimizer(std::vector<Tensor>{left, right});
  optimizer.step();
  EXPECT_TRUE(close_tensors(here(right), left, 1e-3));
  EXPECT_FALSE(same_bits(left, values));
  // One Inf anywhere, and nothing changes anywhere.
  const Tensor before = left.detach().clone();
  right.mutable_grad().view({-1}).narrow(0, 5, 1).fill_(kInf);
  optimizer.step();
  EXPECT_EQ(optimizer.skipped_steps(), 1);
  EXPECT_TRUE(same_bits(left, before));
}

TEST(TorchDevice, WhatWasSavedThereIsLoadedHereAndGoesOn) {
  for (const std::string_view name : {"adamw", "aurora", "normuon"}) {
    Twins twins(some_matrices(torch::kFloat32), parse_variant(name));
    twins.set_gradients(1);
    twins.on_device.step();
    std::stringstream file;
    torch::serialize::OutputArchive saved;
    twins.on_device.save(saved);
    saved.save_to(file);
    torch::serialize::InputArchive loaded;
    loaded.load_from(file, torch::Device(torch::kCPU));
    twins.on_cpu.load(loaded);
    EXPECT_EQ(twins.on_cpu.state_of(twins.cpu[0]).step, 1);
    {
      const torch::NoGradGuard no_gradients;
      for (std::size_t i = 0; i < twins.cpu.size(); ++i) twins.cpu[i].copy_(here(twins.device[i]));
    }
    twins.set_gradients(2);
    twins.on_device.step();
    twins.on_cpu.step();
    for (std::size_t i = 0; i < twins.cpu.size(); ++i) {
      EXPECT_TRUE(close_tensors(here(twins.device[i]), twins.cpu[i], 1e-3)) << name << ", parameter " << i;
    }
  }
}

TEST(TorchDevice, ParametersWithoutValuesAreRefused) {
  const Tensor meta = torch::empty({4, 4}, torch::TensorOptions(torch::kMeta)).requires_grad_();
  EXPECT_THAT(message_of([&] { Muon optimizer(std::vector<Tensor>{meta}); }),
              AllOf(HasSubstr("meta"), HasSubstr("[4, 4]")));
}

/// A contiguous tensor [batch, rows, cols] or [rows, cols] as the core sees it.
MatrixView view_of(const Tensor& x) {
  const Index rows = x.size(-2), cols = x.size(-1);
  return {.data = x.mutable_data_ptr(),
          .rows = rows,
          .cols = cols,
          .row_stride = cols,
          .batch = x.numel() / (rows * cols),
          .batch_stride = rows * cols,
          .dtype = x.scalar_type() == torch::kFloat64 ? DType::f64 : DType::f32};
}

Tensor polar_there(const Tensor& x, Polar method) {
  const Tensor from = there(x), to = torch::empty_like(from);
  polar(*make_aten_backend(other_device()), view_of(from), method, view_of(to), Precision::float32);
  return here(to);
}

Tensor polar_here(const Tensor& x, Polar method) {
  const Tensor to = torch::empty_like(x);
  polar(*make_cpu_backend(), view_of(x), method, view_of(to));
  return to;
}

TEST(TorchDevice, StepsOnTheGramMatrixInFloat16AreNearThoseOnTheMatrix) {
  // In float16, whose products are off by 5e-4 of the largest element; what steps on the matrix itself are off
  // by too. Seven steps leave a well-conditioned matrix with the accuracy that polar states.
  const Tensor x = random_tensor({3, 60, 20}, 5);
  for (const PolarSchedule& schedule : kPolarSchedules) {
    if (schedule.steps.empty()) continue;
    const Tensor from = there(x), to = torch::empty_like(from);
    polar(*make_aten_backend(other_device()), view_of(from), schedule.polar, view_of(to), Precision::float16);
    EXPECT_TRUE(close_tensors(here(to), polar_here(x, schedule.polar), 1e-2)) << schedule.name;
  }
}

/// rows x cols with these singular values.
Tensor with_singular_values(const Tensor& values, std::int64_t rows) {
  const std::int64_t n = values.numel();
  const Tensor left = std::get<0>(torch::linalg_qr(random_tensor({rows, n}, 7, torch::kFloat64)));
  const Tensor right = std::get<0>(torch::linalg_qr(random_tensor({n, n}, 8, torch::kFloat64)));
  return (left * values).mm(right.mT());
}

Tensor automatic_polar(const Tensor& x) {
  const Tensor from = there(x), to = torch::empty_like(from);
  polar(*make_aten_backend(other_device()), view_of(from), Polar::automatic, view_of(to));
  return here(to);
}

TEST(TorchDevice, ExactIsExactThereToo) {
  for (const double condition : {1.0, 100.0, 1e4}) {
    const Tensor x =
        with_singular_values(torch::logspace(0, -std::log10(condition), 32, 10, torch::kFloat64), 96);
    const Tensor single = x.to(torch::kFloat32);
    const Tensor expected = polar_here(single.to(torch::kFloat64), Polar::exact);
    // What polar.hpp states for float32.
    EXPECT_TRUE(close_tensors(polar_there(single, Polar::exact).to(torch::kFloat64), expected, 2e-5))
        << condition;
  }
}

TEST(TorchDevice, TheMethodIsThatOfTheDeviceAndTypeOfTheParameter) {
  torch::nn::Linear single(8, 16), wide(8, 16);
  single->to(other_device());
  wide->to(other_device(), torch::kFloat64);
  const std::vector<RoutePattern> all = {{"weight", Route::matrix}};
  EXPECT_EQ(Muon(*single, {}, {}, all).routing()[0].method, "polar-express-7 in float16");
  EXPECT_EQ(Muon(*wide, {}, {}, all).routing()[0].method, "exact polar factors");
  EXPECT_EQ(Muon(*single, {.polar = Polar::exact}, {}, all).routing()[0].method, "exact polar factors");
  EXPECT_EQ(Muon(*single, {.precision = Precision::float32}, {}, all).routing()[0].method,
            "polar-express-7 in float32");
}

TEST(TorchDevice, TheAutomaticPolarFactorHasTheStatedAccuracy) {
  for (const std::int64_t rows : {32, 48, 96}) {
    for (const double condition : {1.0, 10.0, 100.0}) {
      const Tensor x =
          with_singular_values(torch::logspace(0, -std::log10(condition), 32, 10, torch::kFloat64), rows);
      for (const Tensor& each : {x, x.mT().contiguous(), 1e-30 * x, 1e30 * x}) {
        const Tensor u = automatic_polar(each.to(torch::kFloat32)).to(torch::kFloat64);
        EXPECT_LT((torch::linalg_svdvals(u) - 1).abs().max().item<double>(), 5e-3)
            << rows << ", " << condition;
        EXPECT_TRUE(close_tensors(u, polar_here(each, Polar::exact), 1e-2)) << rows << ", " << condition;
      }
    }
  }
}

TEST(TorchDevice, DirectionsThatDominateDoNotMakeTheIterationDiverge) {
  for (const std::int64_t dominating : {1, 4}) {
    for (double exponent = 0; exponent <= 5; exponent += 0.25) {
      Tensor values = torch::full({16}, std::pow(10, -exponent), torch::kFloat64);
      values.narrow(0, 0, dominating).fill_(1);
      const Tensor u = automatic_polar(with_singular_values(values, 48).to(torch::kFloat32));
      EXPECT_LT(torch::linalg_svdvals(u.to(torch::kFloat64)).max().item<double>(), 1.01) << exponent;
    }
  }
}

TEST(TorchDevice, LeverageScoresAreExactThereToo) {
  const Tensor x = uneven(96, 32, 6);
  const auto cpu = make_cpu_backend();
  const auto device = make_aten_backend(other_device());
  const auto expected = leverage_scores(*cpu, view_of(x));
  const auto actual = leverage_scores(*device, view_of(there(x)));
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-5) << "row " << i;
}

double row_norm_cv(const Tensor& u) {
  const Tensor norms = u.to(torch::kFloat64).norm(2, -1);
  return (norms.std(/*unbiased=*/false) / norms.mean()).item<double>();
}

Tensor balanced(Backend& backend, const Tensor& x, int evaluations) {
  const Tensor to = torch::empty_like(x);
  balanced_polar(backend, view_of(x), {.pp_iterations = evaluations}, view_of(to));
  return to;
}

TEST(TorchDevice, OddsMakeRowsAsEvenAsOnTheCpu) {
  const auto cpu = make_cpu_backend();
  const auto device = make_aten_backend(other_device());
  const Tensor x = uneven(192, 64, 3);
  for (const int evaluations : {1, 2, 3}) {
    const double cv_here = row_norm_cv(balanced(*cpu, x, evaluations));
    const Tensor u = here(balanced(*device, there(x), evaluations));
    EXPECT_LT(row_norm_cv(u), 1.2 * cv_here + 3e-3) << evaluations;
  }
}

TEST(TorchDevice, EachMatrixOfABatchEndsWithItsMostEvenEvaluation) {
  // Two rows per direction: odds alone oscillates there for ever. Beside it a matrix on which it does not.
  const Tensor twice = torch::zeros({64, 32});
  for (std::int64_t j = 0; j < 32; ++j) {
    twice[2 * j][j] = 3 + 0.1 * static_cast<double>(j);
    twice[2 * j + 1][j] = 1;
  }
  const Tensor batch = torch::stack({twice, uneven(64, 32, 9)});
  const auto device = make_aten_backend(other_device());
  double before = kInf;
  for (const int evaluations : {1, 2, 3, 4, 5}) {
    const Tensor u = here(balanced(*device, there(batch), evaluations));
    const double cv = row_norm_cv(u[0]);
    EXPECT_LT(cv, before + 2e-3) << evaluations;
    before = std::min(before, cv);
    EXPECT_TRUE(close_tensors(u[1], here(balanced(*device, there(batch[1]), evaluations)), 1e-6))
        << evaluations;
  }
  EXPECT_LT(before, 1e-2);
}

}  // namespace
}  // namespace aurora::optim
