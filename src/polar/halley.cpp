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

MatrixView copy_of(Backend& backend, ConstMatrixView x, DType dtype) {
  const MatrixView copy = backend.scratch(x.rows, x.cols, 1, dtype, layout_of(x));
  backend.axpby(1.0, x, 0.0, copy);
  return copy;
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
/// type. l <- what the step makes of a singular value l. Returns false where I + c S is not positive definite to
/// working precision.
bool halley_step(Backend& backend, const Halley& halley, ConstMatrixView S, MatrixView X, double& l) {
  const ScratchFrame frame(backend);
  const MatrixView Z = square(backend, S.rows, S.dtype), Y = copy_of(backend, X, X.dtype);
  backend.axpby(halley.c, S, 0.0, Z);
  shift_diagonal(backend, 1.0, Z);
  if (!(backend.cholesky(Z) > 0)) return false;
  const ConstMatrixView R = S.dtype == X.dtype ? Z : copy_of(backend, Z, X.dtype);
  backend.divide_by_upper(R, Y);
  backend.divide_by_upper(transposed(R), Y);
  backend.axpby(halley.a - halley.b / halley.c, Y, halley.b / halley.c, X);
  l = halley(l);
  return true;
}

/// p(t) = sum of p_i t^i.
struct Polynomial {
  int degree;
  double p0, p1, p2 = 0, p3 = 0, p4 = 0;
};

/// (1 + t)^-1/2 for |t| <= width <= kQuartic: Taylor's polynomial of degree 1, 2 or 4 with its next term,
/// t^k, replaced by what is left of it without 2 (width / 2)^k T_k(t / width) (Chebyshev's economization):
///   t^2 -> w^2 / 2,  t^3 -> 3/4 w^2 t,  t^5 -> 5/4 w^2 t^3 - 5/16 w^4 t.
Polynomial inverse_root(double width) {
  constexpr double c1 = -1.0 / 2, c2 = 3.0 / 8, c3 = -5.0 / 16, c4 = 35.0 / 128, c5 = -63.0 / 256;
  const double w2 = width * width;
  if (width <= kLinear) return {.degree = 1, .p0 = 1 + c2 * w2 / 2, .p1 = c1};
  if (width <= kQuadratic) return {.degree = 2, .p0 = 1, .p1 = c1 + c3 * w2 * 3 / 4, .p2 = c2};
  return {
      .degree = 4, .p0 = 1, .p1 = c1 - c5 * w2 * w2 * 5 / 16, .p2 = c2, .p3 = c3 + c5 * w2 * 5 / 4, .p4 = c4};
}

/// P = p(W) = p0 I + p1 W + W^2 (p2 I + p3 W + p4 W^2), W symmetric.
void evaluate(Backend& backend, const Polynomial& p, ConstMatrixView W, MatrixView P) {
  const ScratchFrame frame(backend);
  backend.axpby(p.p1, W, 0.0, P);
  if (p.degree > 1) {
    const MatrixView V = square(backend, W.rows, W.dtype);
    backend.gram(W, V);
    if (p.degree == 2) {
      backend.axpby(p.p2, V, 1.0, P);
    } else {
      const MatrixView Q = square(backend, W.rows, W.dtype);
      backend.axpby(p.p3, W, 0.0, Q);
      backend.axpby(p.p4, V, 1.0, Q);
      shift_diagonal(backend, p.p2, Q);
      backend.multiply(1.0, V, Q, 1.0, P);
    }
  }
  shift_diagonal(backend, p.p0, P);
}

/// P = polar(X) for S = X'X, with X's least singular value about l of the largest; X and S are destroyed.
/// Halley's steps until X'X = mean (I + W) with a small W, then P = X (I + W)^-1/2 / sqrt(mean). Returns false
/// where that does not come.
bool iterate(Backend& backend, double l, MatrixView S, MatrixView X, MatrixView P) {
  const Index n = X.rows;
  const MatrixView W = square(backend, n, X.dtype);
  for (int step = 0; step < kMostSteps; ++step) {
    const double norm = frobenius_norm(backend, X), mean = norm * norm / static_cast<double>(n);
    backend.axpby(1 / mean, S, 0.0, W);
    shift_diagonal(backend, -1.0, W);
    const double width = kWidthError * largest_eigenvalue(backend, W);
    if (width <= kQuartic) {
      evaluate(backend, inverse_root(width), W, S);
      backend.multiply(1 / std::sqrt(mean), X, S, 0.0, P);
      return true;
    }
    if (!halley_step(backend, Halley(std::clamp(l, kLeastInFloat32, 0.999)), S, X, l)) return false;
    backend.gram(X, S);
  }
  return false;
}

/// P = polar(X), in P's type, for a square X with singular values in about [l, 1]; X is destroyed. gram(type) is
/// X'X in that type, in memory of its own. The first step may be one on the Gram matrix in float64.
template <class Gram>
bool square_polar(Backend& backend, double l, bool first_in_float64, Gram&& gram, MatrixView X,
                  MatrixView P) {
  if (first_in_float64 && !halley_step(backend, Halley(l), gram(DType::f64), X, l)) return false;
  if (X.dtype != P.dtype) X = copy_of(backend, X, P.dtype);
  const MatrixView S = first_in_float64 ? square(backend, X.rows, X.dtype) : gram(X.dtype);
  if (first_in_float64) backend.gram(X, S);
  return iterate(backend, l, S, X, P);
}

}  // namespace

