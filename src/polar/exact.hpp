#pragma once

#include "aurora/polar.hpp"

// The exact polar factor of one tall matrix, by the three ways between which `exact` chooses; see polar.
namespace aurora {

/// U V' of the singular value decomposition, in float64. For what a Gram matrix would square past float64.
void svd_polar(Backend& backend, ConstMatrixView G, MatrixView U);

/// X (X'X)^-1/2 by the eigen-decomposition of the Gram matrix in float64.
void eigen_polar(Backend& backend, ConstMatrixView G, MatrixView U);

/// The same where the Halley iteration can do it; see halley.hpp. Returns false, and leaves U alone, where
/// the condition number is above 3e5.
bool cholesky_polar(Backend& backend, ConstMatrixView G, MatrixView U);

/// The best of them for G.
void exact_polar(Backend& backend, ConstMatrixView G, MatrixView U);

}  // namespace aurora
