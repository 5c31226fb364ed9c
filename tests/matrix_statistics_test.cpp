#include "matrix_statistics.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "support/matchers.hpp"

namespace aurora::trainer {
namespace {

using test::Matrix;
using test::Random;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TensorEntry entry_of(const Matrix& x) {
  return {"x", "F64", {x.rows, x.cols}, std::as_bytes(std::span(x.values))};
}

MatrixStatistics statistics(const Matrix& x, NeuronAxis axis = NeuronAxis::rows, int threads = 1) {
  const auto backend = make_cpu_backend({.threads = threads});
  return measure(*backend, entry_of(x), axis);
}

/// What the diagnostics of the core say, which go through the polar factor of the whole matrix.
void expect_agreement(const Matrix& x, NeuronAxis axis) {
  const auto backend = make_cpu_backend();
  const MatrixStatistics actual = statistics(x, axis);
  const auto view = row_major(x.values.data(), x.rows, x.cols);
  const auto scores = leverage_scores(*backend, view, axis);
  const double balanced = static_cast<double>(std::min(x.rows, x.cols)) / static_cast<double>(scores.size());
  for (std::size_t i = 0; i < kLeverageQuantiles.size(); ++i)
    EXPECT_NEAR(actual.leverage[i], quantile(scores, kLeverageQuantiles[i]) / balanced, 1e-9);
  for (std::size_t i = 0; i < kStarvedThresholds.size(); ++i)
    EXPECT_EQ(actual.starved[i], starved_share(scores, balanced, kStarvedThresholds[i]));
  EXPECT_NEAR(actual.row_norm_cv, row_norm_cv(*backend, view), 1e-12);
  EXPECT_NEAR(actual.column_norm_cv, row_norm_cv(*backend, transposed(view)), 1e-12);
  EXPECT_NEAR(actual.effective_rank, effective_rank(*backend, view), 1e-9);
  const auto s = test::svd(x).s;
  EXPECT_NEAR(actual.sigma_max, s.front(), 1e-12 * s.front());
  EXPECT_NEAR(actual.sigma_min, s.back(), 1e-9 * s.front());
  EXPECT_EQ(actual.numerical_rank, std::ssize(s));
  EXPECT_EQ(actual.non_finite, 0);
}

TEST(MatrixStatistics, AgreeWithTheDiagnosticsOfTheCore) {
  Random random(7);
  for (const auto& [rows, cols] : {std::pair<Index, Index>{40, 8}, {8, 40}, {12, 12}, {1, 9}, {9, 1}}) {
    SCOPED_TRACE(std::to_string(rows) + "x" + std::to_string(cols));
    const Matrix x = test::uneven_rows(random, rows, cols, 1.5);
    expect_agreement(x, NeuronAxis::rows);
    expect_agreement(x, NeuronAxis::columns);
  }
}

TEST(MatrixStatistics, DoNotDependOnHowManyBlocksAMatrixIsReadIn) {
  Random random(8);
  const Matrix x = test::uneven_rows(random, 70000, 33, 1.0);  // three blocks, the last one shorter
  expect_agreement(x, NeuronAxis::rows);
  expect_agreement(test::transposed(x), NeuronAxis::columns);
}

TEST(MatrixStatistics, FollowTheScaleWithoutOverflowOrUnderflow) {
  Random random(9);
  const Matrix x = test::gaussian(random, 24, 6);
  const MatrixStatistics expected = statistics(x);
  for (const double factor : {0x1p+900, 0x1p-900}) {
    const MatrixStatistics actual = statistics(test::scaled(factor, x));
    EXPECT_EQ(actual.leverage, expected.leverage);
    EXPECT_EQ(actual.sigma_max, factor * expected.sigma_max);
    EXPECT_EQ(actual.sigma_min, factor * expected.sigma_min);
    EXPECT_EQ(actual.row_norm_cv, expected.row_norm_cv);
  }
}

TEST(MatrixStatistics, CountSingularValuesAboveTheCut) {
  Random random(10);
  const Matrix u = test::orthonormal(random, 20, 4), v = test::orthonormal(random, 4, 4);
  const Matrix kept = test::product(test::product(u, test::diagonal({1, 0.1, 1e-3, 1e-5})), v);
  EXPECT_EQ(statistics(kept).numerical_rank, 4);
  EXPECT_NEAR(statistics(kept).sigma_min, 1e-5, 1e-10);
  const Matrix cut = test::product(test::product(u, test::diagonal({1, 0.1, 1e-3, 1e-7})), v);
  for (const NeuronAxis axis : {NeuronAxis::rows, NeuronAxis::columns}) {
    EXPECT_EQ(statistics(cut, axis).numerical_rank, 3);
    EXPECT_EQ(statistics(cut, axis).sigma_min, 0);
  }
  // Of the rank that is left, every row of the shorter side has its part.
  EXPECT_LT(statistics(cut, NeuronAxis::columns).leverage.front(), 0.999);
}

TEST(MatrixStatistics, OfARowOfZerosAreStarvedAndOfAZeroMatrixAllRows) {
  Random random(11);
  Matrix x = test::gaussian(random, 10, 3);
  for (Index j = 0; j < 3; ++j) x(4, j) = 0;
  EXPECT_DOUBLE_EQ(statistics(x).starved[0], 0.1);
  const MatrixStatistics zero = statistics(Matrix{.rows = 6, .cols = 3});
  EXPECT_EQ(zero.starved, (decltype(zero.starved){1, 1, 1}));
  EXPECT_EQ(zero.numerical_rank, 0);
  EXPECT_EQ(zero.effective_rank, 0);
  EXPECT_EQ(zero.sigma_max, 0);
  EXPECT_EQ(zero.row_norm_cv, 0);
}

TEST(MatrixStatistics, OfAnInfOrNaNAreTheirNumberAndNothingElse) {
  Random random(12);
  Matrix x = test::gaussian(random, 10, 3);
  x(0, 0) = kInfinity;
  x(9, 2) = std::nan("");
  const MatrixStatistics actual = statistics(x);
  EXPECT_EQ(actual.non_finite, 2);
  EXPECT_EQ(actual.numerical_rank, 0);
  for (const double number :
       {actual.leverage[3], actual.starved[1], actual.sigma_max, actual.sigma_min, actual.row_norm_cv})
    EXPECT_TRUE(std::isnan(number));
}

TEST(MatrixStatistics, NeedTheMemoryTheySay) {
  Random random(13);
  for (const auto& [rows, cols] : {std::pair<Index, Index>{20000, 300}, {300, 20000}, {600, 600}}) {
    const Matrix x = test::gaussian(random, rows, cols);
    const auto backend = make_cpu_backend();
    measure(*backend, entry_of(x), NeuronAxis::rows);
    EXPECT_LE(backend->memory().bytes(), measuring_bytes(rows, cols)) << rows << "x" << cols;
  }
}

}  // namespace
}  // namespace aurora::trainer
