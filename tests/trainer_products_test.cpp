#include <gtest/gtest.h>

#include <cmath>

#include "products.hpp"

namespace {

using aurora::trainer::product;
using aurora::trainer::Products;

struct Result {
  torch::Tensor y, of_x, of_weight;
};

/// x, weight and the gradient of the result, of one seed.
std::array<torch::Tensor, 3> inputs(std::vector<std::int64_t> shape, std::int64_t out) {
  auto generator = at::detail::createCPUGenerator(11);
  auto result_shape = shape;
  result_shape.back() = out;
  return {torch::randn(shape, generator), torch::randn({out, shape.back()}, generator),
          torch::randn(result_shape, generator)};
}

Result result(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& gradient,
              Products products) {
  const auto leaf_x = x.detach().clone().requires_grad_(),
             leaf_weight = weight.detach().clone().requires_grad_();
  const auto y = product(leaf_x, leaf_weight, products);
  y.backward(gradient);
  return {y.detach(), leaf_x.grad(), leaf_weight.grad()};
}

/// a b' summed in float32 in any two orders differs by at most 2 k 2^-24 |a| |b|', k numbers a sum, to first
/// order; half as much again covers the rest for k < 2^20.
void expect_close(const torch::Tensor& actual, const torch::Tensor& expected, const torch::Tensor& a,
                  const torch::Tensor& b) {
  const auto double_abs = [](const torch::Tensor& x) { return x.to(torch::kFloat64).abs(); };
  const torch::Tensor bound =
      3 * static_cast<double>(a.size(-1)) * 0x1p-24 * torch::matmul(double_abs(a), double_abs(b).t());
  const torch::Tensor excess = double_abs(actual - expected) - bound;
  EXPECT_LE(excess.max().item<double>(), 0) << actual.sizes();
}

torch::Tensor rows(const torch::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

TEST(Products, ByOneDnnIsTorchsWithItsGradients) {
  using Shape = std::vector<std::int64_t>;
  for (const auto& [shape, out] :
       {std::pair{Shape{4, 64, 128}, 128}, {Shape{300, 100}, 77}, {Shape{2, 128, 48}, 256}}) {
    const auto [x, weight, gradient] = inputs(shape, out);
    const Result torchs = result(x, weight, gradient, Products::blas);
    const Result ours = result(x, weight, gradient, Products::onednn);
    expect_close(ours.y, torchs.y, x, weight);
    expect_close(ours.of_x, torchs.of_x, gradient, weight.t());
    expect_close(ours.of_weight, torchs.of_weight, rows(gradient).t(), rows(x).t());
  }
}

TEST(Products, RepeatsItsBitsAtAnyAlignment) {
  const auto [x, weight, gradient] = inputs({256, 128}, 128);
  const Result first = result(x, weight, gradient, Products::onednn);
  for (const std::int64_t offset : {1, 3, 16}) {
    const torch::Tensor moved = torch::empty(x.numel() + offset).narrow(0, offset, x.numel()).view(x.sizes());
    moved.copy_(x);
    const torch::Tensor leaf = weight.detach().clone().requires_grad_();
    const torch::Tensor y = product(moved, leaf, Products::onednn);
    y.backward(gradient);
    EXPECT_TRUE(torch::equal(y, first.y)) << offset;
    EXPECT_TRUE(torch::equal(leaf.grad(), first.of_weight)) << offset;
  }
}

TEST(Products, OfSmallOrDoubleMatricesIsTorchsToTheBit) {
  const auto [x, weight, gradient] = inputs({10, 16}, 16);
  const Result torchs = result(x, weight, gradient, Products::blas);
  EXPECT_TRUE(torch::equal(result(x, weight, gradient, Products::onednn).y, torchs.y));
  const auto [a, b, c] = inputs({256, 128}, 128);
  const torch::Tensor wide = a.to(torch::kFloat64), wide_weight = b.to(torch::kFloat64);
  EXPECT_TRUE(torch::equal(product(wide, wide_weight, Products::onednn), torch::linear(wide, wide_weight)));
}

TEST(Products, NeedsNoGradientOfWhatAsksForNone) {
  const auto [x, weight, gradient] = inputs({256, 128}, 128);
  const torch::Tensor leaf = weight.detach().clone().requires_grad_();
  product(x, leaf, Products::onednn).backward(gradient);
  EXPECT_TRUE(leaf.grad().defined());
  EXPECT_FALSE(x.grad().defined());
  EXPECT_FALSE(product(x, weight, Products::onednn).requires_grad());
}

}  // namespace
