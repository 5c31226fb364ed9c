#include "aurora/diagnostics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "support/golden.hpp"
#include "support/matchers.hpp"

namespace aurora::test {
namespace {

using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Matrix column(const std::vector<double>& values) { return {static_cast<Index>(values.size()), 1, 1, values}; }

std::vector<double> scores(const Matrix& x, NeuronAxis axis = NeuronAxis::rows, DType dtype = DType::f64,
                           Placement placement = {}) {
  const auto backend = make_cpu_backend();
  return leverage_scores(*backend, Stored(x, dtype, placement).view(), axis);
}

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(Diagnostics, AgreeWithIndependentValues) {
  const auto backend = make_cpu_backend();
  for (const std::string shape : {"24x8", "8x24", "9x9"}) {
    const std::string prefix = "diagnostics/" + shape + "/";
    const Matrix& x = golden()[prefix + "matrix"];
    for (const Placement& placement :
         {Placement{}, {.gap = 2, .offset = 1}, {.column_major = true, .gap = 1}}) {
      SCOPED_TRACE(shape);
      const Stored stored(x, DType::f64, placement);
      EXPECT_TRUE(close(column(scores(x, NeuronAxis::rows, DType::f64, placement)),
                        golden()[prefix + "leverage_rows"], 1e-12));
      EXPECT_TRUE(close(column(scores(x, NeuronAxis::columns, DType::f64, placement)),
                        golden()[prefix + "leverage_columns"], 1e-12));
      const std::vector<double> norms = row_norms(*backend, stored.view());
      EXPECT_TRUE(relatively_close(column(norms), golden()[prefix + "row_norms"], 1e-14));
      EXPECT_NEAR(row_norm_cv(*backend, stored.view()), golden()[prefix + "row_norm_cv"](0, 0), 1e-13);
      const OrthogonalityError error = orthogonality_error(*backend, stored.view());
      EXPECT_TRUE(relatively_close(column({error.max_abs, error.frobenius}),
                                   golden()[prefix + "orthogonality_error"], 1e-13));
      EXPECT_NEAR(effective_rank(*backend, stored.view()), golden()[prefix + "effective_rank"](0, 0), 1e-12);
      std::vector<double> quantiles;
      for (const double q : {0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0}) quantiles.push_back(quantile(norms, q));
      EXPECT_TRUE(relatively_close(column(quantiles), golden()[prefix + "quantiles"], 1e-14));
    }
  }
}

TEST(LeverageScores, LieBetweenZeroAndOneAndSumToTheRank) {
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    Random random(seed);
    for (const Matrix& x : {uneven_rows(random, 40, 9, 1.5), transposed(uneven_rows(random, 40, 9, 1.5)),
                            product(integers(random, 30, 4, -5, 5), integers(random, 4, 10, -5, 5))}) {
      const double rank = x.rows == 30 ? 4 : 9;
      for (const NeuronAxis axis : {NeuronAxis::rows, NeuronAxis::columns}) {
        const std::vector<double> h = scores(x, axis);
        EXPECT_EQ(static_cast<Index>(h.size()), axis == NeuronAxis::rows ? x.rows : x.cols);
        EXPECT_NEAR(sum_of(h), rank, 1e-11) << "seed " << seed;
        for (const double score : h) {
          EXPECT_GE(score, 0);
          EXPECT_LE(score, 1 + 1e-12);
        }
      }
    }
  }
}

TEST(LeverageScores, AlongTheShorterAxisOfAFullRankMatrixAreOne) {
  Random random(4);
  for (const double score : scores(gaussian(random, 6, 30))) EXPECT_NEAR(score, 1, 1e-12);
  for (const double score : scores(gaussian(random, 30, 6), NeuronAxis::columns))
    EXPECT_NEAR(score, 1, 1e-12);
}

TEST(LeverageScores, DoNotChangeWithScaleOrRightRotation) {
  Random random(5);
  const Matrix x = uneven_rows(random, 20, 6, 1);
  const Matrix expected = column(scores(x));
  EXPECT_TRUE(close(column(scores(scaled(1e-30, x))), expected, 1e-13));
  EXPECT_TRUE(close(column(scores(product(x, orthonormal(random, 6, 6)))), expected, 1e-13));
  EXPECT_TRUE(close(column(scores(transposed(x), NeuronAxis::columns)), expected, 1e-13));
}

TEST(LeverageScores, OfFloatsAreThoseOfDoublesUpToRounding) {
  Random random(6);
  const Matrix x = rounded(uneven_rows(random, 64, 16, 0.7), DType::f32);
  // A score is a sum of squares of elements of a polar factor with an error of about condition^2 u; here the
  // condition number is below 8.
  EXPECT_TRUE(close(column(scores(x, NeuronAxis::rows, DType::f32)), column(scores(x)), 64 * 0x1p-24));
}

TEST(LeverageScores, OfAZeroRowAreZeroAndOfWhatIsNotFiniteThrow) {
  Random random(7);
  Matrix x = gaussian(random, 10, 3);
  for (Index j = 0; j < 3; ++j) x(4, j) = 0;
  EXPECT_NEAR(scores(x)[4], 0, 1e-30);
  EXPECT_EQ(sum_of(scores({10, 3})), 0);
  x(9, 2) = kNaN;
  EXPECT_THAT(message_of([&] { scores(x); }), HasSubstr("10x3"));
}

TEST(StarvedShare, CountsScoresBelowTheThresholdTimesTheBalancedValue) {
  const std::vector<double> h = {0.0, 0.0249, 0.025, 0.1, 0.25, 0.6};
  EXPECT_DOUBLE_EQ(starved_share(h, 0.25, 0.1), 2.0 / 6);
  EXPECT_DOUBLE_EQ(starved_share(h, 0.25, 0.01), 1.0 / 6);
  EXPECT_DOUBLE_EQ(starved_share(h, 0.25, 0.5), 4.0 / 6);
  EXPECT_DOUBLE_EQ(starved_share({}, 0.25, 0.5), 0);
}

TEST(CoefficientOfVariation, IsPopulationStandardDeviationOverMean) {
  EXPECT_DOUBLE_EQ(coefficient_of_variation(std::vector<double>{1, 3}), 0.5);
  EXPECT_DOUBLE_EQ(coefficient_of_variation(std::vector<double>{2, 2, 2}), 0);
  EXPECT_DOUBLE_EQ(coefficient_of_variation(std::vector<double>{0, 0}), 0);
  EXPECT_DOUBLE_EQ(coefficient_of_variation({}), 0);
}

TEST(Quantile, IsLinearBetweenOrderStatistics) {
  const std::vector<double> values = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 4);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 3.7);
  EXPECT_DOUBLE_EQ(quantile(std::vector<double>{7}, 0.3), 7);
  EXPECT_THROW(quantile({}, 0.5), std::invalid_argument);
  for (const double q : {-0.1, 1.1, kNaN}) EXPECT_THROW(quantile(values, q), std::invalid_argument);
}

