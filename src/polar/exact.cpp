#include "exact.hpp"

#include <algorithm>
#include <limits>

#include "../formulas.hpp"
#include "halley.hpp"

namespace aurora {
namespace {

/// X = G / |G|_F and its Gram matrix, in float64.
struct Normalized {
  MatrixView X, gram;
};

Normalized normalized(Backend& backend, ConstMatrixView G) {
  const Normalized result{backend.scratch(G.rows, G.cols, 1, DType::f64, layout_of(G)),
                          backend.scratch(G.cols, G.cols, 1, DType::f64, Layout::column_major)};
  backend.normalize(G, result.X);
  backend.gram(result.X, result.gram);
  return result;
}

/// U = a b, computed in float64.
void wide_product(Backend& backend, ConstMatrixView a, ConstMatrixView b, MatrixView U) {
  if (U.dtype == DType::f64) return backend.multiply(1.0, a, b, 0.0, U);
  const MatrixView product = backend.scratch(U.rows, U.cols, 1, DType::f64, layout_of(U));
  backend.multiply(1.0, a, b, 0.0, product);
  backend.axpby(1.0, product, 0.0, U);
}

/// Number i of a vector, as the reference of a cut.
ConstMatrixView number(ConstMatrixView vector, Index i) {
  vector = transposed(vector);
  vector.data = static_cast<const double*>(vector.data) + i;
  vector.cols = 1;
  return vector;
}

}  // namespace

double polar_cut(const ConstMatrixView& gradient) {
  if (gradient.dtype == DType::f32) return 4 * double{std::numeric_limits<float>::epsilon()};
  return static_cast<double>(std::max(gradient.rows, gradient.cols)) * std::numeric_limits<double>::epsilon();
}

void svd_polar(Backend& backend, ConstMatrixView G, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index m = G.rows, n = G.cols;
  const MatrixView X = backend.scratch(m, n, 1, DType::f64, Layout::column_major);
  const MatrixView Q = backend.scratch(m, n, 1, DType::f64, Layout::column_major);
  const MatrixView V = backend.scratch(n, n, 1, DType::f64, Layout::row_major);
  const MatrixView s = backend.scratch(n, 1, 1, DType::f64), keep = backend.scratch(n, 1, 1, DType::f64);
  backend.normalize(G, X);
  backend.svd(X, Q, s, V);  // s descends
  backend.apply(formulas::Above{.cut = polar_cut(G)}, {s, number(s, 0)}, {keep});
  backend.scale_rows(keep, transposed(Q), transposed(Q));
  wide_product(backend, Q, transposed(V), U);
}

void eigen_polar(Backend& backend, ConstMatrixView G, MatrixView U) {
  const ScratchFrame frame(backend);
  const Index n = G.cols;
  const auto [X, V] = normalized(backend, G);
  const MatrixView P = backend.scratch(n, n, 1, DType::f64, Layout::column_major);
  const MatrixView w = backend.scratch(n, 1, 1, DType::f64), roots = backend.scratch(n, 1, 1, DType::f64);
  const double cut = polar_cut(G);
  backend.symmetric_eigen(V, w);  // X'X = V diag(w) V', w ascends
  backend.apply(formulas::InverseFourthRoot{.cut = cut * cut}, {w, number(w, n - 1)}, {roots});
  backend.scale_rows(roots, transposed(V), transposed(V));
  backend.gram(transposed(V), P);  // (X'X)^-1/2
  wide_product(backend, X, P, U);
}

bool cholesky_polar(Backend& backend, ConstMatrixView G, MatrixView U) {
  const ScratchFrame frame(backend);
  const auto [X, gram] = normalized(backend, G);
  return halley_polar(backend, gram, X, U);
}

void exact_polar(Backend& backend, ConstMatrixView G, MatrixView U) {
  if (G.dtype != DType::f32) return svd_polar(backend, G, U);
  if (!cholesky_polar(backend, G, U)) eigen_polar(backend, G, U);
}

}  // namespace aurora
