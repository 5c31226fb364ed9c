#include "row_scales.hpp"

#include "halley.hpp"

namespace aurora {
namespace {

constexpr double kZeroRow = 1e-30;  // of the longest row

constexpr double kAloneError = 1e-7;  // of h, below which a row of leverage 1 is known as one

/// diag(d) X = Q R and h_i = |q_i|^2, in the type of Q and R. With a factor of the Gram matrix h is off by up
/// to the precision times the square of the condition number, mostly a twentieth of that. It only steers the
/// scales, but a step takes (1 - h) / h. Returns false above condition numbers of 3000 (h was seen off by 2.4
/// %) or 3e6, and where a leverage is nearer to 1 than h is exact.
bool cholesky_leverage(Backend& backend, ConstMatrixView X, ConstMatrixView d, MatrixView Q, MatrixView R,
                       MatrixView h) {
  const bool single = Q.dtype == DType::f32;
  backend.scale_rows(d, X, Q);
  backend.gram(Q, R);
  if (!(backend.cholesky(R) > 0)) return false;
  const double ratio = eigenvalue_ratio(backend, R);
  if (!(ratio >= (single ? 1e-7 : 1e-13))) return false;
  backend.divide_by_upper(R, Q);
  backend.row_dots(Q, Q, h);
  const double error = 0.05 * (single ? 0x1p-24 : 0x1p-53) / ratio;
  return error < kAloneError || backend.largest(h) < 1 - 4 * error;
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
    factors.known = cholesky_leverage(backend, X, d, Q, R, h);
    backend.axpby(1.0, Q, 0.0, factors.q);
    backend.axpby(1.0, R, 0.0, factors.r);
    if (factors.known) return;
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
