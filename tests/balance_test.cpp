#include "aurora/balance.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "../src/balance/row_scales.hpp"
#include "aurora/diagnostics.hpp"
#include "support/matchers.hpp"

namespace aurora::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Matrix balanced(const Matrix& g, const BalanceOptions& options = {}, DType dtype = DType::f64,
                Placement placement = {}) {
  const auto backend = make_cpu_backend();
  Stored u(scaled(kNaN, g), dtype, placement);
  balanced_polar(*backend, Stored(g, dtype, placement).cview(), options, u.view());
  EXPECT_TRUE(u.padding_is_untouched());
  return u.values();
}

/// A direction with carried scales, which it updates.
Matrix carried(const Matrix& g, Stored& scales, const BalanceOptions& options = {.balance = Balance::carried},
               DType dtype = DType::f64) {
  const auto backend = make_cpu_backend();
  Stored u(scaled(kNaN, g), dtype);
  const MatrixView state = scales.view();
  balanced_polar(*backend, Stored(g, dtype).cview(), options, u.view(), state);
  return u.values();
}

constexpr Balance kAllButCarried[] = {Balance::odds, Balance::release, Balance::optimum};

Matrix riemannian(const Matrix& g, const RiemannianOptions& options = {}, DType dtype = DType::f64) {
  const auto backend = make_cpu_backend();
  Stored u(scaled(kNaN, g), dtype);
  riemannian_polar(*backend, Stored(g, dtype).cview(), options, u.view());
  return u.values();
}

Matrix plain(const Matrix& g, DType dtype = DType::f64) {
  const auto backend = make_cpu_backend();
  Stored u(g, dtype);
  polar(*backend, Stored(g, dtype).cview(), Polar::exact, u.view());
  return u.values();
}

std::vector<double> row_lengths(const Matrix& x) {
  std::vector<double> lengths;
  for (Index i = 0; i < x.rows; ++i) {
    double squares = 0;
    for (Index j = 0; j < x.cols; ++j) squares += x(i, j) * x(i, j);
    lengths.push_back(std::sqrt(squares));
  }
  return lengths;
}

/// max_i |row_i| / sqrt(n/m) - 1 in magnitude.
double unevenness(const Matrix& u) {
  const double target = std::sqrt(static_cast<double>(u.cols) / static_cast<double>(u.rows));
  double worst = 0;
  for (const double length : row_lengths(u)) worst = std::max(worst, std::abs(length / target - 1));
  return worst;
}

/// The release's iteration by its formula.
Matrix reference_balanced(const Matrix& g, int iterations, double beta) {
  const double r = static_cast<double>(g.cols) / static_cast<double>(g.rows);
  std::vector<double> d;
  for (const double length : row_lengths(g)) d.push_back(1 / length);
  for (int k = 1;; ++k) {
    Matrix x = g;
    for (Index i = 0; i < g.rows; ++i) {
      for (Index j = 0; j < g.cols; ++j) x(i, j) *= d[static_cast<std::size_t>(i)];
    }
    const Matrix u = reference_polar(x);
    if (k == iterations) return u;
    const std::vector<double> lengths = row_lengths(u);
    for (std::size_t i = 0; i < d.size(); ++i) d[i] *= std::pow(r / (lengths[i] * lengths[i]), beta);
  }
}

double alignment(const Matrix& g, const Matrix& u) {
  double inner = 0;
  for (std::size_t k = 0; k < g.values.size(); ++k) inner += g.values[k] * u.values[k];
  return inner;
}

TEST(Balance, OfRowsIsForTallMatricesOnlyAndOfTheLongerSideForAllThatAreNotSquare) {
  EXPECT_TRUE(balances(Sides::rows, 3, 2));
  EXPECT_FALSE(balances(Sides::rows, 2, 3));
  EXPECT_FALSE(balances(Sides::rows, 3, 3));
  EXPECT_TRUE(balances(Sides::longer, 3, 2));
  EXPECT_TRUE(balances(Sides::longer, 2, 3));
  EXPECT_FALSE(balances(Sides::longer, 3, 3));
}

TEST(BalancedPolar, IsTheReleasesIterationForAnyNumberAndExponent) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{24, 8}, {33, 7}, {50, 49}, {31, 1}}) {
    Random random(static_cast<std::uint64_t>(rows));
    const Matrix g = uneven_rows(random, rows, cols, 1.0);
    for (const int iterations : {1, 2, 3, 4, 7}) {
      for (const double beta : {0.25, 0.5, 1.0}) {
        // Rounding grows with the spread of the scales, e^4, and the conditioning of 50 x 49.
        EXPECT_TRUE(
            close(balanced(g, {.balance = Balance::release, .pp_iterations = iterations, .pp_beta = beta}),
                  reference_balanced(g, iterations, beta), 1e-10))
            << rows << "x" << cols << ", " << iterations << " iterations, beta " << beta;
      }
    }
  }
}

