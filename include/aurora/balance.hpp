#pragma once

#include "aurora/polar.hpp"

namespace aurora {

/// Which side of a matrix gets equal norms: only the rows of tall matrices (the paper and today's
/// aurora-release), or the longer side of any matrix that is not square (the May 2026 release). Everything
/// else is the plain polar factor.
enum class Sides : std::uint8_t { rows, longer };

/// How rows are evened out. With X = G / |G|_F, r = n/m, h_i = |u_i|^2 the leverage score of row i of diag(d)
/// X, and d_i = 1 / |x_i| to begin with:
///
/// odds: d_i <- d_i max(1/100, sqrt(r / (1 - r) (1 - h_i) / h_i)), the exact step of each row as if the others
/// stood still. A step after which the rows are not more even is taken back for Tyler's d_i <- d_i sqrt(r /
/// h_i), at the price of one evaluation more at the end. Rows of zeros and rows alone on their direction (h_i
/// >= 1 - 1e-6) are left out and r is the mean over the others, so rank-deficient matrices have a target too.
///
/// release: aurora-release (tilde-research/aurora-release, src/aurora.py): K polar factors, d_i <- d_i (r /
/// h_i)^pp_beta between them; at 1/2 Tyler's fixed-point map.
///
/// carried: d is kept from step to step as `row_scales` (rows x 1, zeros at first): one polar factor a step,
/// then Tyler's step for the next. The first step is balanced from cold by odds. Rows that changed by more
/// than a factor of 1000 against the others, or were zero, start again at the mean scale.
///
/// optimum: near the maximum of <G, U> under both constraints: U_i = x_i (S + lam_i I)^-1, then odds with at
/// least 6 evaluations to make it feasible.
enum class Balance : std::uint8_t { odds, release, carried, optimum };

struct BalanceOptions {
  Sides sides = Sides::rows;
  Balance balance = Balance::odds;
  int pp_iterations = 2;  // leverage evaluations per direction, the direction's own included, >= 1
  double pp_beta = 0.5;   // exponent of the release's scale update, > 0
  Polar polar = Polar::automatic;
  Precision precision = Precision::automatic;
};

/// About the floating point operations of balanced_polar for a rows x cols gradient on a device.
double balanced_polar_cost(const BalanceOptions& options, Index rows, Index cols,
                           Device device = Device::cpu);

/// Whether `sides` balances a matrix of this shape.
bool balances(Sides sides, Index rows, Index cols);

/// direction <- U with U'U = I and rows of nearly equal length sqrt(n/m), close to the gradient (m x n, m >
/// n). Leverage scores before the last come from a Cholesky factor of the Gram matrix, or, where that is too
/// ill-conditioned, from the same in float64 or an exact polar factor. In float32 with an exact factor U'U =
/// I to 2e-5, and odds and optimum are off from the exact polar factor of their rows by 4e-6 + 2^-23 times its
/// condition number in the 2-norm, or by what polar states where that is less exact. Rows below 1e-30 |X|_F
/// count as zero and stay zero; there is no absolute eps, so balanced_polar(c G) = balanced_polar(G). On an
/// accelerator, where polar is not exact, odds keeps to polar factors and selections, which do not wait: each
/// matrix ends with the most even of its evaluations, and none is added.
/// `row_scales`: rows x 1 for each matrix of the batch with Balance::carried (along the balanced side), else
/// none. Errors as polar; Balance::release lets NaN through where its schedule does.
void balanced_polar(Backend& backend, ConstMatrixView gradient, const BalanceOptions& options,
                    MatrixView direction, MatrixView row_scales = {});

struct RiemannianOptions {
  Polar polar = Polar::automatic;
  Precision precision = Precision::automatic;
};

/// About the floating point operations of riemannian_polar for a rows x cols gradient on a device.
double riemannian_polar_cost(const RiemannianOptions& options, Index rows, Index cols,
                             Device device = Device::cpu);

/// direction <- ascent of <G, U> on { U'U = I, |u_i|^2 = n/m } from U = polar(G), the Riemannian variant of
/// aurora-release, for tall G; square and wide matrices get polar(G). G is first divided by |G|_F, because
/// the published step U + 0.1 Z is proportional to the gradient. With r = n/m, three times:
///   S = sym(U'G);  q = diag(G U') - diag(U S U'), centred;
///   (r I - P o P + reg I) lam = q by at most 20 conjugate gradient steps (fewer where the residual fell to
///     1e-15), P = U U', reg = max(0, max_i h_i^2 - r + 1e-3), h_i = |u_i|^2;
///   S <- S - U' diag(lam) U;  Z = G - U S - diag(lam) U;  U <- U + 0.1 Z;
///   twice: rows of U to length sqrt(r), then U <- polar(U).
void riemannian_polar(Backend& backend, ConstMatrixView gradient, const RiemannianOptions& options,
                      MatrixView direction);

}  // namespace aurora
