#include "aurora/polar.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "error.hpp"
#include "halley.hpp"

namespace aurora {
namespace {

bool clearly_tall(const ConstMatrixView& G) { return 2 * G.rows >= 3 * G.cols; }

/// U = X (X'X)^-1/2 for X = G / |G|_F: the Gram matrix in float64, then with `halley` by that iteration where
/// X's condition number allows it, else by an eigen-decomposition.
void gram_polar(Backend& backend, ConstMatrixView G, double cut, bool halley, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index m = G.rows, n = G.cols;
  const MatrixView X = backend.scratch(m, n, 1, DType::f64, layout_of(G));
  const MatrixView V = backend.scratch(n, n, 1, DType::f64, Layout::column_major);
  backend.normalize(G, X);
  backend.gram(X, V);
  if (halley && halley_polar(backend, V, X, U)) return;
  const MatrixView P = backend.scratch(n, n, 1, DType::f64, Layout::column_major);
  const MatrixView w = backend.scratch(n, 1, 1, DType::f64);
  backend.symmetric_eigen(V, w);                     // X'X = V diag(w) V'
  backend.power_scales(w, 1.0, 0.25, cut * cut, w);  // w^-1/4
  backend.scale_rows(w, transposed(V), transposed(V));
  backend.gram(transposed(V), P);  // (X'X)^-1/2
  const MatrixView product = U.dtype == DType::f64 ? U : backend.scratch(m, n, 1, DType::f64, layout_of(G));
  backend.multiply(1.0, X, P, 0.0, product);
  if (U.dtype != DType::f64) backend.axpby(1.0, product, 0.0, U);
}

// A Gram matrix would square the condition number past float64: singular value decomposition.
void svd_polar(Backend& backend, ConstMatrixView G, double cut, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index m = G.rows, n = G.cols;
  const MatrixView X = backend.scratch(m, n, 1, DType::f64, Layout::column_major);
  const MatrixView Q = backend.scratch(m, n, 1, DType::f64, Layout::column_major);
  const MatrixView V = backend.scratch(n, n, 1, DType::f64, Layout::row_major);
  const MatrixView s = backend.scratch(n, 1, 1, DType::f64);
  const MatrixView product = U.dtype == DType::f64 ? U : backend.scratch(m, n, 1, DType::f64, layout_of(G));
  backend.normalize(G, X);
  backend.svd(X, Q, s, V);
  backend.power_scales(s, 1.0, 0.0, cut, s);  // 1 above the cut, 0 below
  backend.scale_rows(s, transposed(Q), transposed(Q));
  backend.multiply(1.0, Q, transposed(V), 0.0, product);
  if (U.dtype != DType::f64) backend.axpby(1.0, product, 0.0, U);
}

/// The one place that decides how an exact polar factor of one matrix is reached.
void exact_polar(Backend& backend, ConstMatrixView G, const PolarSchedule& schedule, MatrixView U) {
  const double cut = polar_cut(G);
  const bool single = G.dtype == DType::f32;
  if (schedule == kExactSvd || (schedule == kExact && !single)) return svd_polar(backend, G, cut, U);
  gram_polar(backend, G, cut, single && schedule != kExactEigen, U);
}

/// Whether step k of `steps` is the last before a product with the tall matrix. Float16 leaves errors of 5e-4
/// of its largest eigenvalue in R, and a step multiplies those of the smallest by a^2, 67 in polar-express's
/// first: after a third step without a fresh R a matrix with singular values of 1 and 0.01 would be off by
/// half, and diverge. The last block may have three: its a are small.
bool ends_block(std::size_t k, std::size_t steps) { return k + 1 == steps || (k % 2 == 1 && k + 2 < steps); }

/// The steps of a schedule on n x n matrices alone: with R = X'X and P = a I + b R + c R^2, a step is X <- X
/// P and R <- P R P. The P of a block of steps are collected in Q, then X <- X Q, and R is computed afresh.
void gram_iterate(Backend& backend, std::span<const Quintic> steps, MatrixView& X, MatrixView& Y) {
  const Index n = X.cols;
  const auto square = [&] { return backend.scratch(n, n, X.batch, X.dtype); };
  MatrixView R = square(), Z = square(), T = square(), Q = square();
  const MatrixView ones = backend.scratch(n, 1, X.batch, X.dtype);
  backend.fill(1.0, ones);
  for (std::size_t k = 0, begin = 0; k < steps.size(); ++k) {
    const auto [a, b, c] = steps[k];
    const bool first = k == begin, last = ends_block(k, steps.size());
    if (first) backend.gram(X, R);
    backend.axpby(b, R, 0.0, Z);  // Z = P - a I
    if (c != 0.0) backend.multiply(c, R, R, 1.0, Z);
    if (first) {
      backend.axpby(1.0, Z, 0.0, Q);
      MatrixView diagonal = Q;
      diagonal.cols = 1;
      diagonal.row_stride = n + 1;
      backend.axpby(a, ones, 1.0, diagonal);
    } else {
      backend.axpby(a, Q, 0.0, T);
      backend.multiply(1.0, Q, Z, 1.0, T);
      std::swap(Q, T);
    }
    if (last) {
      backend.multiply(1.0, X, Q, 0.0, Y);
      std::swap(X, Y);
      begin = k + 1;
    } else {
      backend.axpby(a, R, 0.0, T);  // T = R P
      backend.multiply(1.0, R, Z, 1.0, T);
      backend.axpby(a, T, 0.0, R);  // R = P T
      backend.multiply(1.0, Z, T, 1.0, R);
    }
  }
}

void iterate_polar(Backend& backend, ConstMatrixView G, const PolarSchedule& schedule, MatrixView U) {
  const Index n = G.cols, batch = G.batch;
  const DType type = G.dtype == DType::f32 ? backend.product_type() : G.dtype;
  MatrixView X = backend.scratch(G.rows, n, batch, type, layout_of(G));
  MatrixView Y = backend.scratch(G.rows, n, batch, type, layout_of(G));
  backend.normalize(G, X);
  backend.axpby(0.0, X, 1.0 / schedule.norm_factor(), X);
  if (backend.asynchronous() && clearly_tall(G)) {
    gram_iterate(backend, schedule.steps(), X, Y);
    return backend.axpby(1.0, X, 0.0, U);
  }
  const MatrixView A = backend.scratch(n, n, batch, type);
  const MatrixView B = backend.scratch(n, n, batch, type);
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
  if (gradient.dtype != direction.dtype || !is_wide(gradient.dtype)) {
    fail("polar", "Types must be float32 or float64 and equal: ", name(gradient.dtype), " vs ",
         name(direction.dtype));
  }
  if (gradient.rows < 1 || gradient.cols < 1) fail("polar", "The matrix is empty: ", shape_text(gradient));

  const ScratchFrame frame(backend);
  const ConstMatrixView G = tall(gradient);
  const MatrixView U = tall(direction);
  if (!schedule.exact()) return iterate_polar(backend, G, schedule, U);
  if (schedule == kExact && backend.asynchronous() && G.dtype == DType::f32) {
    return iterate_polar(backend, G, kPolarExpress7, U);
  }
  if (!backend.all_finite(G)) fail("polar", "The gradient has an Inf or NaN: ", shape_text(gradient));
  for (Index b = 0; b < G.batch; ++b) exact_polar(backend, matrix_of(G, b), schedule, matrix_of(U, b));
}

}  // namespace aurora
