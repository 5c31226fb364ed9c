#include "row_scales.hpp"

namespace aurora {
namespace {

constexpr double kZeroRow = 1e-30;  // of the longest row

/// Cholesky leverage h_i = |x_i R^-1|^2 is off by about the precision times the square of the condition
/// number; below this ratio of R's diagonal it says too little.
double least_cholesky_ratio(DType dtype) { return dtype == DType::f32 ? 2e-2 : 1e-6; }

}  // namespace

void inverse_row_norms(Backend& backend, ConstMatrixView X, MatrixView d) {
  const ScratchFrame frame(backend);
  const MatrixView h = backend.scratch(X.rows, 1, X.batch, DType::f64);
  backend.row_dots(X, X, h);
  backend.power_scales(h, 1.0, 0.5, kZeroRow * kZeroRow, d);
}

void scaled_leverage(Backend& backend, ConstMatrixView X, ConstMatrixView d, MatrixView h) {
  const ScratchFrame frame(backend);
  const MatrixView Y = backend.scratch(X.rows, X.cols, 1, X.dtype, layout_of(X));
  const MatrixView S = backend.scratch(X.cols, X.cols, 1, X.dtype, Layout::column_major);
  backend.scale_rows(d, X, Y);
  backend.gram(Y, S);
  if (backend.cholesky(S) >= least_cholesky_ratio(X.dtype)) {
    backend.divide_by_upper(S, Y);  // Y = Q of the QR factorisation
  } else {
    polar(backend, Y, kExact, Y);
  }
  backend.row_dots(Y, Y, h);
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
