#include "aurora/polar.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "error.hpp"

namespace aurora {
namespace {

/// Least eigenvalue of the Gram matrix, over the largest, that float32 resolves to 1e-4: condition numbers up
/// to 32.
constexpr double kSinglePrecisionLimit = 1e-3;

/// U = X (X'X)^-1/2 with all arithmetic in `precision`, X = G / |G|_F, for one matrix. Returns false, and
/// leaves U alone, where the smallest eigenvalue of X'X is below `least` of the largest.
bool gram_polar(Backend& backend, ConstMatrixView G, DType precision, double least, double cut,
                MatrixView U) {
  const ScratchFrame frame(backend);
  const Index m = G.rows, n = G.cols;
  const MatrixView X = backend.scratch(m, n, 1, precision, layout_of(G));
  const MatrixView V = backend.scratch(n, n, 1, precision, Layout::column_major);
  const MatrixView P = backend.scratch(n, n, 1, precision, Layout::column_major);
  const MatrixView w = backend.scratch(n, 1, 1, precision);
  backend.normalize(G, X);
  backend.gram(X, V);
  backend.symmetric_eigen(V, w);  // X'X = V diag(w) V'
  if (least > 0 && !(backend.smallest(w) >= least * backend.largest(w))) return false;
  backend.power_scales(w, 1.0, 0.25, cut * cut, w);  // w^-1/4
  backend.scale_rows(w, transposed(V), transposed(V));
  backend.gram(transposed(V), P);  // (X'X)^-1/2
  const MatrixView product = precision == U.dtype ? U : backend.scratch(m, n, 1, precision, layout_of(G));
  backend.multiply(1.0, X, P, 0.0, product);
  if (precision != U.dtype) backend.axpby(1.0, product, 0.0, U);
  return true;
}

// The error is the squared condition number times the precision. Clearly tall matrices are often well
// conditioned, and float32 costs half of float64; square ones hardly ever are.
void exact_polar_f32(Backend& backend, ConstMatrixView G, double cut, MatrixView U) {
  const bool clearly_tall = 2 * G.rows >= 3 * G.cols;
  if (clearly_tall && gram_polar(backend, G, DType::f32, kSinglePrecisionLimit, cut, U)) return;
  gram_polar(backend, G, DType::f64, 0.0, cut, U);
}

// A Gram matrix would square the condition number past float64: singular value decomposition.
void exact_polar_f64(Backend& backend, ConstMatrixView G, double cut, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index m = G.rows, n = G.cols;
  const MatrixView X = backend.scratch(m, n, 1, DType::f64, Layout::column_major);
  const MatrixView Q = backend.scratch(m, n, 1, DType::f64, Layout::column_major);
  const MatrixView V = backend.scratch(n, n, 1, DType::f64, Layout::row_major);
  const MatrixView s = backend.scratch(n, 1, 1, DType::f64);
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
  for (Index b = 0; b < G.batch; ++b) {
    const auto exact_polar = G.dtype == DType::f32 ? exact_polar_f32 : exact_polar_f64;
    exact_polar(backend, matrix_of(G, b), cut, matrix_of(U, b));
  }
}

}  // namespace aurora
