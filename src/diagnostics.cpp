#include "aurora/diagnostics.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "aurora/polar.hpp"
#include "error.hpp"

namespace aurora {
namespace {

std::vector<double> values_of(Backend& backend, ConstMatrixView vector) {
  std::vector<double> values(static_cast<std::size_t>(vector.rows * vector.cols));
  backend.download(vector, values);
  return values;
}

void require_one(std::string_view where, const ConstMatrixView& x) {
  if (x.batch != 1 || x.rows < 1 || x.cols < 1) fail(where, "One matrix is needed: ", shape_text(x));
  if (!is_wide(x.dtype)) fail(where, "The type must be float32 or float64: ", name(x.dtype));
}

}  // namespace

std::vector<double> leverage_scores(Backend& backend, ConstMatrixView x, NeuronAxis axis) {
  require_one("leverage_scores", x);
  if (axis == NeuronAxis::columns) x = transposed(x);
  const ScratchFrame frame(backend);
  const MatrixView U = backend.scratch(x.rows, x.cols, 1, x.dtype, layout_of(x));
  const MatrixView h = backend.scratch(x.rows, 1, 1, DType::f64);
  polar(backend, x, Polar::exact, U);
  backend.row_dots(U, U, h);
  return values_of(backend, h);
}

std::vector<double> row_norms(Backend& backend, ConstMatrixView x) {
  require_one("row_norms", x);
  const ScratchFrame frame(backend);
  const MatrixView squares = backend.scratch(x.rows, 1, 1, DType::f64);
  backend.row_dots(x, x, squares);
  std::vector<double> norms = values_of(backend, squares);
  for (double& norm : norms) norm = std::sqrt(norm);
  return norms;
}

double coefficient_of_variation(std::span<const double> values) {
  if (values.empty()) return 0;
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  if (mean == 0) return 0;
  double variance = 0;
  for (const double value : values) variance += (value - mean) * (value - mean) / count;
  return std::sqrt(variance) / mean;
}

double row_norm_cv(Backend& backend, ConstMatrixView x) {
  return coefficient_of_variation(row_norms(backend, x));
}

double starved_share(std::span<const double> leverage, double balanced, double threshold) {
  if (leverage.empty()) return 0;
  const auto starved = std::count_if(leverage.begin(), leverage.end(),
                                     [&](double score) { return score < threshold * balanced; });
  return static_cast<double>(starved) / static_cast<double>(leverage.size());
}

double quantile(std::span<const double> values, double q) {
  if (values.empty() || !(q >= 0 && q <= 1)) {
    fail("quantile", "Values and 0 <= q <= 1 are needed: ", values.size(), " values, q ", q);
  }
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

OrthogonalityError orthogonality_error(Backend& backend, ConstMatrixView u) {
  require_one("orthogonality_error", u);
  u = tall(u);
  const ScratchFrame frame(backend);
  const Index n = u.cols;
  const MatrixView U = backend.scratch(u.rows, n, 1, DType::f64, layout_of(u));
  const MatrixView S = backend.scratch(n, n, 1, DType::f64);
  backend.axpby(1.0, u, 0.0, U);
  backend.gram(U, S);
  const std::vector<double> gram = values_of(backend, S);
  OrthogonalityError error{};
  double squares = 0;
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) {
      const double deviation = std::abs(gram[static_cast<std::size_t>(i * n + j)] - (i == j ? 1.0 : 0.0));
      error.max_abs = std::max(error.max_abs, deviation);
      squares += deviation * deviation;
    }
  }
  error.frobenius = std::sqrt(squares / static_cast<double>(n));
  return error;
}

double effective_rank(Backend& backend, ConstMatrixView x) {
  require_one("effective_rank", x);
  x = tall(x);
  const ScratchFrame frame(backend);
  const MatrixView X = backend.scratch(x.rows, x.cols, 1, DType::f64, layout_of(x));
  const MatrixView S = backend.scratch(x.cols, x.cols, 1, DType::f64, Layout::column_major);
  const MatrixView w = backend.scratch(x.cols, 1, 1, DType::f64);
  backend.normalize(x, X);
  if (!all_finite(backend, X)) fail("effective_rank", "The matrix has an Inf or NaN: ", shape_text(x));
  backend.gram(X, S);
  backend.symmetric_eigen(S, w);  // squared singular values
  return effective_rank(values_of(backend, w));
}

double effective_rank(std::span<const double> squares) {
  double total = 0;
  for (const double square : squares) total += std::max(square, 0.0);
  if (!(total > 0)) return 0;
  double entropy = 0;
  for (const double square : squares) {
    const double share = square / total;
    if (share > 0) entropy -= share * std::log(share);
  }
  return std::exp(entropy);
}

}  // namespace aurora
