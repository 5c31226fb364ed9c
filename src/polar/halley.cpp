#include "halley.hpp"

#include <algorithm>
#include <cmath>

namespace aurora {
namespace {

// Least singular value, of the largest, from which a step is done in this type: below, I + c X'X loses more
// in float32 than X itself did (seen on columns of growing lengths: 3 times at 2e-4).
constexpr double kLeastInFloat32 = 2e-3, kLeastInFloat64 = 3e-6;
constexpr double kAccurateGramEigenvalue = 1e-3;    // least over largest: a condition number of 32
constexpr double kOrthogonalGramEigenvalue = 5e-3;  // the same for a product that is orthogonal to 1e-5: 14
constexpr int kMostSteps = 12;                      // twice of what the least singular value needs
constexpr int kPowerSteps = 5;
constexpr double kWidthError = 1.25;  // power iteration sees a width from below

// Width |X'X / mean - I|_2 up to which a polynomial of this degree ends it with an error of 2e-6.
constexpr double kLinear = 3e-3, kQuadratic = 3e-2, kQuartic = 0.14;

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

MatrixView square(Backend& backend, Index n, DType dtype) {
  return backend.scratch(n, n, 1, dtype, Layout::column_major);
}

MatrixView like(Backend& backend, ConstMatrixView x) {
  return backend.scratch(x.rows, x.cols, 1, x.dtype, layout_of(x));
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
  return std::sqrt(number_in(backend, sum));
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

/// The largest |eigenvalue| of a symmetric matrix.
double largest_eigenvalue(Backend& backend, ConstMatrixView s) {
  const ScratchFrame frame(backend);
  const MatrixView x = backend.scratch(1, s.rows, 1, s.dtype), y = backend.scratch(1, s.rows, 1, s.dtype);
  return power_iteration(backend, x, [&](MatrixView v) {
    backend.multiply(1.0, v, s, 0.0, y);
    backend.axpby(1.0, y, 0.0, v);
  });
}

/// The largest eigenvalue of x'x.
double largest_squared(Backend& backend, ConstMatrixView x) {
  const ScratchFrame frame(backend);
  const MatrixView v = backend.scratch(1, x.cols, 1, x.dtype), y = backend.scratch(1, x.rows, 1, x.dtype);
  return power_iteration(backend, v, [&](MatrixView image) {
    backend.multiply(1.0, image, transposed(x), 0.0, y);
    backend.multiply(1.0, y, x, 0.0, image);
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

/// X <- X (a + b S) (I + c S)^-1 for S = X'X, where S may be wider than X: the factor of I + c S is in its
/// type. Returns false where I + c S is not positive definite to working precision.
bool halley_step(Backend& backend, const Halley& halley, ConstMatrixView S, MatrixView X) {
  const ScratchFrame frame(backend);
  const MatrixView Y = like(backend, X);
  MatrixView Z = square(backend, S.rows, S.dtype);
  backend.axpby(halley.c, S, 0.0, Z);
  shift_diagonal(backend, 1.0, Z);
  if (!(backend.cholesky(Z) > 0)) return false;
  if (S.dtype != X.dtype) {
    const MatrixView rounded = square(backend, S.rows, X.dtype);
    backend.axpby(1.0, Z, 0.0, rounded);
    Z = rounded;
  }
  backend.axpby(1.0, X, 0.0, Y);
  backend.divide_by_upper(Z, Y);
  backend.divide_by_upper(transposed(Z), Y);
  backend.axpby(halley.a - halley.b / halley.c, Y, halley.b / halley.c, X);
  return true;
}

/// X <- X (I + W)^-1/2 / sqrt(mean) for X'X = mean (I + W) and |W|_2 <= width <= kQuartic: Taylor's
/// polynomial of degree 1, 2 or 4 with its next term t^k replaced by t^k - 2^(1-k) T_k(t), on [-width,
/// width], which is of lower degree (Chebyshev's economization). P is scratch of X's shape.
void end_with_polynomial(Backend& backend, double mean, double width, ConstMatrixView W, MatrixView P,
                         MatrixView& X) {
  const MatrixView Y = like(backend, X);  // outlives the frame
  constexpr double c1 = -1.0 / 2, c2 = 3.0 / 8, c3 = -5.0 / 16, c4 = 35.0 / 128, c5 = -63.0 / 256;
  const ScratchFrame frame(backend);
  const double w2 = width * width;
  double constant = 1;
  if (width <= kLinear) {
    backend.axpby(c1, W, 0.0, P);
    constant += c2 * w2 / 2;
  } else {
    const MatrixView V = square(backend, X.rows, X.dtype);
    backend.gram(W, V);
    if (width <= kQuadratic) {
      backend.axpby(c1 + c3 * w2 * 3 / 4, W, 0.0, P);
      backend.axpby(c2, V, 1.0, P);
    } else {
      const MatrixView Q = square(backend, X.rows, X.dtype);
      backend.axpby(c3 + c5 * w2 * 5 / 4, W, 0.0, Q);
      backend.axpby(c4, V, 1.0, Q);
      shift_diagonal(backend, c2, Q);
      backend.axpby(c1 - c5 * w2 * w2 * 5 / 16, W, 0.0, P);
      backend.multiply(1.0, V, Q, 1.0, P);
    }
  }
  shift_diagonal(backend, constant, P);
  backend.multiply(1 / std::sqrt(mean), X, P, 0.0, Y);
  X = Y;
}

/// X <- polar(X) for S = X'X (overwritten), with X's least singular value about l of the largest. Returns
/// false where it does not converge.
bool iterate(Backend& backend, double l, MatrixView S, MatrixView& X) {
  const Index n = X.rows;
  const MatrixView W = square(backend, n, X.dtype);
  for (int step = 0; step < kMostSteps; ++step) {
    const double norm = frobenius_norm(backend, X), mean = norm * norm / static_cast<double>(n);
    backend.axpby(1 / mean, S, 0.0, W);
    shift_diagonal(backend, -1.0, W);
    const double width = kWidthError * largest_eigenvalue(backend, W);
    if (width <= kQuartic) {
      end_with_polynomial(backend, mean, width, W, S, X);
      return true;
    }
    const Halley halley(std::clamp(l, kLeastInFloat32, 0.999));
    if (!halley_step(backend, halley, S, X)) return false;
    l = halley(l);
    backend.gram(X, S);
  }
  return false;
}

}  // namespace

double eigenvalue_ratio(Backend& backend, ConstMatrixView R) {
  return smallest_eigenvalue(backend, R) / largest_squared(backend, R);
}

bool product_polar(Backend& backend, ConstMatrixView Q, ConstMatrixView R, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index n = Q.cols;
  const MatrixView S = square(backend, n, Q.dtype), T = square(backend, n, Q.dtype);
  backend.gram(Q, S);
  if (!(backend.cholesky(S) > 0) || eigenvalue_ratio(backend, S) < kOrthogonalGramEigenvalue) return false;
  backend.axpby(1.0, S, 0.0, T);
  backend.multiply_by_upper(R, T);

  const double largest = largest_squared(backend, T);
  double l = std::sqrt(smallest_eigenvalue(backend, T) / largest);
  if (!(l >= kLeastInFloat64)) return false;
  backend.axpby(1 / std::sqrt(largest), T, 0.0, T);
  const MatrixView gram = square(backend, n, T.dtype);
  MatrixView X = transposed(T);  // X'X = T T' is the cheaper product
  if (l >= kLeastInFloat32) {
    backend.upper_row_gram(T, gram);
  } else {
    const MatrixView wide = square(backend, n, DType::f64), wide_gram = square(backend, n, DType::f64);
    backend.axpby(1.0, T, 0.0, wide);
    backend.upper_row_gram(wide, wide_gram);
    const Halley halley(l);
    if (!halley_step(backend, halley, wide_gram, X)) return false;
    l = halley(l);
    backend.gram(X, gram);
  }
  if (!iterate(backend, l, gram, X)) return false;
  backend.divide_by_upper(transposed(S), X);  // X' = S^-1 polar(T)
  backend.multiply(1.0, Q, transposed(X), 0.0, U);
  return true;
}

bool halley_polar(Backend& backend, ConstMatrixView S, MatrixView X, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index n = X.cols;
  const MatrixView A = square(backend, n, DType::f64), R = square(backend, n, DType::f64);
  const double largest = largest_eigenvalue(backend, S);
  backend.axpby(1 / largest, S, 0.0, A);
  backend.axpby(1.0, A, 0.0, R);
  if (!(backend.cholesky(R) > 0)) return false;
  double l = std::sqrt(smallest_eigenvalue(backend, R));
  if (!(l >= kLeastInFloat64)) return false;

  MatrixView P = square(backend, n, U.dtype);
  const MatrixView gram = square(backend, n, U.dtype);
  const bool lift = l * l < kAccurateGramEigenvalue;
  if (lift) {
    const MatrixView T = square(backend, n, DType::f64);
    backend.axpby(1.0, R, 0.0, T);
    const Halley halley(l);
    if (!halley_step(backend, halley, A, T)) return false;
    l = halley(l);
    backend.axpby(1.0, T, 0.0, P);
    backend.gram(P, gram);
  } else {
    backend.axpby(1.0, R, 0.0, P);
    backend.axpby(1.0, A, 0.0, gram);
  }
  if (!iterate(backend, l, gram, P)) return false;

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