double eigenvalue_ratio(Backend& backend, ConstMatrixView R) {
  return smallest_eigenvalue(backend, R) / largest_squared(backend, R);
}

bool product_polar(Backend& backend, ConstMatrixView Q, ConstMatrixView R, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index n = Q.cols;
  const MatrixView S = square(backend, n, Q.dtype);
  backend.gram(Q, S);
  if (!(backend.cholesky(S) > 0) || eigenvalue_ratio(backend, S) < kOrthogonalGramEigenvalue) return false;
  const MatrixView T = copy_of(backend, S, S.dtype);
  backend.multiply_by_upper(R, T);  // T = S R

  const double largest = largest_squared(backend, T);
  const double l = std::sqrt(smallest_eigenvalue(backend, T) / largest);
  if (!(l >= kLeastInFloat64)) return false;
  backend.axpby(1 / std::sqrt(largest), T, 0.0, T);
  const auto row_gram = [&](DType type) {
    const MatrixView gram = square(backend, n, type);
    backend.upper_row_gram(type == T.dtype ? T : copy_of(backend, T, type), gram);
    return gram;
  };
  const MatrixView X = transposed(T), P = like(backend, X);  // X'X = T T' is the cheaper product
  if (!square_polar(backend, l, l < kLeastInFloat32, row_gram, X, P)) return false;
  backend.divide_by_upper(transposed(S), P);  // P' = S^-1 polar(T)
  backend.multiply(1.0, Q, transposed(P), 0.0, U);
  return true;
}

bool halley_polar(Backend& backend, ConstMatrixView S, MatrixView X, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index n = X.cols;
  const double largest = largest_eigenvalue(backend, S);
  const MatrixView A = square(backend, n, DType::f64);
  backend.axpby(1 / largest, S, 0.0, A);
  const MatrixView R = copy_of(backend, A, DType::f64);
  if (!(backend.cholesky(R) > 0)) return false;  // A = R'R
  const double l = std::sqrt(smallest_eigenvalue(backend, R));
  if (!(l >= kLeastInFloat64)) return false;

  const bool lift = l * l < kAccurateGramEigenvalue;
  const auto gram = [&](DType type) { return type == A.dtype ? A : copy_of(backend, A, type); };
  const MatrixView T = copy_of(backend, R, lift ? DType::f64 : U.dtype), P = square(backend, n, U.dtype);
  if (!square_polar(backend, l, lift, gram, T, P)) return false;

  if (lift) {
    backend.divide_by_upper(R, X);
  } else {
    backend.divide_by_upper(transposed(copy_of(backend, R, U.dtype)), transposed(P));  // R^-1 polar(R)
  }
  const MatrixView Q = backend.scratch(X.rows, n, 1, U.dtype, layout_of(X));
  backend.axpby(1 / std::sqrt(largest), X, 0.0, Q);
  backend.multiply(1.0, Q, P, 0.0, U);
  return true;
}

}  // namespace aurora