TEST(BalancedPolar, IsSemiOrthogonalWithRowsThatGetMoreEvenWithEachIteration) {
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u}) {
    Random random(seed);
    const Matrix g = uneven_rows(random, 64, 16, 1.0);
    double before = 1e9;
    for (const int iterations : {2, 3, 5, 8}) {
      const Matrix u = balanced(g, {.pp_iterations = iterations});
      EXPECT_TRUE(semi_orthogonal(u, 1e-12));
      EXPECT_LT(unevenness(u), before) << "seed " << seed << ", " << iterations << " iterations";
      before = unevenness(u);
    }
    EXPECT_LT(before, 0.02) << "seed " << seed;
    EXPECT_LT(before, unevenness(plain(g)) / 10);
    EXPECT_GT(alignment(g, balanced(g)), 0);
  }
}

TEST(BalancedPolar, WithManyIterationsHasEqualRows) {
  Random random(5);
  const Matrix u = balanced(uneven_rows(random, 48, 12, 0.7), {.pp_iterations = 200});
  EXPECT_LT(unevenness(u), 1e-10);
  EXPECT_TRUE(semi_orthogonal(u, 1e-12));
}

TEST(BalancedPolar, OfWhatItsSideDoesNotBalanceIsThePolarFactorToTheBit) {
  Random random(6);
  const Matrix wide = uneven_rows(random, 8, 24, 1), square = uneven_rows(random, 9, 9, 1);
  EXPECT_TRUE(equal(balanced(wide, {.sides = Sides::rows}), plain(wide)));
  EXPECT_TRUE(equal(balanced(square, {.sides = Sides::rows}), plain(square)));
  EXPECT_TRUE(equal(balanced(square, {.sides = Sides::longer}), plain(square)));
  EXPECT_FALSE(close(balanced(wide, {.sides = Sides::longer}), plain(wide), 1e-3));
}

TEST(BalancedPolar, OfTheLongerSideOfAWideMatrixIsTheTransposeOfTheTallOne) {
  Random random(7);
  const Matrix g = uneven_rows(random, 24, 8, 1);
  EXPECT_TRUE(close(balanced(transposed(g), {.sides = Sides::longer}), transposed(balanced(g)), 1e-13));
}

TEST(BalancedPolar, OfAMultipleIsTheSame) {
  Random random(8);
  const Matrix g = rounded(uneven_rows(random, 24, 8, 1), DType::f32);
  const Matrix expected = balanced(g);
  for (const double c : {0x1p-900, 0x1p-100, 0x1p100, 0x1p900}) {
    EXPECT_TRUE(close(balanced(scaled(c, g)), expected, 1e-13)) << c;
  }
  for (const double c : {0x1p-100, 0x1p100}) {
    // Condition number about 10 after scaling the rows; each polar factor and scale rounds a few times.
    EXPECT_TRUE(close(balanced(scaled(c, g), {}, DType::f32), expected, 64 * 0x1p-24)) << c;
  }
}

TEST(BalancedPolar, DoesNotDependOnTheLengthsOfTheRows) {
  Random random(9);
  const Matrix g = gaussian(random, 30, 10);
  Matrix stretched = g;
  for (Index i = 0; i < 30; ++i) {
    const double length = std::pow(10.0, static_cast<double>(i % 25) - 12);
    for (Index j = 0; j < 10; ++j) stretched(i, j) *= length;
  }
  EXPECT_TRUE(close(balanced(stretched), balanced(g), 1e-12));
  EXPECT_TRUE(close(balanced(stretched, {}, DType::f32), balanced(g), 64 * 0x1p-24));
}

TEST(BalancedPolar, KeepsRowsOfZerosAndRowsBelowTheCutAtZero) {
  Random random(10);
  Matrix g = gaussian(random, 20, 6);
  for (Index j = 0; j < 6; ++j) {
    g(4, j) = 0;
    g(17, j) *= 1e-33;
  }
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Matrix u = balanced(g, {.pp_iterations = 3}, dtype);
    for (Index j = 0; j < 6; ++j) {
      EXPECT_NEAR(u(4, j), 0, 1e-7);
      EXPECT_NEAR(u(17, j), 0, 1e-7);
    }
    EXPECT_TRUE(semi_orthogonal(u, dtype == DType::f32 ? 1e-5 : 1e-13));
  }
}

class EveryBalance : public ::testing::TestWithParam<Balance> {};
INSTANTIATE_TEST_SUITE_P(BalancedPolar, EveryBalance, ::testing::ValuesIn(kAllButCarried),
                         [](const auto& balance) {
                           return "number" + std::to_string(static_cast<int>(balance.param));
                         });

