#pragma once

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "support/matrices.hpp"

namespace aurora::test {

/// |actual - expected| <= bound for every element; NaN is never close. The failure names shape, worst
/// element, both values, their difference and the bound.
::testing::AssertionResult close(const Matrix& actual, const Matrix& expected, double bound);

/// The same with a bound relative to the largest expected element.
inline ::testing::AssertionResult relatively_close(const Matrix& actual, const Matrix& expected,
                                                   double bound) {
  return close(actual, expected, bound * largest(expected));
}

/// Equal element by element; 0 equals -0.
::testing::AssertionResult equal(const Matrix& actual, const Matrix& expected);

/// |x'x - I| <= bound on the short side.
::testing::AssertionResult semi_orthogonal(const Matrix& x, double bound);

/// Every byte the same.
::testing::AssertionResult same_bytes(const Stored& actual, const Stored& expected);

/// The message of the std::invalid_argument that `call` throws; fails the test and returns "" where it throws
/// nothing.
template <class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace aurora::test
