#pragma once

#include "aurora/polar.hpp"

namespace aurora {

/// Which side of a matrix gets equal norms: only the rows of tall matrices (the paper and today's
/// aurora-release), or the longer side of any matrix that is not square (the May 2026 release). Everything
/// else is the plain polar factor.
enum class Sides : std::uint8_t { rows, longer };

struct BalanceOptions {
  Sides sides = Sides::rows;
  int pp_iterations = 2;  // polar factors per direction, >= 1
  double pp_beta = 0.5;   // exponent of the scale update, > 0
  PolarSchedule polar = kExact;
};

/// Whether `sides` balances a matrix of this shape.
bool balances(Sides sides, Index rows, Index cols);

/// direction <- U with U'U = I and rows of nearly equal length sqrt(n/m), close to the gradient (m x n, m >
/// n). The iteration of aurora-release (tilde-research/aurora-release, src/aurora.py):
///   d_i = 1 / |g_i|;  K times: U = polar(diag(d) G), and except after the last: d_i <- d_i (n/m /
///   |u_i|^2)^beta.
/// With beta = 1/2 this is Tyler's fixed-point map. Rows below 1e-30 of the longest count as zero and stay
/// zero; there is no absolute eps, so balanced_polar(c G) = balanced_polar(G). Errors as polar.
void balanced_polar(Backend& backend, ConstMatrixView gradient, const BalanceOptions& options,
                    MatrixView direction);

struct RiemannianOptions {
  PolarSchedule polar = kExact;
};

/// direction <- ascent of <G, U> on { U'U = I, |u_i|^2 = n/m } from U = polar(G), the Riemannian variant of
/// aurora-release, for tall G; square and wide matrices get polar(G). G is first divided by |G|_F, because
/// the published step U + 0.1 Z is proportional to the gradient. With r = n/m, three times:
///   S = sym(U'G);  q = diag(G U') - diag(U S U'), centred;
///   (r I - P o P + reg I) lam = q by at most 20 conjugate gradient steps, P = U U', reg = max(0, max_i h_i^2
///   - r + 1e-3), h_i = |u_i|^2;  S <- S - U' diag(lam) U;  Z = G - U S - diag(lam) U;  U <- U + 0.1 Z;
///   twice: rows of U to length sqrt(r), then U <- polar(U).
void riemannian_polar(Backend& backend, ConstMatrixView gradient, const RiemannianOptions& options,
                      MatrixView direction);

}  // namespace aurora