TEST_P(EveryBalance, OfHostileNumbersIsFinite) {
  Random random(11);
  const Matrix base = integers(random, 12, 4, 1, 9);
  Matrix one_row{12, 4}, few_rows{12, 4};
  for (Index j = 0; j < 4; ++j) one_row(5, j) = few_rows(0, j) = few_rows(7, j) = static_cast<double>(j + 1);
  few_rows(7, 0) = -3;
  const Matrix rank_one = product(integers(random, 12, 1, 1, 9), integers(random, 1, 4, 1, 9));
  for (const DType dtype : {DType::f32, DType::f64}) {
    const double most = dtype == DType::f32 ? 3.4e38 : 1.7e308, least = dtype == DType::f32 ? 1e-45 : 5e-324;
    for (const Matrix& g : {Matrix{12, 4}, scaled(1e-30, base), scaled(1e30, base), scaled(most / 9, base),
                            scaled(least, base), one_row, few_rows, rank_one}) {
      for (const int iterations : {1, 2, 4, 20}) {
        const Matrix u = balanced(g, {.balance = GetParam(), .pp_iterations = iterations}, dtype);
        for (const double value : u.values) {
          ASSERT_TRUE(std::isfinite(value)) << name(dtype);
          ASSERT_LE(std::abs(value), 1 + 1e-5);
        }
      }
    }
    EXPECT_TRUE(equal(balanced({12, 4}, {.balance = GetParam()}, dtype), Matrix{12, 4}));
    EXPECT_TRUE(equal(riemannian({12, 4}, {}, dtype), Matrix{12, 4}));
    for (const Matrix& g : {scaled(1e-30, base), scaled(1e30, base), one_row, few_rows, rank_one}) {
      for (const double value : riemannian(g, {}, dtype).values)
        ASSERT_TRUE(std::isfinite(value)) << name(dtype);
    }
  }
}

TEST(BalancedPolar, OfARankOneMatrixIsItsSignsWithEqualRows) {
  // The only U of rank one in the row space of x y' with equal rows is sign(x) y' / (|y| sqrt(m)).
  const Matrix x{4, 1, 1, {1, -20, 3, -0.5}}, y{1, 2, 1, {3, -4}};
  const Matrix expected{4, 2, 1, {0.3, -0.4, -0.3, 0.4, 0.3, -0.4, -0.3, 0.4}};
  EXPECT_TRUE(close(balanced(product(x, y)), expected, 1e-14));
}

TEST(BalancedPolar, FollowsRowPermutationsSignFlipsAndRightRotations) {
  Random random(12);
  const Matrix g = uneven_rows(random, 17, 6, 1), rotation = orthonormal(random, 6, 6), u = balanced(g);
  Matrix moved = g, expected = u;
  for (Index i = 0; i < 17; ++i) {
    for (Index j = 0; j < 6; ++j) {
      const double sign = i % 3 == 0 ? -1 : 1;
      moved(i, j) = sign * g((i * 5 + 3) % 17, j);
      expected(i, j) = sign * u((i * 5 + 3) % 17, j);
    }
  }
  EXPECT_TRUE(close(balanced(moved), expected, 1e-13));
  EXPECT_TRUE(close(balanced(product(g, rotation)), product(u, rotation), 1e-13));
}

TEST(BalancedPolar, TakesAnySchedule) {
  Random random(13);
  const Matrix g = uneven_rows(random, 40, 8, 0.5);
  for (const PolarSchedule& each : kPolarSchedules) {
    const Polar schedule = each.polar;
    const double slack = schedule == Polar::keller_jordan_5   ? 0.6
                         : schedule == Polar::polar_express_5 ? 0.4
                                                              : 1e-2;
    EXPECT_TRUE(semi_orthogonal(balanced(g, {.polar = schedule}), slack)) << each.name;
  }
  EXPECT_FALSE(close(balanced(g, {.polar = Polar::keller_jordan_5}), balanced(g), 1e-3));
}

TEST(BalancedPolar, RefusesWhatItCannotDoAndNamesTheValue) {
  const auto backend = make_cpu_backend();
  const Stored g(Matrix{4, 2}, DType::f64);
  Stored u(Matrix{4, 2}, DType::f64), wrong(Matrix{2, 4}, DType::f64);
  EXPECT_THAT(message_of([&] { balanced_polar(*backend, g.view(), {}, wrong.view()); }),
              ::testing::AllOf(::testing::HasSubstr("4x2"), ::testing::HasSubstr("2x4")));
  EXPECT_THAT(message_of([&] { balanced_polar(*backend, g.view(), {.pp_iterations = 0}, u.view()); }),
              ::testing::AllOf(::testing::HasSubstr("pp_iterations"), ::testing::HasSubstr("0")));
  EXPECT_THAT(message_of([&] { riemannian_polar(*backend, g.view(), {}, wrong.view()); }),
              ::testing::HasSubstr("2x4"));
  for (const double bad : {kNaN, kInf}) {
    Matrix x = identity(4);
    x.cols = 2;
    x.values.assign(8, 1);
    x(2, 1) = bad;
    EXPECT_THROW(balanced_polar(*backend, Stored(x, DType::f64).cview(), {}, u.view()),
                 std::invalid_argument);
    EXPECT_THROW(riemannian_polar(*backend, Stored(x, DType::f64).cview(), {}, u.view()),
                 std::invalid_argument);
  }
}

