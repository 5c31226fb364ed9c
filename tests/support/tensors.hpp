#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace aurora::test {

/// Normal numbers that depend on the seed alone.
inline torch::Tensor random_tensor(std::vector<std::int64_t> sizes, std::uint64_t seed,
                                   torch::ScalarType type = torch::kFloat32) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return torch::randn(sizes, generator, torch::kFloat64).to(type);
}

/// A leaf with values of its own and, where given, a gradient of its own.
inline torch::Tensor parameter(const torch::Tensor& values, const torch::Tensor& gradient = {}) {
  torch::Tensor leaf = values.detach().clone().requires_grad_();
  if (gradient.defined()) leaf.mutable_grad() = gradient.detach().clone();
  return leaf;
}

/// Every element the same in type and bits, NaN included.
inline ::testing::AssertionResult same_bits(const torch::Tensor& actual, const torch::Tensor& expected) {
  if (actual.sizes() != expected.sizes() || actual.scalar_type() != expected.scalar_type()) {
    return ::testing::AssertionFailure() << actual.scalar_type() << " " << actual.sizes() << " vs "
                                         << expected.scalar_type() << " " << expected.sizes();
  }
  const torch::Tensor a = actual.detach().contiguous(), b = expected.detach().contiguous();
  if (std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0)
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << actual.sizes() << ": the largest difference is "
         << (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

/// |actual - expected| <= bound for every element; NaN is never close.
inline ::testing::AssertionResult close_tensors(const torch::Tensor& actual, const torch::Tensor& expected,
                                                double bound) {
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure() << actual.sizes() << " vs " << expected.sizes();
  }
  const double worst = (actual.detach().to(torch::kFloat64) - expected.detach().to(torch::kFloat64))
                           .abs()
                           .max()
                           .item<double>();
  if (worst <= bound) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << actual.sizes() << ": the largest difference is " << worst << ", the bound " << bound;
}

/// A rule's name and the type of the parameters, for parameterised tests.
using RuleAndType = std::tuple<std::string_view, torch::ScalarType>;

/// The six, and those of Aurora's variants that keep a state or need none.
inline constexpr std::array<std::string_view, 8> kTestedRules = {"adamw",
                                                                 "muon",
                                                                 "normuon",
                                                                 "u-normuon",
                                                                 "aurora",
                                                                 "riemannian-aurora",
                                                                 "aurora:balance=carried+sides=longer",
                                                                 "aurora:balance=release"};

inline std::string text_of(const ::testing::TestParamInfo<RuleAndType>& test) {
  std::string text = std::string(std::get<0>(test.param)) + "_" + c10::toString(std::get<1>(test.param));
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return text;
}

}  // namespace aurora::test
