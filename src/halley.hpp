#pragma once

#include "aurora/backend.hpp"

// The polar factor of a tall matrix from Cholesky factors and a rational iteration on n x n, in the type of
// its matrices. All for one matrix; square matrices of scratch memory are column-major.
namespace aurora {

/// Q's Cholesky factor Q'Q = R'R. Returns the smallest over the largest eigenvalue of Q'Q, to a few percent,
/// and 0 where it is not positive definite to working precision; R is then undefined.
double triangular_factor(Backend& backend, ConstMatrixView Q, MatrixView R);

/// U = polar(Q R^-1 T) where Q'Q = R'R, R and T upper triangular (n x n, T is destroyed), by the dynamically
/// weighted Halley iteration (Nakatsukasa, Bai and Gygi 2010) on T. With the least singular value of T about
/// l of the largest, its error in float32 is about 2^-24 / l^(4/3), at most 2^-14. Returns false, and leaves
/// U alone, for l below 3e-4.
bool triangular_polar(Backend& backend, ConstMatrixView Q, ConstMatrixView R, MatrixView T, MatrixView U);

/// U = polar(Q R) with R upper triangular. Returns false, and leaves U alone, where triangular_polar does or
/// where Q'Q is not accurate in its type.
bool product_polar(Backend& backend, ConstMatrixView Q, ConstMatrixView R, MatrixView U);

/// U = polar(X), in U's type, of a tall matrix X = Q R and its Gram matrix S = X'X, both in float64 (X is
/// destroyed): where the condition number is above 32 the first Halley step on R in float64, which leaves a
/// well-conditioned matrix; the rest in U's type. Returns false, and leaves X and U alone, for condition
/// numbers above 3e5.
bool halley_polar(Backend& backend, ConstMatrixView S, MatrixView X, MatrixView U);

/// Least over largest eigenvalue of X'X down to which the products in float32 are exact to 1e-4: condition
/// numbers up to 32.
constexpr double kAccurateGramEigenvalue = 1e-3;

}  // namespace aurora