TEST(BalancedPolar, RefusesAnExponentThatIsNotPositive) {
  const auto backend = make_cpu_backend();
  const Stored g({4, 2, 1, {1, 2, 3, 4, 5, 6, 7, 9}}, DType::f64);
  Stored u(Matrix{4, 2}, DType::f64);
  for (const double beta : {0.0, -0.5, kNaN}) {
    EXPECT_THAT(message_of([&] { balanced_polar(*backend, g.view(), {.pp_beta = beta}, u.view()); }),
                ::testing::HasSubstr("pp_beta"));
  }
}

TEST(BalancedPolar, LeavesItsInputUnchangedToTheByteAndTheGapsAlone) {
  Random random(14);
  const auto backend = make_cpu_backend();
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const Placement& placement :
         {Placement{}, {.gap = 3, .offset = 1}, {.column_major = true, .gap = 1}}) {
      for (const auto& [rows, cols] : {std::pair<Index, Index>{24, 8}, {8, 24}, {9, 9}}) {
        const Matrix x = uneven_rows(random, rows, cols, 0.5);
        const Stored before(x, dtype, placement);
        const Stored g = before;
        Stored u(x, dtype, placement), v(x, dtype, placement);
        balanced_polar(*backend, g.view(), {.sides = Sides::longer}, u.view());
        riemannian_polar(*backend, g.view(), {}, v.view());
        EXPECT_TRUE(same_bytes(g, before));
        EXPECT_TRUE(u.padding_is_untouched() && v.padding_is_untouched());
        EXPECT_TRUE(close(u.values(), balanced(rounded(x, dtype), {.sides = Sides::longer}, dtype),
                          1000 * unit_roundoff(dtype)));
      }
    }
  }
}

TEST(BalancedPolar, OfABatchIsThatOfEachMatrix) {
  Random random(15);
  std::vector<Matrix> each;
  for (int b = 0; b < 4; ++b) each.push_back(uneven_rows(random, 24, 8, 0.3 * (b + 1)));
  each.push_back(Matrix{24, 8});
  const Matrix together = balanced(stacked(each)), ascents = riemannian(stacked(each));
  for (std::size_t b = 0; b < each.size(); ++b) {
    EXPECT_TRUE(close(matrix_of(together, static_cast<Index>(b)), balanced(each[b]), 1e-14));
    EXPECT_TRUE(close(matrix_of(ascents, static_cast<Index>(b)), riemannian(each[b]), 1e-14));
  }
}

/// Rows near few directions, each several times: where evening out is slow.
Matrix clustered(Random& random, Index rows, Index cols, Index clusters) {
  const Matrix centres = gaussian(random, clusters, cols);
  Matrix x = gaussian(random, rows, cols);
  for (Index i = 0; i < rows; ++i) {
    const Index centre = std::min(random.integer(0, clusters - 1), random.integer(0, clusters - 1));
    for (Index j = 0; j < cols; ++j) x(i, j) = centres(centre, j) + 0.1 * x(i, j);
  }
  return x;
}

double variation(const Matrix& u) { return coefficient_of_variation(row_lengths(u)); }

TEST(Odds, AtTwoEvaluationsAreMoreEvenThanTheRelease) {
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    Random random(seed);
    std::vector<double> power;
    for (int j = 1; j <= 32; ++j) power.push_back(1.0 / j);
    for (const Matrix& g : {gaussian(random, 96, 32), uneven_rows(random, 96, 32, 1.5),
                            product(gaussian(random, 96, 32), diagonal(power))}) {
      EXPECT_LT(1.5 * variation(balanced(g)), variation(balanced(g, {.balance = Balance::release})))
          << "seed " << seed;
    }
  }
}

struct Family {
  std::string name;
  Matrix matrix;
};

/// Kinds of gradients: flat, power-law spectra with uneven rows, heavy tails, clusters, sparse sums.
std::vector<Family> families(std::uint64_t seed, Index rows, Index cols) {
  Random random(seed);
  std::vector<double> power, root;
  for (Index j = 1; j <= cols; ++j) {
    power.push_back(1 / static_cast<double>(j));
    root.push_back(std::sqrt(power.back()));
  }
  const Matrix rotation = orthonormal(random, cols, cols);
  const auto turned = [&](const Matrix& x, const std::vector<double>& spectrum) {
    return product(product(x, diagonal(spectrum)), rotation);
  };
  Matrix heavy = turned(gaussian(random, rows, cols), root), sparse{rows, 4 * rows};
  for (Index i = 0; i < rows; ++i) {
    const double length = std::abs(random.normal()) / std::hypot(random.normal(), random.normal(), 1e-3);
    for (Index j = 0; j < cols; ++j) heavy(i, j) *= length;
    const Index firing = 1 + static_cast<Index>(static_cast<double>(rows) * std::pow(random.uniform(), 4));
    for (Index k = 0; k < firing; ++k) sparse(i, random.integer(0, 4 * rows - 1)) = random.normal();
  }
  return {{"gauss", gaussian(random, rows, cols)},
          {"power and lognormal", turned(uneven_rows(random, rows, cols, 1), power)},
          {"root and heavy", heavy},
          {"clustered", turned(clustered(random, rows, cols, 8), root)},
          {"sparse", product(sparse, turned(gaussian(random, 4 * rows, cols), root))}};
}

