#include "matrix_statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace aurora::trainer {
namespace {

constexpr Index kBlockElements = Index{1} << 20;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A stored matrix seen with rows >= cols, in blocks of consecutive rows.
class TallBlocks {
 public:
  explicit TallBlocks(const TensorEntry& matrix)
      : matrix_(matrix),
        wide_(matrix.shape[0] < matrix.shape[1]),
        rows_(std::max(matrix.shape[0], matrix.shape[1])),
        cols_(std::min(matrix.shape[0], matrix.shape[1])),
        most_(std::clamp<Index>(kBlockElements / cols_, 1, rows_)) {}

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  bool wide() const { return wide_; }

  /// Calls work(first row, block) for each block, times `scale`, in memory that it takes from `backend`.
  template <class Work>
  void for_each(Backend& backend, double scale, Work&& work) const {
    const ScratchFrame frame(backend);
    const MatrixView memory = backend.scratch(most_ * cols_, 1, 1, DType::f64);
    auto* const values = static_cast<double*>(memory.data);
    for (Index first = 0; first < rows_; first += most_) {
      const Index count = std::min(most_, rows_ - first);
      if (wide_) {
        for (Index i = 0; i < cols_; ++i)
          values_as_double(matrix_, i * rows_ + first, {values + i * count, static_cast<std::size_t>(count)});
      } else {
        values_as_double(matrix_, first * cols_, {values, static_cast<std::size_t>(count * cols_)});
      }
      if (scale != 1.0) {
        for (Index i = 0; i < count * cols_; ++i) values[i] *= scale;
      }
      work(first, wide_ ? transposed(row_major(values, cols_, count)) : row_major(values, count, cols_));
    }
  }

 private:
  const TensorEntry& matrix_;
  bool wide_;
  Index rows_, cols_;
  Index most_;  // rows of a block
};

struct Extent {
  Index non_finite = 0;
  double largest = 0;  // |x|
};

Extent extent_of(Backend& backend, const TallBlocks& blocks) {
  Extent extent;
  blocks.for_each(backend, 1.0, [&](Index, MatrixView block) {
    const auto* const values = static_cast<const double*>(block.data);
    for (Index i = 0; i < block.rows * block.cols; ++i) {
      const double size = std::abs(values[i]);
      if (std::isfinite(size)) {
        extent.largest = std::max(extent.largest, size);
      } else {
        ++extent.non_finite;
      }
    }
  });
  return extent;
}

std::vector<double> values_of(Backend& backend, ConstMatrixView vector) {
  std::vector<double> values(static_cast<std::size_t>(vector.rows));
  backend.download(vector, values);
  return values;
}

double cv_of_roots(std::vector<double> squares) {
  for (double& square : squares) square = std::sqrt(std::max(square, 0.0));
  return coefficient_of_variation(squares);
}

/// |u_i|^2 of the polar factor, along its rows seen tall (the longer side) or its columns. V: eigenvectors of
/// the Gram matrix, which it writes over, w: eigenvalues.
std::vector<double> leverage_of(Backend& backend, const TallBlocks& blocks, double scale, bool longer_side,
                                MatrixView V, MatrixView w) {
  const ScratchFrame frame(backend);
  const Index m = blocks.rows(), n = blocks.cols();
  std::vector<double> scales = values_of(backend, w);
  const double least = kRankCut * kRankCut * scales.back();
  for (double& value : scales) value = value > least ? (longer_side ? 1 / std::sqrt(value) : 1.0) : 0.0;
  const MatrixView d = row_major(scales.data(), n, 1);
  const MatrixView h = backend.scratch(longer_side ? m : n, 1, 1, DType::f64);
  backend.scale_rows(d, transposed(V), transposed(V));
  if (!longer_side) {
    backend.row_dots(V, V, h);
    return values_of(backend, h);
  }
  blocks.for_each(backend, scale, [&](Index first, MatrixView block) {
    const ScratchFrame inner(backend);
    const MatrixView U = backend.scratch(block.rows, n, 1, DType::f64);
    backend.multiply(1.0, block, V, 0.0, U);
    backend.row_dots(U, U, row_major(static_cast<double*>(h.data) + first, block.rows, 1));
  });
  return values_of(backend, h);
}

}  // namespace

