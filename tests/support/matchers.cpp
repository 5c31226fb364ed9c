#include "support/matchers.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace aurora::test {
namespace {

std::string shape(const Matrix& x) {
  const std::string text = std::to_string(x.rows) + "x" + std::to_string(x.cols);
  return x.batch == 1 ? text : std::to_string(x.batch) + " of " + text;
}

}  // namespace

::testing::AssertionResult close(const Matrix& actual, const Matrix& expected, double bound) {
  if (actual.rows != expected.rows || actual.cols != expected.cols || actual.batch != expected.batch) {
    return ::testing::AssertionFailure() << "shapes differ: " << shape(actual) << " vs " << shape(expected);
  }
  double worst = -1;
  std::size_t where = 0;
  for (std::size_t k = 0; k < actual.values.size(); ++k) {
    const double difference = std::abs(actual.values[k] - expected.values[k]);
    if (std::isnan(difference) || difference > worst) {
      worst = difference;
      where = k;
      if (std::isnan(difference)) break;
    }
  }
  if (worst <= bound) return ::testing::AssertionSuccess();  // false for NaN
  const auto position = static_cast<Index>(where);
  const Index size = actual.rows * actual.cols;
  auto failure = ::testing::AssertionFailure();
  failure << shape(actual) << ", worst element (" << position % size / actual.cols << ", "
          << position % actual.cols << ") of matrix " << position / size << ": expected "
          << expected.values[where] << ", actual " << actual.values[where] << ", difference " << worst
          << ", bound " << bound;
  return failure;
}

::testing::AssertionResult equal(const Matrix& actual, const Matrix& expected) {
  return close(actual, expected, 0);
}

::testing::AssertionResult semi_orthogonal(const Matrix& x, double bound) {
  const Matrix gram = x.rows >= x.cols ? product(transposed(x), x) : product(x, transposed(x));
  return close(gram, identity(gram.rows), bound);
}

::testing::AssertionResult same_bytes(const Stored& actual, const Stored& expected) {
  if (actual.bytes() == expected.bytes()) return ::testing::AssertionSuccess();
  const auto [a, b] = std::mismatch(actual.bytes().begin(), actual.bytes().end(), expected.bytes().begin(),
                                    expected.bytes().end());
  return ::testing::AssertionFailure()
         << "bytes differ from byte " << a - actual.bytes().begin() << " of " << actual.bytes().size()
         << " on: " << equal(actual.values(), expected.values()).message();
}

}  // namespace aurora::test