TEST(BalancedPolar, OfEveryFamilyAndAspectRatioIsOrthogonalAndMoreEvenThanTheReleaseAndAsAligned) {
  for (const std::uint64_t seed : {31u, 32u}) {
    for (const auto& [rows, cols] : {std::pair<Index, Index>{34, 32}, {48, 32}, {96, 32}, {160, 10}}) {
      for (const auto& [name, g] : families(seed, rows, cols)) {
        SCOPED_TRACE(::testing::Message() << name << " " << rows << "x" << cols << ", seed " << seed);
        const Matrix release = balanced(g, {.balance = Balance::release}), odds = balanced(g, {}, DType::f32);
        EXPECT_TRUE(semi_orthogonal(odds, 1e-4));
        EXPECT_LE(variation(odds), 1.02 * variation(release) + 1e-6);
        // Nearly square, an even U is far from G, and G's rounding errors move it.
        const bool tall = 2 * rows >= 3 * cols;
        EXPECT_GT(alignment(g, odds), 0.8 * alignment(g, release));
        if (!tall) continue;
        EXPECT_TRUE(close(odds, balanced(g), 2e-4));  // float32 is float64 but for rounding
        EXPECT_TRUE(close(balanced(scaled(-3e-7, g), {}, DType::f32), scaled(-1, odds), 2e-4));
        Matrix moved = g, expected = odds;
        for (Index i = 0; i < rows; ++i) {
          for (Index j = 0; j < cols; ++j) {
            moved(i, j) = g(rows - 1 - i, j);
            expected(i, j) = odds(rows - 1 - i, j);
          }
        }
        EXPECT_TRUE(close(balanced(moved, {}, DType::f32), expected, 2e-4));
      }
    }
  }
}

TEST(BalancedPolar, OfDuplicateRowsHasDuplicateRows) {
  Random random(33);
  Matrix g = uneven_rows(random, 60, 12, 1);
  for (Index i = 0; i < 60; i += 3) {
    for (Index j = 0; j < 12; ++j) g(i + 1, j) = 2 * g(i, j), g(i + 2, j) = -g(i, j);
  }
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Matrix u = balanced(g, {.pp_iterations = 4}, dtype);
    const double limit = dtype == DType::f32 ? 1e-5 : 1e-12;
    EXPECT_TRUE(semi_orthogonal(u, limit));
    for (Index i = 0; i < 60; i += 3) {
      for (Index j = 0; j < 12; ++j) {
        EXPECT_NEAR(u(i + 1, j), u(i, j), limit);
        EXPECT_NEAR(u(i + 2, j), -u(i, j), limit);
      }
    }
  }
}

TEST(BalancedPolar, OfMoreRowsThanASubspaceCanCarryStaysOrthogonalAndFinite) {
  // 40 of 48 rows in 3 of 12 dimensions: there is no even U, the 8 others must span 9 dimensions.
  Random random(34);
  const Matrix few = product(gaussian(random, 40, 3), gaussian(random, 3, 12)),
               rest = gaussian(random, 9, 12);
  Matrix g{49, 12};
  for (Index i = 0; i < 49; ++i) {
    for (Index j = 0; j < 12; ++j) g(i, j) = i < 40 ? few(i, j) : rest(i - 40, j);
  }
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const int evaluations : {1, 2, 3, 10, 40}) {
      SCOPED_TRACE(::testing::Message() << name(dtype) << ", " << evaluations << " evaluations");
      const Matrix u = balanced(g, {.pp_iterations = evaluations}, dtype);
      EXPECT_TRUE(semi_orthogonal(u, dtype == DType::f32 ? 1e-4 : 1e-10));
    }
  }
}

