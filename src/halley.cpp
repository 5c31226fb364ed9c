#include "halley.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace aurora {
namespace {

constexpr double kLeastSingularValue = 3e-4;  // of the largest
constexpr double kLeastInFloat64 = 3e-6;      // the same where float64 begins
constexpr double kLargestWeight = 1000;       // of a step: I + c X'X is exact to c units in the last place
constexpr int kMostSteps = 12;                // twice of what the least singular value needs
constexpr double kNear = 0.3;                 // |X'X - I|_F from which a polynomial ends it
constexpr double kLast = 0.02;                // from which one polynomial is enough
constexpr int kPowerSteps = 5;

/// x -> x (a + b x^2) / (1 + c x^2), which takes [l, 1] closest to 1.
struct Halley {
  double a, b, c;

  explicit Halley(double l) {
    const double l2 = l * l, d = std::cbrt(4 * (1 - l2) / (l2 * l2)), root = std::sqrt(1 + d);
    a = root + 0.5 * std::sqrt(8 - 4 * d + 8 * (2 - l2) / (l2 * root));
    b = (a - 1) * (a - 1) / 4;
    c = a + b - 1;
  }
  double operator()(double x) const { return x * (a + b * x * x) / (1 + c * x * x); }
};

/// The least l whose step has no larger weight than kLargestWeight.
double least_target() {
  static const double least = [] {
    double low = kLeastSingularValue / 2, high = 1;
    for (int i = 0; i < 50; ++i) {
      const double middle = std::sqrt(low * high);
      (Halley(middle).c > kLargestWeight ? low : high) = middle;
    }
    return high;
  }();
  return least;
}

MatrixView square(Backend& backend, Index n, DType dtype) {
  return backend.scratch(n, n, 1, dtype, Layout::column_major);
}

/// s = s + value I; s is packed.
void shift_diagonal(Backend& backend, double value, MatrixView s) {
  const ScratchFrame frame(backend);
  const MatrixView ones = backend.scratch(s.rows, 1, 1, s.dtype);
  backend.fill(1.0, ones);
  s.row_stride = s.rows + 1, s.col_stride = 1, s.cols = 1;
  backend.axpby(value, ones, 1.0, s);
}

/// |x|_F of a packed matrix.
double frobenius_norm(Backend& backend, ConstMatrixView x) {
  const ScratchFrame frame(backend);
  const MatrixView sum = backend.scratch(1, 1, 1, DType::f64);
  x.cols *= x.rows, x.rows = 1, x.row_stride = x.cols, x.col_stride = 1;
  backend.row_dots(x, x, sum);
  return std::sqrt(backend.largest(sum));
}

/// Power iteration from a row of ones: apply(x) multiplies the row x, in place. Returns about the largest
/// eigenvalue, from below.
template <class Apply>
double power_iteration(Backend& backend, MatrixView x, Apply&& apply) {
  double norm = 0;
  backend.fill(1.0, x);
  for (int i = 0; i < kPowerSteps; ++i) {
    backend.normalize(x, x);
    apply(x);
    norm = frobenius_norm(backend, x);
  }
  return norm;
}

/// The largest eigenvalue of a symmetric matrix.
double largest_eigenvalue(Backend& backend, ConstMatrixView s) {
  const ScratchFrame frame(backend);
  const MatrixView x = backend.scratch(1, s.rows, 1, s.dtype), y = backend.scratch(1, s.rows, 1, s.dtype);
  return power_iteration(backend, x, [&](MatrixView v) {
    backend.multiply(1.0, v, s, 0.0, y);
    backend.axpby(1.0, y, 0.0, v);
  });
}

/// The smallest eigenvalue of r'r.
double smallest_eigenvalue(Backend& backend, ConstMatrixView r) {
  const ScratchFrame frame(backend);
  const MatrixView x = backend.scratch(1, r.rows, 1, r.dtype);
  return 1 / power_iteration(backend, x, [&](MatrixView v) {
           backend.divide_by_upper(r, v);
           backend.divide_by_upper(transposed(r), v);
         });
}

/// X <- X (a + b S) (I + c S)^-1 for S = X'X; Y and Z are scratch of their shapes. Returns false where I + c
/// S is not positive definite to working precision.
bool halley_step(Backend& backend, const Halley& halley, ConstMatrixView S, MatrixView Z, MatrixView Y,
                 MatrixView X) {
  backend.axpby(halley.c, S, 0.0, Z);
  shift_diagonal(backend, 1.0, Z);
  if (!(backend.cholesky(Z) > 0)) return false;
  backend.axpby(1.0, X, 0.0, Y);
  backend.divide_by_upper(Z, Y);
  backend.divide_by_upper(transposed(Z), Y);
  backend.axpby(halley.a - halley.b / halley.c, Y, halley.b / halley.c, X);
  return true;
}

/// X <- polar(X), with X's least singular value about l of the largest. Returns false where it does not
/// converge.
bool iterate(Backend& backend, double l, MatrixView& X) {
  const Index n = X.rows;
  const MatrixView S = square(backend, n, X.dtype), Z = square(backend, n, X.dtype);
  MatrixView Y = square(backend, n, X.dtype);
  for (int step = 0; step < kMostSteps; ++step) {
    backend.gram(X, S);
    backend.axpby(1.0, S, 0.0, Z);
    shift_diagonal(backend, -1.0, Z);
    const double distance = frobenius_norm(backend, Z);
    if (distance < kNear) {  // X (I + Z)^-1/2, to third order
      backend.axpby(-0.5, Z, 0.0, S);
      backend.multiply(0.375, Z, Z, 1.0, S);
      shift_diagonal(backend, 1.0, S);
      backend.multiply(1.0, X, S, 0.0, Y);
      std::swap(X, Y);
      if (distance < kLast) return true;
      continue;
    }
    const Halley halley(std::clamp(l, least_target(), 0.999));
    if (!halley_step(backend, halley, S, Z, Y, X)) return false;
    l = halley(l);
  }
  return false;
}

}  // namespace

