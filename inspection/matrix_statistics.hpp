#pragma once

#include <array>

#include "aurora/diagnostics.hpp"
#include "safetensors.hpp"

namespace aurora::trainer {

/// Of one matrix X as stored (m x n), with singular values s_i, of which those above kRankCut s_1 count.
///
/// The leverage score of index i of the neuron axis is the squared length of row i (or column i) of the polar
/// factor. The balanced value is min(m, n) over the neurons' number: where the neuron axis is the shorter
/// one, or X is square, it is 1, and every score of a matrix of full rank is 1.
///
/// All in float64, through the eigenvalues of the Gram matrix of the shorter side: s_i has a relative error
/// of about 1e-16 (s_1 / s_i)^2, leverage scores at worst 1e-16 (s_1 / s_min)^2, whatever type is stored.
struct MatrixStatistics {
  Index non_finite;  // elements that are Inf or NaN; unless 0, all that follows is NaN and the rank 0
  std::array<double, kStarvedThresholds.size()> starved;   // shares of neurons
  std::array<double, kLeverageQuantiles.size()> leverage;  // quantiles of leverage / balanced value
  double row_norm_cv, column_norm_cv;                      // standard deviation / mean
  double effective_rank;  // exp(entropy of s_i^2 / sum s^2); 0 for a zero matrix
  Index numerical_rank;   // how many singular values count
  double sigma_max;       // s_1
  double sigma_min;       // the min(m, n)-th; 0 where it does not count
};

/// What float32 resolves, 2^-21, as for the exact polar factor of float32 matrices.
inline constexpr double kRankCut = 4.76837158203125e-7;

/// Sides above this are more than LAPACK's integers hold.
inline constexpr Index kLongestShortSide = 32766;

/// Bytes of memory that measure() needs beside the tensor's own, for shorter side s and longer side l:
/// 24 s^2 + 128 s + 8 l + 17 MiB.
Index measuring_bytes(Index rows, Index cols);

/// `matrix`: two-dimensional, not empty, floating, shorter side at most kLongestShortSide. Reads it three
/// times, in blocks. Throws std::runtime_error where LAPACK does not converge.
MatrixStatistics measure(Backend& backend, const TensorEntry& matrix, NeuronAxis axis);

}  // namespace aurora::trainer
