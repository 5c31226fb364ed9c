#include "aurora/polar.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "error.hpp"

namespace aurora {
namespace {

/// Least eigenvalue of the Gram matrix, over the largest, that its float32 form resolves to 1e-4: condition
/// number 50.
constexpr double kSinglePrecisionLimit = 4e-4;

/// U = X (X'X)^-1/2 with all arithmetic in `precision`, X = G / |G|_F. Returns false, and leaves U alone,
/// where the smallest eigenvalue of X'X is below `least` of the largest.
bool gram_polar(Backend& backend, ConstMatrixView G, DType precision, double least, double cut,
                MatrixView U) {
  const ScratchFrame frame(backend);
  const Index m = G.rows, n = G.cols, batch = G.batch;
  const MatrixView X = backend.scratch(m, n, batch, precision, layout_of(G));
  const MatrixView V = backend.scratch(n, n, batch, precision, Layout::column_major);
  const MatrixView P = backend.scratch(n, n, batch, precision, Layout::column_major);
  const MatrixView w = backend.scratch(n, 1, batch, precision);
  backend.normalize(G, X);
  backend.gram(X, V);
  backend.symmetric_eigen(V, w);  // X'X = V diag(w) V'
  for (Index b = 0; b < batch && least > 0; ++b) {
    if (!(backend.smallest(matrix_of(w, b)) >= least * backend.largest(matrix_of(w, b)))) return false;
  }
  backend.power_scales(w, 1.0, 0.25, cut * cut, w);  // w^-1/4
  backend.scale_rows(w, transposed(V), transposed(V));
  backend.gram(transposed(V), P);  // (X'X)^-1/2
  if (precision == U.dtype) return backend.multiply(1.0, X, P, 0.0, U), true;
  const MatrixView product = backend.scratch(m, n, batch, precision, layout_of(G));
  backend.multiply(1.0, X, P, 0.0, product);
  backend.axpby(1.0, product, 0.0, U);
  return true;
}

// The squared condition number times the precision bounds the error. Matrices that are clearly tall are often
// well conditioned, and float32 then costs half; square ones hardly ever are. In float64 a condition number
// of 1e6 leaves four digits.
void exact_polar_f32(Backend& backend, ConstMatrixView G, double cut, MatrixView U) {
  const bool clearly_tall = 2 * G.rows >= 3 * G.cols;
  if (clearly_tall && gram_polar(backend, G, DType::f32, kSinglePrecisionLimit, cut, U)) return;
  gram_polar(backend, G, DType::f64, 0.0, cut, U);
}

// A Gram matrix would square the condition number past float64: singular value decomposition.
void exact_polar_f64(Backend& backend, ConstMatrixView G, double cut, MatrixView U) {
  const Index m = G.rows, n = G.cols, batch = G.batch;
  const MatrixView X = backend.scratch(m, n, batch, DType::f64, Layout::column_major);
  const MatrixView Q = backend.scratch(m, n, batch, DType::f64, Layout::column_major);
  const MatrixView V = backend.scratch(n, n, batch, DType::f64, Layout::row_major);
  const MatrixView s = backend.scratch(n, 1, batch, DType::f64);
  backend.normalize(G, X);
  backend.svd(X, Q, s, V);
  backend.power_scales(s, 1.0, 0.0, cut, s);  // 1 above the cut, 0 below
  backend.scale_rows(s, transposed(Q), transposed(Q));
  backend.multiply(1.0, Q, transposed(V), 0.0, U);
}

void iterate_polar(Backend& backend, ConstMatrixView G, const PolarSchedule& schedule, MatrixView U) {
  const Index n = G.cols, batch = G.batch;
  MatrixView X = backend.scratch(G.rows, n, batch, G.dtype, layout_of(G));
  MatrixView Y = backend.scratch(G.rows, n, batch, G.dtype, layout_of(G));
  const MatrixView A = backend.scratch(n, n, batch, G.dtype);
  const MatrixView B = backend.scratch(n, n, batch, G.dtype);
  backend.normalize(G, X);
  backend.axpby(0.0, X, 1.0 / schedule.norm_factor(), X);
  for (const auto& [a, b, c] : schedule.steps()) {
    backend.gram(X, A);           // A = X'X
    backend.axpby(b, A, 0.0, B);  // B = b A + c A^2
    if (c != 0.0) backend.multiply(c, A, A, 1.0, B);
    backend.axpby(a, X, 0.0, Y);  // Y = a X + X B
    backend.multiply(1.0, X, B, 1.0, Y);
    std::swap(X, Y);
  }
  backend.axpby(1.0, X, 0.0, U);
}

}  // namespace

double polar_cut(const ConstMatrixView& gradient) {
  if (gradient.dtype == DType::f32) return 4 * double{std::numeric_limits<float>::epsilon()};
  return static_cast<double>(std::max(gradient.rows, gradient.cols)) * std::numeric_limits<double>::epsilon();
}

void polar(Backend& backend, ConstMatrixView gradient, const PolarSchedule& schedule, MatrixView direction) {
  if (!same_shape(gradient, direction)) {
    fail("polar", "Shapes differ: ", shape_text(gradient), " vs ", shape_text(direction));
  }
  if (gradient.dtype != direction.dtype || gradient.dtype == DType::bf16) {
    fail("polar", "Types must be float32 or float64 and equal: ", name(gradient.dtype), " vs ",
         name(direction.dtype));
  }
  if (gradient.rows < 1 || gradient.cols < 1) fail("polar", "The matrix is empty: ", shape_text(gradient));

  const ScratchFrame frame(backend);
  const ConstMatrixView G = tall(gradient);
  const MatrixView U = tall(direction);
  if (!schedule.exact()) return iterate_polar(backend, G, schedule, U);
  if (!backend.all_finite(G)) fail("polar", "The gradient has an Inf or NaN: ", shape_text(gradient));
  const double cut = polar_cut(G);
  G.dtype == DType::f32 ? exact_polar_f32(backend, G, cut, U) : exact_polar_f64(backend, G, cut, U);
}

}  // namespace aurora
