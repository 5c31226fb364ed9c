#pragma once

#include <string_view>

#include "aurora/balance.hpp"
#include "error.hpp"

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

/// d_i = 1 / |x_i|; 0 for a row of zeros, that is below 1e-30 of the longest.
void inverse_row_norms(Backend& backend, ConstMatrixView X, MatrixView d);

/// diag(d) X = q r with r upper triangular, kept for scales near d; of X's type.
struct ScaledFactors {
  MatrixView q, r, d;
  bool known = false;
};

/// h_i = leverage of row i of diag(d) X, and the factors it came from.
void scaled_leverage(Backend& backend, ConstMatrixView X, ConstMatrixView d, ScaledFactors& factors,
                     MatrixView h);

/// U = polar(diag(d) X), h_i = |u_i|^2; from `factors` of other scales of the same rows where that is exact.
void scaled_polar(Backend& backend, ConstMatrixView X, ConstMatrixView d, const PolarSchedule& schedule,
                  const ScaledFactors& factors, MatrixView U, MatrixView h);
/// The same from nothing.
void scaled_polar(Backend& backend, ConstMatrixView X, ConstMatrixView d, const PolarSchedule& schedule,
                  MatrixView U, MatrixView h);

/// The odds iteration from the scales d (in place) with `evaluations` leverage evaluations, the last of them
/// U's own.
void odds_balance(Backend& backend, ConstMatrixView X, int evaluations, const PolarSchedule& schedule,
                  MatrixView d, MatrixView U);

/// The same for a batch and without waiting. The evaluations before the last take polar-express-6 where the
/// schedule is exact, and each matrix ends with the most even of its evaluations; none is added after a step
/// that failed.
void odds_balance_asynchronous(Backend& backend, ConstMatrixView X, int evaluations,
                               const PolarSchedule& schedule, MatrixView d, MatrixView U);

/// U nearest to X's constrained optimum before it is made feasible; see balanced_polar.
void closed_form_optimum(Backend& backend, ConstMatrixView X, MatrixView U);

}  // namespace aurora
