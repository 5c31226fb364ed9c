#include "row_scales.hpp"

#include "../formulas.hpp"
#include "../polar/halley.hpp"

namespace aurora {
namespace {

constexpr double kZeroRow = 1e-30;  // of |X|_F

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
  return error < kAloneError || largest(backend, h) < 1 - 4 * error;
}

/// Over the rows that take part; one of each per matrix.
struct Sums {
  MatrixView count, roots, total;
  Sums(Backend& backend, ConstMatrixView h, ConstMatrixView d)
      : count(vector(backend, 1, h.batch)),
        roots(vector(backend, 1, h.batch)),
        total(vector(backend, 1, h.batch)) {
    backend.apply(formulas::BalanceSums{}, {transposed(h), transposed(d)}, {count, roots, total});
  }
};

void balance_step(Backend& backend, const Formula& step, ConstMatrixView h, MatrixView d) {
  const ScratchFrame frame(backend);
  const Sums sums(backend, h, d);
  backend.apply(step, {h, d, sums.count, sums.total}, {d});
  backend.normalize(d, d);
}

}  // namespace

void inverse_row_norms(Backend& backend, ConstMatrixView X, MatrixView d) {
  const ScratchFrame frame(backend);
  const MatrixView h = vector(backend, X.rows, X.batch), total = vector(backend, 1, X.batch);
  backend.row_dots(X, X, h);
  backend.apply(formulas::Sum{}, {transposed(h)}, {total});
  backend.apply(formulas::InverseRoot{.cut = kZeroRow * kZeroRow}, {h, total}, {d});
}

void odds_step(Backend& backend, ConstMatrixView h, MatrixView d) {
  balance_step(backend, formulas::OddsStep{}, h, d);
}
void tyler_step(Backend& backend, ConstMatrixView h, MatrixView d) {
  balance_step(backend, formulas::TylerStep{}, h, d);
}

void spread(Backend& backend, ConstMatrixView h, ConstMatrixView d, MatrixView s) {
  const ScratchFrame frame(backend);
  const Sums sums(backend, h, d);
  backend.apply(formulas::Spread{}, {sums.count, sums.roots, sums.total}, {s});
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
  scaled_polar(backend, X, d, {.polar = Polar::exact}, factors.q, h);
}

void scaled_polar(Backend& backend, ConstMatrixView X, ConstMatrixView d, const BalanceOptions& options,
                  const ScaledFactors& factors, MatrixView U, MatrixView h) {
  if (factors.known && X.dtype == DType::f32 && resolved(options.polar, backend.device()) == Polar::exact) {
    const ScratchFrame frame(backend);
    const MatrixView Q = backend.scratch(X.rows, X.cols, 1, X.dtype, layout_of(X));
    const MatrixView c = backend.scratch(X.rows, 1, 1, DType::f64);
    backend.apply(formulas::Quotient{}, {d, factors.d}, {c});
    backend.scale_rows(c, factors.q, Q);  // diag(d) X = diag(c) Q R
    if (product_polar(backend, Q, factors.r, U)) return backend.row_dots(U, U, h);
  }
  scaled_polar(backend, X, d, options, U, h);
}

void scaled_polar(Backend& backend, ConstMatrixView X, ConstMatrixView d, const BalanceOptions& options,
                  MatrixView U, MatrixView h) {
  const ScratchFrame frame(backend);
  const MatrixView Y = backend.scratch(X.rows, X.cols, X.batch, X.dtype, layout_of(X));
  backend.scale_rows(d, X, Y);
  polar(backend, Y, options.polar, U, options.precision);
  backend.row_dots(U, U, h);
}

}  // namespace aurora
