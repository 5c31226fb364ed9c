#pragma once

#include <array>
#include <span>
#include <vector>

#include "aurora/backend.hpp"

namespace aurora {

// Quantities that show whether neurons live. All take float32 or float64 and compute in float64; none writes
// its input. They are for one matrix (batch 1) and wait for the device.

/// Which axis of a weight is indexed by neurons: rows of gate and up, columns of down.
enum class NeuronAxis : std::uint8_t { rows, columns };

/// h_i = |u_i|^2 with U = polar(X), exact, along the neuron axis. In [0, 1]; sums to the rank of X; where the
/// axis is the longer one the balanced value is n/m (short side over long). Along the shorter axis of a
/// full-rank matrix every h_i is 1. Throws std::invalid_argument where X is not finite.
std::vector<double> leverage_scores(Backend& backend, ConstMatrixView x, NeuronAxis axis = NeuronAxis::rows);

/// |x_i| for every row.
std::vector<double> row_norms(Backend& backend, ConstMatrixView x);

/// Standard deviation / mean (population form); 0 for no values and for mean 0.
double coefficient_of_variation(std::span<const double> values);

/// standard deviation / mean of the row norms.
double row_norm_cv(Backend& backend, ConstMatrixView x);

/// A row is starved at threshold t when its leverage is below t of the balanced value.
inline constexpr std::array<double, 3> kStarvedThresholds = {0.01, 0.1, 0.5};
/// Share of scores below threshold * balanced, in [0, 1].
double starved_share(std::span<const double> leverage, double balanced, double threshold);

/// The q-quantile, 0 <= q <= 1, linear between order statistics (NumPy's default). Throws for no values.
double quantile(std::span<const double> values, double q);
/// The quantiles by which a distribution of leverage scores is shown.
inline constexpr std::array<double, 7> kLeverageQuantiles = {0, 0.01, 0.1, 0.5, 0.9, 0.99, 1};

struct OrthogonalityError {
  double max_abs;    // max |U'U - I| over the entries, Gram matrix of the short side
  double frobenius;  // |U'U - I|_F / sqrt(short side)
};
OrthogonalityError orthogonality_error(Backend& backend, ConstMatrixView u);

/// exp(entropy of s_i^2 / sum s^2) over the singular values of X; 0 for a zero matrix.
double effective_rank(Backend& backend, ConstMatrixView x);
/// The same from the squares s_i^2; those below 0, of rounding, count as 0.
double effective_rank(std::span<const double> squared_singular_values);

}  // namespace aurora
