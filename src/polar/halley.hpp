#pragma once

#include "aurora/backend.hpp"

// The polar factor of a tall matrix from Cholesky factors and a rational iteration on n x n, in the type of
// its matrices. All for one matrix; square matrices of scratch memory are column-major.
namespace aurora {

/// Smallest over largest eigenvalue of R'R, R upper triangular (column-major): 1 / condition number squared,
/// from above and mostly to 20 percent, by power iteration. Waits for the device.
double eigenvalue_ratio(Backend& backend, ConstMatrixView R);

/// U = polar(Q R) with R upper triangular (column-major): with Q'Q = S'S, Q R = (Q S^-1)(S R), so the polar
/// factor of the triangle S R is all that is needed. It comes from the dynamically weighted Halley iteration
/// (Nakatsukasa, Bai and Gygi 2010); the first step forms and factors its Gram matrix in float64 where the
/// condition number of Q R is above 500. Where Q and R come from a float32 factorisation of X, U is off by
/// 4e-6 + 2^-23 times the condition number in the 2-norm, what rounding X once more could do, and U'U = I to
/// 1e-5 whatever that number is. Returns false, and leaves U alone, for condition numbers above 3e5 or where
/// Q's own is above about 14.
bool product_polar(Backend& backend, ConstMatrixView Q, ConstMatrixView R, MatrixView U);

/// U = polar(X), in U's type, of a tall matrix X = Q R and its Gram matrix S = X'X, both in float64 (X is
/// destroyed): where the condition number is above 32 the first Halley step on R in float64, which leaves a
/// well-conditioned matrix; the rest in U's type. Returns false, and leaves X and U alone, for condition
/// numbers above 3e5.
bool halley_polar(Backend& backend, ConstMatrixView S, MatrixView X, MatrixView U);

}  // namespace aurora