TEST(Odds, OfFloatsDoNotTakeRowsAloneOnTheirDirectionForOthers) {
  // A leverage of 1 that comes out less by rounding would count as uneven, and the steps of the others as
  // failed.
  for (const double condition : {1.0, 30.0, 300.0, 1000.0, 1e4}) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      SCOPED_TRACE(::testing::Message() << "condition " << condition << ", seed " << seed);
      Random random(seed);
      const Matrix few = conditioned(random, 40, 6, condition), turn = orthonormal(random, 15, 15);
      Matrix g{49, 15};
      for (Index i = 0; i < 40; ++i) {
        for (Index j = 0; j < 6; ++j) g(i, j) = few(i, j);
      }
      for (Index i = 0; i < 9; ++i) g(40 + i, 6 + i) = 1;
      const Matrix u = balanced(product(g, turn), {.pp_iterations = 8}, DType::f32);
      EXPECT_TRUE(semi_orthogonal(u, 1e-4));
      const std::vector<double> lengths = row_lengths(u);
      for (std::size_t i = 0; i < 40; ++i) EXPECT_NEAR(lengths[i], std::sqrt(6.0 / 40), 1e-3);
    }
  }
}

TEST(BalancedPolar, OfOneHugeRowIsThatOfTheSameRowSmall) {
  Random random(35);
  const Matrix g = gaussian(random, 40, 12);
  Matrix huge = g;
  for (Index j = 0; j < 12; ++j) huge(9, j) *= 1e6;
  EXPECT_TRUE(close(balanced(huge, {}, DType::f32), balanced(g, {}, DType::f32), 1e-5));
}

TEST(Odds, AreNeverLessEvenThanTylersStepNearFewDirections) {
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u}) {
    Random random(seed);
    for (const Index clusters : {4, 12, 30}) {
      const Matrix g = clustered(random, 96, 32, clusters);
      EXPECT_LE(variation(balanced(g)), 1.01 * variation(balanced(g, {.balance = Balance::release})))
          << "seed " << seed << ", " << clusters << " clusters";
    }
  }
}

TEST(Odds, EvenOutRowsNearFewDirectionsWithEnoughEvaluations) {
  Random random(21);
  const Matrix g = clustered(random, 64, 16, 10);
  EXPECT_LT(unevenness(balanced(g, {.pp_iterations = 80})), 1e-4);
}

TEST(Odds, StepBackToTylerWhereTheyOscillate) {
  // Two rows per direction, from uneven scales: odds exchange the shares of a pair for ever, Tyler's step is
  // exact.
  constexpr Index kPairs = 16;
  Random random(22);
  Matrix x{2 * kPairs, kPairs}, scales{2 * kPairs, 1};
  for (Index i = 0; i < 2 * kPairs; ++i) {
    x(i, i / 2) = 1;
    scales(i, 0) = std::exp(0.5 * random.normal());
  }
  const auto backend = make_cpu_backend();
  for (const int evaluations : {2, 3, 4, 5, 9}) {
    Stored d(scales, DType::f64), u(x, DType::f64);
    odds_balance(*backend, Stored(x, DType::f64).cview(), evaluations, {.polar = Polar::exact}, d.view(),
                 u.view());
    EXPECT_LT(unevenness(u.values()), 1e-12) << evaluations;
  }
}

TEST(Odds, LeaveRowsAloneOnTheirDirectionAndEvenOutTheRest) {
  Random random(23);
  const Matrix rest = uneven_rows(random, 20, 5, 1);
  Matrix g{21, 6};
  for (Index i = 0; i < 20; ++i) {
    for (Index j = 0; j < 5; ++j) g(i, j) = rest(i, j);
  }
  g(20, 5) = 1e-3;
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Matrix u = balanced(g, {.pp_iterations = 12}, dtype);
    EXPECT_NEAR(u(20, 5), 1, 1e-5);
    const std::vector<double> lengths = row_lengths(u);
    for (std::size_t i = 0; i < 20; ++i) EXPECT_NEAR(lengths[i], std::sqrt(5.0 / 20), 1e-4);
  }
}

TEST(Odds, OfARankDeficientMatrixHaveRowsOfTheRankOverTheCount) {
  Random random(24);
  const Matrix g = product(uneven_rows(random, 40, 4, 1), gaussian(random, 4, 12));
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Matrix u = balanced(g, {.pp_iterations = 20}, dtype);
    for (const double length : row_lengths(u)) EXPECT_NEAR(length, std::sqrt(4.0 / 40), 1e-4);
  }
}

TEST(Odds, OfABalancedMatrixAreThatMatrix) {
  Random random(25);
  const Matrix u = balanced(gaussian(random, 32, 8), {.pp_iterations = 60});
  EXPECT_TRUE(close(balanced(u), u, 1e-9));
}

TEST(Odds, AtOneEvaluationAreThePolarFactorOfTheUnitRows) {
  Random random(26);
  Matrix g = uneven_rows(random, 24, 8, 1);
  const Matrix u = balanced(g, {.pp_iterations = 1});
  const std::vector<double> lengths = row_lengths(g);
  for (Index i = 0; i < 24; ++i) {
    for (Index j = 0; j < 8; ++j) g(i, j) /= lengths[static_cast<std::size_t>(i)];
  }
  EXPECT_TRUE(close(u, plain(g), 1e-13));
}

