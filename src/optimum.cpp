#include <cmath>

#include "row_scales.hpp"

namespace aurora {

// Stationarity of <X, U> under both constraints reads X = U S + diag(lam) U, so row i of U is x_i (S + lam_i
// I)^-1. With the eigenvectors of S frozen at X's right singular vectors V and Y = X V, the rest is m + n
// numbers: U V = y_ij / (s_j + lam_i) with rows of squared length r and columns of length 1.
void closed_form_optimum(Backend& backend, ConstMatrixView X, MatrixView U) {
  constexpr int kSweeps = 4, kNewtonSteps = 3;
  const ScratchFrame frame(backend);
  const Index m = X.rows, n = X.cols;
  const double r = static_cast<double>(n) / static_cast<double>(m);
  const MatrixView V = backend.scratch(n, n, 1, X.dtype, Layout::column_major);
  const MatrixView w = backend.scratch(n, 1, 1, X.dtype);
  const MatrixView Y = backend.scratch(m, n, 1, X.dtype, layout_of(X));
  const MatrixView s = backend.scratch(n, 1, 1, DType::f64), lam = backend.scratch(m, 1, 1, DType::f64);
  const MatrixView row_p = backend.scratch(m, 1, 1, DType::f64), row_q = backend.scratch(m, 1, 1, DType::f64);
  const MatrixView col_p = backend.scratch(n, 1, 1, DType::f64), col_q = backend.scratch(n, 1, 1, DType::f64);
  const MatrixView ones = backend.scratch(n, 1, 1, DType::f64), total = backend.scratch(1, 1, 1, DType::f64);

  backend.gram(X, V);
  backend.symmetric_eigen(V, w);
  backend.multiply(1.0, X, V, 0.0, Y);
  backend.power_scales(w, 1.0, -0.5, 0.0, s);  // singular values of X
  backend.fill(1.0, ones);
  backend.multiply(1.0, transposed(ones), s, 0.0, total);
  double mean = 0;
  backend.download(total, {&mean, 1});
  mean /= static_cast<double>(n);
  const double least = 1e-9 * mean;  // of s_j + lam_i
  backend.axpby(1e-12 * mean, ones, 1.0, s);
  backend.fill(0.0, lam);
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    const double lam_floor = least - backend.smallest(s);
    for (int step = 0; step < kNewtonSteps; ++step) {
      backend.resolvent_sums(Y, s, lam, row_p, row_q);
      backend.resolvent_newton(row_p, row_q, r, lam_floor, lam);
    }
    const double s_floor = least - backend.smallest(lam);
    for (int step = 0; step < kNewtonSteps; ++step) {
      backend.resolvent_sums(transposed(Y), lam, s, col_p, col_q);
      backend.resolvent_newton(col_p, col_q, 1.0, s_floor, s);
    }
  }
  backend.resolvent(Y, s, lam, Y);
  backend.multiply(1.0, Y, transposed(V), 0.0, U);
}

}  // namespace aurora