Index measuring_bytes(Index rows, Index cols) {
  const Index shorter = std::min(rows, cols), longer = std::max(rows, cols);
  // A square matrix for the decomposition and two for its work; vectors; two blocks; what alignment takes.
  return 24 * shorter * shorter + 128 * shorter + 8 * longer + 17 * (Index{1} << 20);
}

MatrixStatistics measure(Backend& backend, const TensorEntry& matrix, NeuronAxis axis) {
  const TallBlocks blocks(matrix);
  {
    // All at once: memory asked for part by part would grow in steps of twice the size.
    const ScratchFrame reservation(backend);
    backend.scratch(measuring_bytes(blocks.rows(), blocks.cols()) / Index{sizeof(double)}, 1, 1, DType::f64);
  }
  const ScratchFrame frame(backend);
  const Index m = blocks.rows(), n = blocks.cols();
  const Extent extent = extent_of(backend, blocks);
  MatrixStatistics result{};
  if (extent.non_finite > 0) {
    result.starved.fill(kNaN);
    result.leverage.fill(kNaN);
    result.row_norm_cv = result.column_norm_cv = result.effective_rank = kNaN;
    result.sigma_max = result.sigma_min = kNaN;
    result.non_finite = extent.non_finite;
    return result;
  }
  if (extent.largest == 0) {
    result.starved.fill(1.0);
    return result;
  }
  // A power of two, so that squares neither overflow nor vanish and nothing is rounded.
  const int exponent = std::clamp(std::ilogb(extent.largest), -1000, 1000);
  const double scale = std::ldexp(1.0, -exponent);

  const MatrixView S = backend.scratch(n, n, 1, DType::f64, Layout::column_major);
  const MatrixView w = backend.scratch(n, 1, 1, DType::f64);
  std::vector<double> long_squares(static_cast<std::size_t>(m)), short_squares(static_cast<std::size_t>(n));
  backend.fill(0.0, S);
  blocks.for_each(backend, scale, [&](Index first, MatrixView block) {
    backend.multiply(1.0, transposed(block), block, 1.0, S);
    backend.row_dots(block, block, row_major(long_squares.data() + first, block.rows, 1));
  });
  for (Index j = 0; j < n; ++j)
    short_squares[static_cast<std::size_t>(j)] = static_cast<const double*>(S.data)[j * n + j];
  backend.symmetric_eigen(S, w);  // X'X = V diag(w) V'

  const std::vector<double> squares = values_of(backend, w);
  const double largest = squares.back(), cut = kRankCut * kRankCut * largest;
  result.numerical_rank = std::ranges::count_if(squares, [&](double square) { return square > cut; });
  result.effective_rank = effective_rank(squares);
  result.sigma_max = std::ldexp(std::sqrt(largest), exponent);
  result.sigma_min = squares.front() > cut ? std::ldexp(std::sqrt(squares.front()), exponent) : 0.0;

  double row_cv = cv_of_roots(std::move(long_squares)), column_cv = cv_of_roots(std::move(short_squares));
  if (blocks.wide()) std::swap(row_cv, column_cv);
  result.row_norm_cv = row_cv;
  result.column_norm_cv = column_cv;

  const bool longer_side = (axis == NeuronAxis::columns) == blocks.wide();
  const double balanced = longer_side ? static_cast<double>(n) / static_cast<double>(m) : 1.0;
  const std::vector<double> leverage = leverage_of(backend, blocks, scale, longer_side, S, w);
  for (std::size_t i = 0; i < kStarvedThresholds.size(); ++i)
    result.starved[i] = starved_share(leverage, balanced, kStarvedThresholds[i]);
  for (std::size_t i = 0; i < kLeverageQuantiles.size(); ++i)
    result.leverage[i] = quantile(leverage, kLeverageQuantiles[i]) / balanced;
  return result;
}

}  // namespace aurora::trainer