double triangular_factor(Backend& backend, ConstMatrixView Q, MatrixView R) {
  backend.gram(Q, R);
  const double largest = largest_eigenvalue(backend, R);
  if (!(backend.cholesky(R) > 0)) return 0;
  return smallest_eigenvalue(backend, R) / largest;
}

bool triangular_polar(Backend& backend, ConstMatrixView Q, ConstMatrixView R, MatrixView T, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView S = square(backend, T.rows, T.dtype);
  backend.gram(T, S);
  const double largest = largest_eigenvalue(backend, S), smallest = smallest_eigenvalue(backend, T);
  const double l = std::sqrt(smallest / largest);
  if (!(l >= kLeastSingularValue)) return false;
  backend.axpby(1 / std::sqrt(largest), T, 0.0, T);
  MatrixView P = T;
  if (!iterate(backend, l, P)) return false;
  backend.divide_by_upper(transposed(R), transposed(P));  // R^-1 polar(T)
  backend.multiply(1.0, Q, P, 0.0, U);
  return true;
}

bool product_polar(Backend& backend, ConstMatrixView Q, ConstMatrixView R, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView S = square(backend, Q.cols, Q.dtype), T = square(backend, Q.cols, Q.dtype);
  if (triangular_factor(backend, Q, S) < kAccurateGramEigenvalue) return false;
  backend.multiply(1.0, S, R, 0.0, T);
  return triangular_polar(backend, Q, S, T, U);
}

bool halley_polar(Backend& backend, ConstMatrixView S, MatrixView X, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index n = X.cols;
  const MatrixView R = square(backend, n, DType::f64), T = square(backend, n, DType::f64);
  const double largest = largest_eigenvalue(backend, S);
  backend.axpby(1 / largest, S, 0.0, R);
  if (!(backend.cholesky(R) > 0)) return false;
  double l = std::sqrt(smallest_eigenvalue(backend, R));
  if (!(l >= kLeastInFloat64)) return false;

  const bool lift = l * l < kAccurateGramEigenvalue;
  backend.axpby(1.0, R, 0.0, T);
  if (lift) {
    const MatrixView Y = square(backend, n, DType::f64), Z = square(backend, n, DType::f64);
    const MatrixView scaled = square(backend, n, DType::f64);
    const Halley halley(l);
    backend.axpby(1 / largest, S, 0.0, scaled);
    if (!halley_step(backend, halley, scaled, Z, Y, T)) return false;
    l = halley(l);
  }
  MatrixView P = square(backend, n, U.dtype);
  backend.axpby(1.0, T, 0.0, P);
  if (!iterate(backend, l, P)) return false;

  const MatrixView Q = backend.scratch(X.rows, n, 1, U.dtype, layout_of(X));
  if (lift) {
    backend.divide_by_upper(R, X);
  } else {
    const MatrixView r = square(backend, n, U.dtype);
    backend.axpby(1.0, R, 0.0, r);
    backend.divide_by_upper(transposed(r), transposed(P));  // R^-1 polar(R)
  }
  backend.axpby(1 / std::sqrt(largest), X, 0.0, Q);
  backend.multiply(1.0, Q, P, 0.0, U);
  return true;
}

}  // namespace aurora
