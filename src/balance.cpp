#include "aurora/balance.hpp"

#include <algorithm>

#include "row_scales.hpp"

namespace aurora {
namespace {

constexpr int kOptimumEvaluations = 6;  // bring the rows within 1e-3 of each other

void release_balance(Backend& backend, ConstMatrixView X, const BalanceOptions& options, MatrixView U) {
  const ScratchFrame frame(backend);
  const double r = static_cast<double>(X.cols) / static_cast<double>(X.rows);
  const MatrixView h = backend.scratch(X.rows, 1, X.batch, DType::f64);
  const MatrixView d = backend.scratch(X.rows, 1, X.batch, DType::f64);
  inverse_row_norms(backend, X, d);
  for (int k = 1;; ++k) {
    scaled_polar(backend, X, d, options.polar, U, h);
    if (k == options.pp_iterations) return;
    backend.power_scales(h, r, options.pp_beta, 0.0, h);
    backend.scale_rows(h, d, d);  // d <- d (r / |u|^2)^beta
    backend.normalize(d, d);      // only ratios matter; this keeps them from overflowing
  }
}

/// One matrix, the first time from cold.
void carried_balance(Backend& backend, ConstMatrixView X, const BalanceOptions& options,
                     MatrixView row_scales, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView d = backend.scratch(X.rows, 1, 1, DType::f64),
                   e = backend.scratch(X.rows, 1, 1, DType::f64);
  const MatrixView h = backend.scratch(X.rows, 1, 1, DType::f64);
  inverse_row_norms(backend, X, e);
  if (backend.largest(e) == 0) return backend.fill(0.0, U);  // nothing to learn the scales from
  backend.axpby(1.0, row_scales, 0.0, d);
  const bool cold = backend.largest(d) == 0;
  backend.adopt_scales(e, d);
  if (cold) {
    odds_balance(backend, X, options.pp_iterations, options.polar, d, U);
    backend.row_dots(U, U, h);
  } else {
    scaled_polar(backend, X, d, options.polar, U, h);
  }
  backend.tyler_step(h, d);
  backend.axpby(1.0, d, 0.0, row_scales);
}

void balance_one(Backend& backend, ConstMatrixView X, const BalanceOptions& options, MatrixView row_scales,
                 MatrixView U) {
  const ScratchFrame frame(backend);
  if (options.balance == Balance::carried) return carried_balance(backend, X, options, row_scales, U);
  const MatrixView d = backend.scratch(X.rows, 1, 1, DType::f64);
  if (options.balance == Balance::optimum) {
    const MatrixView W = backend.scratch(X.rows, X.cols, 1, X.dtype, layout_of(X));
    closed_form_optimum(backend, X, W);
    inverse_row_norms(backend, W, d);
    return odds_balance(backend, W, std::max(kOptimumEvaluations, options.pp_iterations), options.polar, d,
                        U);
  }
  inverse_row_norms(backend, X, d);
  odds_balance(backend, X, options.pp_iterations, options.polar, d, U);
}

}  // namespace

bool balances(Sides sides, Index rows, Index cols) {
  return sides == Sides::rows ? rows > cols : rows != cols;
}

void balanced_polar(Backend& backend, ConstMatrixView gradient, const BalanceOptions& options,
                    std::span<const MatrixView> row_scales, MatrixView direction) {
  require_matching("balanced_polar", gradient, direction);
  if (options.pp_iterations < 1)
    fail("balanced_polar", "pp_iterations must be >= 1: ", options.pp_iterations);
  if (!(options.pp_beta > 0)) fail("balanced_polar", "pp_beta must be > 0: ", options.pp_beta);
  if (!balances(options.sides, gradient.rows, gradient.cols)) {
    return polar(backend, gradient, options.polar, direction);
  }
  const bool carried = options.balance == Balance::carried;
  const ConstMatrixView G = tall(gradient);
  const MatrixView U = tall(direction);
  if (carried && static_cast<Index>(row_scales.size()) != G.batch) {
    fail("balanced_polar", "Carried scales need one row state per matrix: ", G.batch, " vs ",
         row_scales.size());
  }
  const ScratchFrame frame(backend);
  const MatrixView X = backend.scratch(G.rows, G.cols, G.batch, G.dtype, layout_of(G));
  backend.normalize(G, X);
  if (options.balance == Balance::release) return release_balance(backend, X, options, U);
  if (options.balance == Balance::odds && backend.asynchronous()) {
    const MatrixView d = backend.scratch(X.rows, 1, X.batch, DType::f64);
    inverse_row_norms(backend, X, d);
    return odds_balance_asynchronous(backend, X, options.pp_iterations, options.polar, d, U);
  }
  if (!backend.all_finite(X))
    fail("balanced_polar", "The gradient has an Inf or NaN: ", shape_text(gradient));
  for (Index b = 0; b < G.batch; ++b) {
    balance_one(backend, matrix_of(X, b), options,
                carried ? row_scales[static_cast<std::size_t>(b)] : MatrixView{}, matrix_of(U, b));
  }
}

}  // namespace aurora
