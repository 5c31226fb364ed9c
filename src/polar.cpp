#include "aurora/polar.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "error.hpp"
#include "halley.hpp"

namespace aurora {
namespace {

/// U = X (X'X)^-1/2 in float64, X = G / |G|_F.
void eigen_polar(Backend& backend, ConstMatrixView G, double cut, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index m = G.rows, n = G.cols;
  const MatrixView X = backend.scratch(m, n, 1, DType::f64, layout_of(G));
  const MatrixView V = backend.scratch(n, n, 1, DType::f64, Layout::column_major);
  const MatrixView P = backend.scratch(n, n, 1, DType::f64, Layout::column_major);
  const MatrixView w = backend.scratch(n, 1, 1, DType::f64);
  backend.normalize(G, X);
  backend.gram(X, V);
  backend.symmetric_eigen(V, w);                     // X'X = V diag(w) V'
  backend.power_scales(w, 1.0, 0.25, cut * cut, w);  // w^-1/4
  backend.scale_rows(w, transposed(V), transposed(V));
  backend.gram(transposed(V), P);  // (X'X)^-1/2
  const MatrixView product = U.dtype == DType::f64 ? U : backend.scratch(m, n, 1, DType::f64, layout_of(G));
  backend.multiply(1.0, X, P, 0.0, product);
  if (U.dtype != DType::f64) backend.axpby(1.0, product, 0.0, U);
}

/// U = polar(G) in float32. Returns false, and leaves U alone, where G is too ill-conditioned.
bool halley_polar_f32(Backend& backend, ConstMatrixView G, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index n = G.cols;
  const MatrixView X = backend.scratch(G.rows, n, 1, DType::f32, layout_of(G));
  const MatrixView R = backend.scratch(n, n, 1, DType::f32, Layout::column_major);
  backend.normalize(G, X);
  const double least = triangular_factor(backend, X, R);
  if (least < kLeastGramEigenvalue) return false;
  if (least >= kAccurateGramEigenvalue) {
    const MatrixView T = backend.scratch(n, n, 1, DType::f32, Layout::column_major);
    backend.axpby(1.0, R, 0.0, T);
    return halley_polar(backend, X, R, T, U);
  }
  backend.divide_by_upper(R, X);
  return product_polar(backend, X, R, U);
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
  // Square matrices are hardly ever well conditioned: trying would be a waste.
  const bool clearly_tall = 2 * G.rows >= 3 * G.cols;
  const bool try_halley = single && (schedule == kExactHalley || (schedule == kExact && clearly_tall));
  if (try_halley && halley_polar_f32(backend, G, U)) return;
  eigen_polar(backend, G, cut, U);
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
  for (Index b = 0; b < G.batch; ++b) exact_polar(backend, matrix_of(G, b), schedule, matrix_of(U, b));
}

}  // namespace aurora