/// Columns of lengths from 1 / condition to 1: what a Cholesky factor finds hardest.
Matrix growing_columns(Random& random, Index rows, Index cols, double condition) {
  Matrix x = gaussian(random, rows, cols);
  for (Index j = 0; j < cols; ++j) {
    const double scale = std::pow(condition, static_cast<double>(j) / static_cast<double>(cols - 1) - 1);
    for (Index i = 0; i < rows; ++i) x(i, j) *= scale;
  }
  return x;
}

TEST(ScaledPolar, OfFactorsOfOtherScalesIsOffByWhatOneRoundingOfItsInputCouldDo) {
  const auto backend = make_cpu_backend();
  for (const auto& [rows, cols] : {std::pair<Index, Index>{40, 31}, {96, 33}, {200, 60}}) {
    for (const double condition : {3.0, 30.0, 300.0, 1e3, 1e4, 1e5}) {
      for (const bool growing : {false, true}) {
        SCOPED_TRACE(::testing::Message() << rows << "x" << cols << ", condition " << condition
                                          << ", growing columns " << growing);
        Random random(static_cast<std::uint64_t>(rows) + static_cast<std::uint64_t>(condition));
        const Matrix x = rounded(growing ? growing_columns(random, rows, cols, condition)
                                         : conditioned(random, rows, cols, condition),
                                 DType::f32);
        Matrix ones{rows, 1}, scales{rows, 1}, scaled_rows = x;
        for (Index i = 0; i < rows; ++i) {
          ones(i, 0) = 1, scales(i, 0) = (i == 0 ? 0.01 : 1) * std::exp(0.5 * random.normal());
          for (Index j = 0; j < cols; ++j) scaled_rows(i, j) *= scales(i, 0);
        }
        const Stored X(x, DType::f32), from(ones, DType::f64), to(scales, DType::f64);
        const ScratchFrame frame(*backend);
        ScaledFactors factors{backend->scratch(rows, cols, 1, DType::f32),
                              backend->scratch(cols, cols, 1, DType::f32, Layout::column_major),
                              backend->scratch(rows, 1, 1, DType::f64)};
        const MatrixView h = backend->scratch(rows, 1, 1, DType::f64),
                         U = backend->scratch(rows, cols, 1, DType::f32);

        scaled_leverage(*backend, X.view(), from.view(), factors, h);
        EXPECT_TRUE(factors.known);
        const double off = 1e-5 + std::min(0.05, 0.1 * 0x1p-24 * condition * condition);
        const std::vector<double> lengths = row_lengths(reference_polar(x));
        for (Index i = 0; i < rows; ++i) {
          const double leverage = lengths[static_cast<std::size_t>(i)] * lengths[static_cast<std::size_t>(i)];
          EXPECT_NEAR(values_of(h)(i, 0), leverage, off * leverage);
        }
        scaled_polar(*backend, X.view(), to.view(), {.polar = Polar::exact}, factors, U, h);
        const Matrix error = sum(1, values_of(U), -1, reference_polar(scaled_rows));
        EXPECT_LE(svd(error).s.front(), 4e-6 + 0x1p-23 * condition_number(scaled_rows));
        EXPECT_TRUE(semi_orthogonal(values_of(U), 1e-5));
      }
    }
  }
}

TEST(Carried, BeginColdAsOddsAndGetMoreEvenOnAMatrixThatStands) {
  Random random(27);
  const Matrix g = uneven_rows(random, 48, 12, 1);
  Stored scales(Matrix{48, 1}, DType::f64);
  EXPECT_TRUE(equal(carried(g, scales), balanced(g)));
  double before = unevenness(balanced(g));
  for (int step = 0; step < 5; ++step) {
    const Matrix u = carried(g, scales);
    EXPECT_TRUE(semi_orthogonal(u, 1e-12));
    EXPECT_LT(unevenness(u), before) << "step " << step;
    before = unevenness(u);
  }
}

TEST(Carried, FollowAMatrixThatMovesAndDoNotGrow) {
  Random random(28);
  std::vector<double> lengths;
  for (Index i = 0; i < 48; ++i) lengths.push_back(std::exp(random.normal()));
  Matrix g = product(diagonal(lengths), gaussian(random, 48, 12));
  Stored scales(Matrix{48, 1}, DType::f32);
  for (int step = 0; step < 300; ++step) {
    g = sum(0.95, g, 0.1, product(diagonal(lengths), gaussian(random, 48, 12)));
    const Matrix u = carried(g, scales, {.balance = Balance::carried}, DType::f32);
    EXPECT_LT(variation(u), 0.5 * variation(plain(g))) << "step " << step;
  }
  EXPECT_NEAR(frobenius(scales.values()), 1, 1e-5);
}

