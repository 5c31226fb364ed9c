#include "aurora/balance.hpp"

#include <algorithm>

#include "../formulas.hpp"
#include "row_scales.hpp"

namespace aurora {
namespace {

constexpr int kOptimumEvaluations = 6;  // bring the rows within 1e-3 of each other

void release_balance(Backend& backend, ConstMatrixView X, const BalanceOptions& options, MatrixView U) {
  const ScratchFrame frame(backend);
  const double r = static_cast<double>(X.cols) / static_cast<double>(X.rows);
  const MatrixView h = vector(backend, X.rows, X.batch), d = vector(backend, X.rows, X.batch);
  inverse_row_norms(backend, X, d);
  for (int k = 1;; ++k) {
    scaled_polar(backend, X, d, options, U, h);
    if (k == options.pp_iterations) return;
    backend.apply(formulas::ReleaseStep{.r = r, .beta = options.pp_beta}, {h, d}, {d});
    backend.normalize(d, d);  // only ratios matter; this keeps them from overflowing
  }
}

/// d for the rows with inverse norms e: what is there, where it fits; see Balance.
void adopt(Backend& backend, ConstMatrixView e, MatrixView d) {
  const ScratchFrame frame(backend);
  const MatrixView logs = vector(backend, 1), count = vector(backend, 1);
  backend.apply(formulas::AdoptSums{}, {transposed(d), transposed(e)}, {logs, count});
  backend.apply(formulas::Adopt{}, {d, e, logs, count}, {d});
}

/// One matrix, the first time from cold.
void carried_balance(Backend& backend, ConstMatrixView X, const BalanceOptions& options,
                     MatrixView row_scales, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView d = vector(backend, X.rows), e = vector(backend, X.rows), h = vector(backend, X.rows);
  inverse_row_norms(backend, X, e);
  if (largest(backend, e) == 0) return backend.fill(0.0, U);  // nothing to learn the scales from
  copy(backend, row_scales, d);
  const bool cold = largest(backend, d) == 0;
  adopt(backend, e, d);
  if (cold) {
    odds_balance(backend, X, options.pp_iterations, options, d, U);
    backend.row_dots(U, U, h);
  } else {
    scaled_polar(backend, X, d, options, U, h);
  }
  tyler_step(backend, h, d);
  copy(backend, d, row_scales);
}

void optimum_balance(Backend& backend, ConstMatrixView X, const BalanceOptions& options, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView d = vector(backend, X.rows);
  const MatrixView W = backend.scratch(X.rows, X.cols, 1, X.dtype, layout_of(X));
  closed_form_optimum(backend, X, W);
  inverse_row_norms(backend, W, d);
  odds_balance(backend, W, std::max(kOptimumEvaluations, options.pp_iterations), options, d, U);
}

void balance_one(Backend& backend, ConstMatrixView X, const BalanceOptions& options, MatrixView row_scales,
                 MatrixView U) {
  if (options.balance == Balance::carried) return carried_balance(backend, X, options, row_scales, U);
  if (options.balance == Balance::optimum) return optimum_balance(backend, X, options, U);
  const ScratchFrame frame(backend);
  const MatrixView d = vector(backend, X.rows);
  inverse_row_norms(backend, X, d);
  odds_balance(backend, X, options.pp_iterations, options, d, U);
}

}  // namespace

bool balances(Sides sides, Index rows, Index cols) {
  return sides == Sides::rows ? rows > cols : rows != cols;
}

double balanced_polar_cost(const BalanceOptions& options, Index rows, Index cols, Device device) {
  const double factor = polar_cost(options.polar, rows, cols, device);
  if (!balances(options.sides, rows, cols)) return factor;
  const auto m = static_cast<double>(std::max(rows, cols)), n = static_cast<double>(std::min(rows, cols));
  const double leverage = 4 * m * n * n + 2 * n * n * n;  // a Gram matrix, a Cholesky factor, a solve
  const double more = options.pp_iterations - 1;
  switch (options.balance) {
    case Balance::odds:
      return factor + more * leverage;
    case Balance::release:
      return (1 + more) * factor;
    case Balance::carried:
      return factor;
    case Balance::optimum:
      break;
  }
  const double eigen = 60 * n * n * n + 4 * m * n * n;  // eigenvectors of X'X, and two products with them
  return eigen + factor + std::max<double>(kOptimumEvaluations - 1, more) * leverage;
}

void balanced_polar(Backend& backend, ConstMatrixView gradient, const BalanceOptions& options,
                    MatrixView direction, MatrixView row_scales) {
  gradient = checked("balanced_polar", "The gradient", gradient);
  direction = checked("balanced_polar", "The direction", direction);
  require_matching("balanced_polar", gradient, direction);
  if (may_overlap(gradient, direction)) {
    fail("balanced_polar", "Gradient and direction share memory: ", shape_text(gradient));
  }
  if (options.pp_iterations < 1)
    fail("balanced_polar", "pp_iterations must be >= 1: ", options.pp_iterations);
  if (!(options.pp_beta > 0)) fail("balanced_polar", "pp_beta must be > 0: ", options.pp_beta);
  if (!balances(options.sides, gradient.rows, gradient.cols)) {
    return polar(backend, gradient, options.polar, direction, options.precision);
  }
  const bool carried = options.balance == Balance::carried;
  const ConstMatrixView G = tall(gradient);
  const MatrixView U = tall(direction);
  if (carried) {
    row_scales = checked("balanced_polar", "The row scales", row_scales);
    if (row_scales.rows != G.rows || row_scales.cols != 1 || row_scales.batch != G.batch ||
        !is_wide(row_scales.dtype)) {
      fail("balanced_polar",
           "Carried scales are one float32 or float64 number per balanced row: ", shape_text(row_scales), " ",
           name(row_scales.dtype), " for ", shape_text(G));
    }
  }
  const ScratchFrame frame(backend);
  const MatrixView X = backend.scratch(G.rows, G.cols, G.batch, G.dtype, layout_of(G));
  backend.normalize(G, X);
  if (options.balance == Balance::release) return release_balance(backend, X, options, U);
  const bool may_wait =
      backend.device() == Device::cpu || resolved(options.polar, backend.device(), G.dtype) == Polar::exact;
  if (options.balance == Balance::odds && !may_wait) {
    const MatrixView d = vector(backend, X.rows, X.batch);
    inverse_row_norms(backend, X, d);
    return odds_balance_by_selection(backend, X, options.pp_iterations, options, d, U);
  }
  if (!all_finite(backend, X))
    fail("balanced_polar", "The gradient has an Inf or NaN: ", shape_text(gradient));
  for (Index b = 0; b < G.batch; ++b) {
    balance_one(backend, matrix_of(X, b), options, carried ? matrix_of(row_scales, b) : MatrixView{},
                matrix_of(U, b));
  }
}

}  // namespace aurora
