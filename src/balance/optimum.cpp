#include "../formulas.hpp"
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
  const MatrixView s = vector(backend, n), lam = vector(backend, m), ones = vector(backend, n);
  const MatrixView row_p = vector(backend, m), row_q = vector(backend, m);
  const MatrixView col_p = vector(backend, n), col_q = vector(backend, n), total = vector(backend, 1);

  backend.gram(X, V);
  backend.symmetric_eigen(V, w);
  backend.multiply(1.0, X, V, 0.0, Y);
  backend.apply(formulas::Root{}, {w}, {s});  // singular values of X
  backend.apply(formulas::Sum{}, {transposed(s)}, {total});
  const double mean = number_in(backend, total) / static_cast<double>(n);
  const double least = 1e-9 * mean;  // of s_j + lam_i
  backend.fill(1.0, ones);
  backend.axpby(1e-12 * mean, ones, 1.0, s);
  backend.fill(0.0, lam);
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    const formulas::ResolventNewton rows{.target = r, .floor = least - smallest(backend, s)};
    for (int step = 0; step < kNewtonSteps; ++step) {
      backend.apply(formulas::ResolventSums{}, {Y, transposed(s), lam}, {row_p, row_q});
      backend.apply(rows, {row_p, row_q, lam}, {lam});
    }
    const formulas::ResolventNewton columns{.target = 1.0, .floor = least - smallest(backend, lam)};
    for (int step = 0; step < kNewtonSteps; ++step) {
      backend.apply(formulas::ResolventSums{}, {transposed(Y), s, transposed(lam)}, {col_p, col_q});
      backend.apply(columns, {col_p, col_q, s}, {s});
    }
  }
  backend.apply(formulas::Resolvent{}, {Y, transposed(s), lam}, {Y});
  backend.multiply(1.0, Y, transposed(V), 0.0, U);
}

}  // namespace aurora