TEST(Carried, TakeRowsBackThatWereZeroOrChangedByOrders) {
  Random random(29);
  const Matrix g = uneven_rows(random, 30, 6, 0.5);
  Matrix without = g, grown = g;
  for (Index j = 0; j < 6; ++j) without(3, j) = 0, grown(7, j) *= 1e6;
  Stored scales(Matrix{30, 1}, DType::f32);
  carried(g, scales);
  const Matrix u = carried(without, scales);
  for (Index j = 0; j < 6; ++j) EXPECT_NEAR(u(3, j), 0, 1e-15);
  EXPECT_EQ(scales.values()(3, 0), 0);
  EXPECT_LT(unevenness(carried(g, scales)), 0.5);
  EXPECT_LT(unevenness(carried(g, scales)), 0.1);
  EXPECT_LT(unevenness(carried(grown, scales)), 0.5);
}

TEST(Carried, OfZerosAreZeroAndRememberNothing) {
  Stored scales(Matrix{12, 1}, DType::f32);
  EXPECT_TRUE(equal(carried(Matrix{12, 4}, scales), Matrix{12, 4}));
  EXPECT_TRUE(equal(scales.values(), Matrix{12, 1}));
}

TEST(Carried, NeedOneStatePerMatrix) {
  const auto backend = make_cpu_backend();
  const Stored g(Matrix{4, 2}, DType::f64);
  Stored u(Matrix{4, 2}, DType::f64);
  EXPECT_THROW(balanced_polar(*backend, g.view(), {.balance = Balance::carried}, u.view()),
               std::invalid_argument);
}

TEST(Optimum, IsBetterAlignedThanOddsAndTheRiemannianVariantAndAsEven) {
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u}) {
    Random random(seed);
    const Matrix g = uneven_rows(random, 96, 32, 1), u = balanced(g, {.balance = Balance::optimum});
    EXPECT_TRUE(semi_orthogonal(u, 1e-12)) << "seed " << seed;
    EXPECT_LT(unevenness(u), 5e-3) << "seed " << seed;
    EXPECT_GT(alignment(g, u), alignment(g, balanced(g, {.pp_iterations = 20}))) << "seed " << seed;
    EXPECT_GT(alignment(g, u), 0.99 * alignment(g, riemannian(g))) << "seed " << seed;
    EXPECT_LT(alignment(g, u), alignment(g, plain(g))) << "seed " << seed;
  }
}

TEST(Optimum, DoesNotDependOnTheScaleOfTheGradient) {
  Random random(30);
  const Matrix g = uneven_rows(random, 24, 8, 0.7), expected = balanced(g, {.balance = Balance::optimum});
  for (const double c : {0x1p-900, 0x1p-10, 0x1p900}) {
    EXPECT_TRUE(close(balanced(scaled(c, g), {.balance = Balance::optimum}), expected, 1e-12)) << c;
  }
}

TEST(RiemannianPolar, DoesNotDependOnTheScaleOfTheGradient) {
  Random random(16);
  const Matrix g = uneven_rows(random, 24, 8, 0.7);
  const Matrix expected = riemannian(g);
  // The published operator can be indefinite; its conjugate gradients then amplify the rounding of c G.
  for (const double c : {1e-30, 1e-3, 7.0, 1e30})
    EXPECT_TRUE(close(riemannian(scaled(c, g)), expected, 1e-8)) << c;
}

TEST(RiemannianPolar, IsSemiOrthogonalMoreEvenThanMuonAndBetterAlignedThanAurora) {
  double own = 0, release = 0;
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    Random random(seed);
    const Matrix g = uneven_rows(random, 64, 16, 0.5), u = riemannian(g);
    EXPECT_TRUE(semi_orthogonal(u, 1e-12)) << "seed " << seed;
    EXPECT_LT(unevenness(u), 0.3 * unevenness(plain(g))) << "seed " << seed;
    EXPECT_LT(alignment(g, u), alignment(g, plain(g))) << "seed " << seed;
    own += alignment(g, u) / frobenius(g);
    release += alignment(g, balanced(g)) / frobenius(g);
  }
  EXPECT_GT(own, release);
}

TEST(RiemannianPolar, OfSquareAndWideMatricesIsThePolarFactorToTheBit) {
  Random random(17);
  for (const auto& [rows, cols] : {std::pair<Index, Index>{9, 9}, {8, 24}}) {
    const Matrix g = uneven_rows(random, rows, cols, 0.5);
    EXPECT_TRUE(equal(riemannian(g), plain(g)));
  }
}

TEST(RiemannianPolar, OfFloatsIsThatOfDoublesUpToRounding) {
  Random random(18);
  const Matrix g = rounded(uneven_rows(random, 48, 12, 0.5), DType::f32);
  // Seven polar factors of matrices of condition below 10, conjugate gradients on a well-conditioned system.
  EXPECT_TRUE(close(riemannian(g, {}, DType::f32), riemannian(g), 256 * 0x1p-24));
}

}  // namespace
}  // namespace aurora::test