TEST(OrthogonalityErrorOf, ASemiOrthogonalMatrixIsZeroAndOfAMultipleKnown) {
  Random random(8);
  const auto backend = make_cpu_backend();
  const Matrix q = orthonormal(random, 20, 5);
  for (const Matrix& x : {q, transposed(q)}) {
    EXPECT_LT(orthogonality_error(*backend, Stored(x, DType::f64).cview()).max_abs, 1e-14);
    const OrthogonalityError doubled =
        orthogonality_error(*backend, Stored(scaled(2, x), DType::f64).cview());
    EXPECT_NEAR(doubled.max_abs, 3, 1e-13);
    EXPECT_NEAR(doubled.frobenius, 3, 1e-13);
  }
}

TEST(EffectiveRank, CountsEqualDirectionsAndIsZeroForZero) {
  Random random(9);
  const auto backend = make_cpu_backend();
  EXPECT_NEAR(effective_rank(*backend, Stored(orthonormal(random, 20, 5), DType::f64).cview()), 5, 1e-12);
  EXPECT_NEAR(effective_rank(*backend, Stored(diagonal({1, 1e-9, 0}), DType::f64).cview()), 1, 1e-12);
  EXPECT_NEAR(effective_rank(std::vector<double>{3, 3, -1e-9, 0}), 2, 1e-12);
  EXPECT_EQ(effective_rank(std::vector<double>{0, -1e-9}), 0);
  EXPECT_EQ(effective_rank(std::vector<double>{std::numeric_limits<double>::quiet_NaN(), 1}), 0);
  EXPECT_EQ(effective_rank(*backend, Stored(Matrix{4, 3}, DType::f32).cview()), 0);
  EXPECT_NEAR(effective_rank(*backend, Stored(scaled(1e-200, identity(3)), DType::f64).cview()), 3, 1e-12);
}

TEST(Diagnostics, WriteNothingAndTakeOneMatrix) {
  Random random(10);
  const auto backend = make_cpu_backend();
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Stored before(gaussian(random, 12, 5), dtype, {.gap = 1});
    const Stored x = before;
    leverage_scores(*backend, x.view(), NeuronAxis::columns);
    row_norms(*backend, x.view());
    orthogonality_error(*backend, x.view());
    effective_rank(*backend, x.view());
    EXPECT_TRUE(same_bytes(x, before));
  }
  const Stored two(Matrix{3, 2, 2}, DType::f64);
  EXPECT_THAT(message_of([&] { row_norms(*backend, two.view()); }), HasSubstr("2 of 3x2"));
  EXPECT_THROW(leverage_scores(*backend, two.view()), std::invalid_argument);
  EXPECT_THROW(orthogonality_error(*backend, two.view()), std::invalid_argument);
  EXPECT_THROW(effective_rank(*backend, two.view()), std::invalid_argument);
}

TEST(RowNorms, OfLargeAndSmallNumbersDoNotOverflowInFloat32) {
  const auto backend = make_cpu_backend();
  const std::vector<double> norms =
      row_norms(*backend, Stored({2, 2, 1, {3e30, 4e30, 3e-30, 4e-30}}, DType::f32).cview());
  EXPECT_NEAR(norms[0] / 5e30, 1, 1e-7);
  EXPECT_NEAR(norms[1] / 5e-30, 1, 1e-7);
}

}  // namespace
}  // namespace aurora::test
