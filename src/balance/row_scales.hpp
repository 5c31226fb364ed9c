#pragma once

#include <string_view>

#include "../error.hpp"
#include "aurora/balance.hpp"

// What the ways to balance share. X is a tall matrix, U its like, d and h rows x 1 of float64.
namespace aurora {

inline void require_matching(std::string_view where, const ConstMatrixView& gradient,
                             const ConstMatrixView& direction) {
  if (!same_shape(gradient, direction)) {
    fail(where, "Shapes differ: ", shape_text(gradient), " vs ", shape_text(direction));
  }
  if (gradient.dtype != direction.dtype) {
    fail(where, "Types differ: ", name(gradient.dtype), " vs ", name(direction.dtype));
  }
}

/// A vector of float64 per matrix: rows x 1.
inline MatrixView vector(Backend& backend, Index rows, Index batch = 1) {
  return backend.scratch(rows, 1, batch, DType::f64);
}
inline void copy(Backend& backend, ConstMatrixView x, MatrixView y) { backend.axpby(1.0, x, 0.0, y); }

/// d_i = 1 / |x_i|; 0 for a row of zeros, that is below 1e-30 |X|_F.
void inverse_row_norms(Backend& backend, ConstMatrixView X, MatrixView d);

/// One step towards equal leverage h, in place on d; then d is divided by its norm. See Balance.
void odds_step(Backend& backend, ConstMatrixView h, MatrixView d);
void tyler_step(Backend& backend, ConstMatrixView h, MatrixView d);
/// s = standard deviation / mean of the row norms sqrt(h_i) over the rows that take part; s: 1 x 1.
void spread(Backend& backend, ConstMatrixView h, ConstMatrixView d, MatrixView s);

/// diag(d) X = q r with r upper triangular, kept for scales near d; of X's type.
struct ScaledFactors {
  MatrixView q, r, d;
  bool known = false;
};

/// h_i = leverage of row i of diag(d) X, and the factors it came from.
void scaled_leverage(Backend& backend, ConstMatrixView X, ConstMatrixView d, ScaledFactors& factors,
                     MatrixView h);

/// U = polar(diag(d) X), h_i = |u_i|^2; from `factors` of other scales of the same rows where that is exact.
void scaled_polar(Backend& backend, ConstMatrixView X, ConstMatrixView d, const BalanceOptions& options,
                  const ScaledFactors& factors, MatrixView U, MatrixView h);
/// The same from nothing.
void scaled_polar(Backend& backend, ConstMatrixView X, ConstMatrixView d, const BalanceOptions& options,
                  MatrixView U, MatrixView h);

/// The odds iteration on one matrix from the scales d (in place) with `evaluations` leverage evaluations, the
/// last of them U's own. Waits for the device.
void odds_balance(Backend& backend, ConstMatrixView X, int evaluations, const BalanceOptions& options,
                  MatrixView d, MatrixView U);

/// The same for a batch without waiting: polar factors and selections alone. The evaluations before the last
/// take polar-express-6 where options.polar is automatic, and each matrix ends with the most even of its
/// evaluations; none is added after a step that failed.
void odds_balance_by_selection(Backend& backend, ConstMatrixView X, int evaluations,
                               const BalanceOptions& options, MatrixView d, MatrixView U);

/// U nearest to X's constrained optimum before it is made feasible; see balanced_polar.
void closed_form_optimum(Backend& backend, ConstMatrixView X, MatrixView U);

}  // namespace aurora
