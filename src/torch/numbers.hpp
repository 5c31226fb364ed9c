#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <utility>

// The numbers on which ATen computes the formulas of src/formulas.hpp: a tensor, or one number for all of its
// elements.
namespace aurora::tensors {

using at::Tensor;

class Numbers {
 public:
  explicit Numbers(double value) : value_(value) {}
  explicit Numbers(Tensor tensor) : tensor_(std::move(tensor)) {}
  bool is_one() const { return !tensor_.defined(); }
  double one() const { return value_; }
  const Tensor& tensor() const { return tensor_; }
  /// A tensor of the type and device of `like`.
  Tensor as(const Tensor& like) const {
    return is_one() ? at::scalar_tensor(value_, like.options()) : tensor_;
  }

 private:
  Tensor tensor_;
  double value_ = 0;
};

/// Where a comparison holds.
struct Condition {
  Tensor tensor;
};
inline Condition operator&(const Condition& a, const Condition& b) {
  return {at::logical_and(a.tensor, b.tensor)};
}

/// operation(tensor, tensor or number) with the operands in order; `turned` takes a number first.
template <class Operation, class Turned>
auto combined(const Numbers& a, const Numbers& b, Operation&& operation, Turned&& turned) {
  if (a.is_one()) return turned(a.one(), b.tensor());
  if (b.is_one()) return operation(a.tensor(), at::Scalar(b.one()));
  return operation(a.tensor(), b.tensor());
}

inline Numbers operator+(const Numbers& a, const Numbers& b) {
  const auto add = [](const Tensor& x, const auto& y) { return Numbers(at::add(x, y)); };
  return combined(a, b, add, [&](double x, const Tensor& y) { return add(y, at::Scalar(x)); });
}
inline Numbers operator-(const Numbers& a, const Numbers& b) {
  return combined(
      a, b, [](const Tensor& x, const auto& y) { return Numbers(at::sub(x, y)); },
      [](double x, const Tensor& y) { return Numbers(at::rsub(y, at::Scalar(x))); });
}
inline Numbers operator*(const Numbers& a, const Numbers& b) {
  if (a.is_one() && b.is_one()) return Numbers(a.one() * b.one());
  const auto multiply = [](const Tensor& x, const auto& y) { return Numbers(at::mul(x, y)); };
  return combined(a, b, multiply, [&](double x, const Tensor& y) { return multiply(y, at::Scalar(x)); });
}
inline Numbers operator/(const Numbers& a, const Numbers& b) {
  return combined(
      a, b, [](const Tensor& x, const auto& y) { return Numbers(at::div(x, y)); },
      [](double x, const Tensor& y) { return Numbers(at::div(at::scalar_tensor(x, y.options()), y)); });
}
inline Condition operator<(const Numbers& a, const Numbers& b) {
  return combined(
      a, b, [](const Tensor& x, const auto& y) { return Condition{at::lt(x, y)}; },
      [](double x, const Tensor& y) { return Condition{at::gt(y, at::Scalar(x))}; });
}
inline Condition operator<=(const Numbers& a, const Numbers& b) {
  return combined(
      a, b, [](const Tensor& x, const auto& y) { return Condition{at::le(x, y)}; },
      [](double x, const Tensor& y) { return Condition{at::ge(y, at::Scalar(x))}; });
}
inline Condition operator>(const Numbers& a, const Numbers& b) { return b < a; }
inline Condition operator>=(const Numbers& a, const Numbers& b) { return b <= a; }

inline Numbers sqrt(const Numbers& x) { return Numbers(at::sqrt(x.tensor())); }
inline Numbers pow(const Numbers& x, double exponent) { return Numbers(at::pow(x.tensor(), exponent)); }
inline Numbers log(const Numbers& x) { return Numbers(at::log(x.tensor())); }
inline Numbers exp(const Numbers& x) { return Numbers(at::exp(x.tensor())); }
inline Numbers max(const Numbers& a, const Numbers& b) {
  return combined(
      a, b,
      [](const Tensor& x, const auto& y) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(y)>, at::Scalar>) {
          return Numbers(at::clamp_min(x, y));
        } else {
          return Numbers(at::maximum(x, y));
        }
      },
      [](double x, const Tensor& y) { return Numbers(at::clamp_min(y, at::Scalar(x))); });
}
inline Numbers select(const Condition& condition, const Numbers& then, const Numbers& otherwise) {
  const Tensor& like = then.is_one() ? otherwise.tensor() : then.tensor();
  if (!like.defined()) {
    const Tensor doubles = at::empty({}, condition.tensor.options().dtype(at::kDouble));
    return Numbers(at::where(condition.tensor, then.as(doubles), otherwise.as(doubles)));
  }
  return Numbers(at::where(condition.tensor, then.as(like), otherwise.as(like)));
}

}  // namespace aurora::tensors
