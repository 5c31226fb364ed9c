#include "row_scales.hpp"

#include "halley.hpp"

namespace aurora {
namespace {

constexpr double kZeroRow = 1e-30;  // of the longest row

/// Cholesky leverage h_i = |x_i R^-1|^2 is off by about the precision times the square of the condition
/// number; below this ratio of R's diagonal it says too little.
double least_cholesky_ratio(DType dtype) { return dtype == DType::f32 ? 2e-2 : 1e-6; }

/// diag(d) X = Q R and h_i = |q_i|^2, in Q's type. Returns false where that is too inexact.
bool cholesky_leverage(Backend& backend, ConstMatrixView X, ConstMatrixView d, MatrixView Q, MatrixView R,
                       MatrixView h) {
  backend.scale_rows(d, X, Q);
  backend.gram(Q, R);
  if (backend.cholesky(R) < least_cholesky_ratio(Q.dtype)) return false;
  backend.divide_by_upper(R, Q);
  backend.row_dots(Q, Q, h);
  return true;
}

}  // namespace

void inverse_row_norms(Backend& backend, ConstMatrixView X, MatrixView d) {
  const ScratchFrame frame(backend);
  const MatrixView h = backend.scratch(X.rows, 1, X.batch, DType::f64);
  backend.row_dots(X, X, h);
  backend.power_scales(h, 1.0, 0.5, kZeroRow * kZeroRow, d);
}

void scaled_leverage(Backend& backend, ConstMatrixView X, ConstMatrixView d, ScaledFactors& factors,
                     MatrixView h) {
  backend.axpby(1.0, d, 0.0, factors.d);
  factors.known = cholesky_leverage(backend, X, d, factors.q, factors.r, h);
  if (factors.known) return;
  const ScratchFrame frame(backend);
  if (X.dtype == DType::f32) {
    const MatrixView Q = backend.scratch(X.rows, X.cols, 1, DType::f64, layout_of(X));
    const MatrixView R = backend.scratch(X.cols, X.cols, 1, DType::f64, Layout::column_major);
    if (cholesky_leverage(backend, X, d, Q, R, h)) return;
  }
  scaled_polar(backend, X, d, kExact, factors.q, h);
}

void scaled_polar(Backend& backend, ConstMatrixView X, ConstMatrixView d, const PolarSchedule& schedule,
                  const ScaledFactors& factors, MatrixView U, MatrixView h) {
  if (factors.known && schedule == kExact && X.dtype == DType::f32) {
    const ScratchFrame frame(backend);
    const MatrixView Q = backend.scratch(X.rows, X.cols, 1, X.dtype, layout_of(X));
    const MatrixView c = backend.scratch(X.rows, 1, 1, DType::f64);
    backend.power_scales(factors.d, 1.0, 1.0, 0.0, c);
    backend.scale_rows(d, c, c);
    backend.scale_rows(c, factors.q, Q);  // diag(d) X = diag(c) Q R
    if (product_polar(backend, Q, factors.r, U)) return backend.row_dots(U, U, h);
  }
  scaled_polar(backend, X, d, schedule, U, h);
}

void scaled_polar(Backend& backend, ConstMatrixView X, ConstMatrixView d, const PolarSchedule& schedule,
                  MatrixView U, MatrixView h) {
  const ScratchFrame frame(backend);
  const MatrixView Y = backend.scratch(X.rows, X.cols, X.batch, X.dtype, layout_of(X));
  backend.scale_rows(d, X, Y);
  polar(backend, Y, schedule, U);
  backend.row_dots(U, U, h);
}

}  // namespace aurora
