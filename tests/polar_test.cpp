#include "aurora/polar.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "../src/polar/exact.hpp"
#include "support/matchers.hpp"
#include "support/tested_backend.hpp"

namespace aurora::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Matrix polar_of(const Matrix& g, DType dtype, Polar schedule = Polar::exact, Placement placement = {}) {
  const auto backend = make_tested_backend();
  Stored u(scaled(kNaN, g), dtype, placement);
  polar(*backend, Stored(g, dtype, placement).cview(), schedule, u.view());
  EXPECT_TRUE(u.padding_is_untouched());
  return u.values();
}

/// The exact factor by one of the ways between which `exact` chooses, of float32.
Matrix by_way(const Matrix& g, void (*way)(Backend&, ConstMatrixView, MatrixView)) {
  const auto backend = make_tested_backend();
  Stored u(scaled(kNaN, g), DType::f32);
  way(*backend, tall(Stored(g, DType::f32).cview()), tall(u.view()));
  return u.values();
}

/// Error of an element of the exact polar factor of a matrix that is stored without error. float64: the
/// decomposition is that of a matrix at most about n u |G| away, which moves U by condition times that.
/// float32: rounding the result (elements are at most 1), and either a Gram matrix in float64, whose relative
/// error 2^-53 is multiplied by condition^2. Float32 below it sees condition numbers up to 32.
double exact_bound(DType dtype, Index n, double condition) {
  if (dtype == DType::f64) return 8 * static_cast<double>(n) * 0x1p-53 * condition;
  return 0x1p-24 * std::min(16 + condition * condition, 64.0) + 0x1p-53 * condition * condition;
}

class PolarFactor : public ::testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  Matrix exact(const Matrix& g) const { return polar_of(g, dtype()); }
  double bound(Index n, double condition) const { return exact_bound(dtype(), n, condition); }
};
INSTANTIATE_TEST_SUITE_P(Types, PolarFactor, ::testing::Values(DType::f32, DType::f64),
                         [](const auto& type) { return std::string(name(type.param)); });

struct Shape {
  Index rows, cols;
};

TEST_P(PolarFactor, AgreesWithJacobiRotationsForEveryShapeAndConditionNumber) {
  for (const auto& [rows, cols] :
       {Shape{2, 2}, {3, 2}, {2, 3}, {31, 31}, {33, 7}, {7, 33}, {127, 33}, {64, 64}}) {
    for (const double condition : {1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6}) {
      SCOPED_TRACE(::testing::Message() << rows << "x" << cols << ", condition " << condition);
      Random random(static_cast<std::uint64_t>(rows * 1000 + cols));
      const Matrix g = rounded(conditioned(random, rows, cols, condition), dtype());
      EXPECT_TRUE(close(exact(g), reference_polar(g), bound(std::max(rows, cols), condition)));
    }
  }
}

TEST(PolarOfFloats, ComesOutTheSameOnEveryWay) {
  for (const auto& [rows, cols] : {Shape{33, 31}, {48, 31}, {127, 33}, {33, 127}, {320, 20}}) {
    for (const double condition : {1.0, 4.0, 31.0, 33.0, 1e3, 1e4, 1e5, 2e5}) {
      const auto seed =
          static_cast<std::uint64_t>(rows * 7919 + cols) + static_cast<std::uint64_t>(condition);
      SCOPED_TRACE(::testing::Message()
                   << rows << "x" << cols << ", condition " << condition << ", seed " << seed);
      Random random(seed);
      const Matrix g = rounded(conditioned(random, rows, cols, condition), DType::f32);
      const Matrix expected = by_way(g, svd_polar);
      const Matrix halley = by_way(g, [](Backend& backend, ConstMatrixView G, MatrixView U) {
        EXPECT_TRUE(cholesky_polar(backend, G, U));
      });
      EXPECT_TRUE(close(halley, expected, exact_bound(DType::f32, rows, condition)));
      EXPECT_TRUE(semi_orthogonal(halley, 2e-5));
      EXPECT_TRUE(close(by_way(g, eigen_polar), expected, 0x1p-20));
      EXPECT_TRUE(
          close(polar_of(g, DType::f32, Polar::exact), expected, exact_bound(DType::f32, rows, condition)));
    }
  }
}

TEST_P(PolarFactor, OfEveryAspectRatioAndConditionNumberReachesTheNuclearNorm) {
  // <U, G> is the sum of the singular values, which are known, and no U'U = I does better; directions at the
  // cut weigh nothing in it.
  const bool single = dtype() == DType::f32;
  for (const Index cols : {1, 2, 3, 31, 33, 127}) {
    for (const double aspect : {1.05, 1.2, 1.6, 3.0, 16.0}) {
      const auto rows = static_cast<Index>(std::ceil(aspect * static_cast<double>(cols)));
      if (rows > 160) continue;
      for (const double condition : {1.0, 1e3, 1e8}) {
        const auto seed =
            static_cast<std::uint64_t>(rows * 1000 + cols) + static_cast<std::uint64_t>(condition);
        SCOPED_TRACE(::testing::Message()
                     << rows << "x" << cols << ", condition " << condition << ", seed " << seed);
        Random random(seed);
        const Matrix g = rounded(conditioned(random, rows, cols, condition), dtype());
        double nuclear_norm = 0, inner = 0;
        for (Index j = 0; j < cols; ++j)
          nuclear_norm +=
              std::pow(condition, cols == 1 ? 0.0 : -static_cast<double>(j) / static_cast<double>(cols - 1));
        const Matrix u = exact(g);
        for (std::size_t k = 0; k < u.values.size(); ++k) inner += u.values[k] * g.values[k];
        EXPECT_NEAR(inner, nuclear_norm, (single ? 1e-5 : 1e-12) * nuclear_norm);
        // Nothing is longer than 1: the power iteration on U'U stays there.
        Matrix x = gaussian(random, cols, 1);
        double growth = 0;
        for (int step = 0; step < 20; ++step) {
          const Matrix y = product(transposed(u), product(u, x));
          growth = frobenius(y) / frobenius(x);
          x = scaled(1 / frobenius(y), y);
        }
        EXPECT_LE(growth, 1 + (single ? 1e-4 : 1e-10));
      }
    }
  }
}

TEST(PolarOfFloats, OfASizeAcrossBlockBoundariesIsSemiOrthogonal) {
  for (const auto& [rows, cols] : {Shape{257, 257}, {270, 257}, {514, 257}, {257, 514}}) {
    Random random(static_cast<std::uint64_t>(rows + cols));
    const Matrix u = polar_of(gaussian(random, rows, cols), DType::f32);
    EXPECT_TRUE(semi_orthogonal(u, 1e-5)) << rows << "x" << cols;
  }
}

TEST_P(PolarFactor, OfASquareGaussianMatrixIsOrthogonalAndRight) {
  for (const std::uint64_t seed : {1u}) {
    Random random(seed);
    const Matrix g = rounded(gaussian(random, 256, 256), dtype());
    const Svd f = svd(g);
    const double condition = f.s.front() / f.s.back();
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ", condition " << condition);
    EXPECT_GT(condition, 100);
    const Matrix u = exact(g);
    EXPECT_TRUE(close(u, product(f.u, transposed(f.v)), bound(256, condition)));
    EXPECT_TRUE(semi_orthogonal(u, 2 * bound(256, condition)));
  }
}

TEST_P(PolarFactor, OfOddSizesIsSemiOrthogonal) {
  for (const Index m : {1, 2, 3, 31, 33, 127}) {
    for (const Index n : {1, 2, 3, 31, 33, 127}) {
      Random random(static_cast<std::uint64_t>(m * 128 + n));
      const Matrix g = conditioned(random, m, n, 20);
      EXPECT_TRUE(semi_orthogonal(exact(g), 4 * bound(127, 20))) << m << "x" << n;
    }
  }
}

TEST_P(PolarFactor, OfAWideMatrixIsTheTransposeOfTheTallOne) {
  Random random(2);
  for (const double condition : {2.0, 1e3}) {
    const Matrix g = conditioned(random, 40, 13, condition);
    EXPECT_TRUE(close(exact(transposed(g)), transposed(exact(g)), bound(40, condition)));
  }
}

TEST_P(PolarFactor, OfAMultipleIsThePolarFactorItself) {
  Random random(3);
  const Matrix g = rounded(integers(random, 24, 8, -50, 50), dtype());
  const Matrix expected = reference_polar(g);
  const bool single = dtype() == DType::f32;
  const double most = single ? double{std::numeric_limits<float>::max()} : std::numeric_limits<double>::max();
  const double least =
      single ? double{std::numeric_limits<float>::denorm_min()} : std::numeric_limits<double>::denorm_min();
  for (const double c : {1.0, 1e-30, 1e30, 0x1p-120, 0x1p120, most / 64, least}) {
    const Matrix multiple = scaled(c, g);
    // Rounding the multiple is an error of u in each element of a matrix of condition below 10.
    EXPECT_TRUE(close(exact(multiple), expected, bound(24, 10) + 10 * unit_roundoff(dtype()))) << "c = " << c;
  }
}

TEST_P(PolarFactor, OfTheLargestAndSmallestNumbersIsFinite) {
  const bool single = dtype() == DType::f32;
  const double most = single ? double{std::numeric_limits<float>::max()} : std::numeric_limits<double>::max();
  const double least =
      single ? double{std::numeric_limits<float>::denorm_min()} : std::numeric_limits<double>::denorm_min();
  for (const double size : {most, least}) {
    const Matrix all{6, 3, 1, std::vector<double>(18, -size)};
    EXPECT_TRUE(
        close(exact(all), scaled(-1 / std::sqrt(18), {6, 3, 1, std::vector<double>(18, 1)}), bound(6, 4)));
    EXPECT_TRUE(close(exact(diagonal({size, -size, size})), diagonal({1, -1, 1}), bound(3, 4))) << size;
  }
}

TEST_P(PolarFactor, OfARotatedMatrixIsTheRotatedPolarFactor) {
  Random random(4);
  const Matrix g = conditioned(random, 31, 9, 50), left = orthonormal(random, 31, 31),
               right = orthonormal(random, 9, 9);
  // The rotated matrix is rounded once more: u in each element, times the condition number.
  const double limit = 2 * bound(31, 50) + 50 * 9 * unit_roundoff(dtype());
  EXPECT_TRUE(close(exact(product(left, g)), product(left, exact(g)), limit));
  EXPECT_TRUE(close(exact(product(g, right)), product(exact(g), right), limit));
}

TEST_P(PolarFactor, MakesUTransposedGSymmetricPositiveSemidefinite) {
  Random random(5);
  for (const auto& [rows, cols] : {Shape{20, 20}, {33, 8}}) {
    const Matrix g = rounded(conditioned(random, rows, cols, 100), dtype());
    const Matrix h = product(transposed(exact(g)), g);
    const double limit = 2 * static_cast<double>(rows) * bound(rows, 100);
    EXPECT_TRUE(close(h, transposed(h), limit));
    // Symmetric with trace equal to the sum of its singular values: none of its eigenvalues is negative.
    const std::vector<double> s = svd(g).s;
    double trace = 0;
    for (Index i = 0; i < cols; ++i) trace += h(i, i);
    EXPECT_NEAR(trace, std::accumulate(s.begin(), s.end(), 0.0), limit * static_cast<double>(cols));
  }
}

TEST_P(PolarFactor, FollowsRowPermutationsAndSignFlips) {
  Random random(6);
  const Matrix g = rounded(conditioned(random, 17, 6, 10), dtype());
  Matrix moved = g;
  const Matrix u = exact(g);
  Matrix expected = u;
  for (Index i = 0; i < 17; ++i) {
    for (Index j = 0; j < 6; ++j) {
      const double sign = (i % 3 == 0 ? -1.0 : 1.0) * (j % 2 == 0 ? -1.0 : 1.0);
      moved(i, j) = sign * g((i * 5 + 3) % 17, j);
      expected(i, j) = sign * u((i * 5 + 3) % 17, j);
    }
  }
  EXPECT_TRUE(close(exact(moved), expected, 2 * bound(17, 10)));
}

TEST_P(PolarFactor, OfASemiOrthogonalMatrixIsThatMatrix) {
  Random random(7);
  const Matrix q = rounded(orthonormal(random, 33, 12), dtype());
  EXPECT_TRUE(close(exact(q), q, bound(33, 1) + 12 * unit_roundoff(dtype())));
}

TEST_P(PolarFactor, OfAVectorIsTheUnitVector) {
  Random random(8);
  for (const Index n : {1, 2, 33, 127}) {
    const Matrix g = rounded(gaussian(random, n, 1), dtype());
    const Matrix expected = scaled(1 / frobenius(g), g);
    EXPECT_TRUE(close(exact(g), expected, bound(n, 1)));
    EXPECT_TRUE(close(exact(transposed(g)), transposed(expected), bound(n, 1)));
  }
}

TEST_P(PolarFactor, OfZeroIsZero) {
  for (const auto& [rows, cols] : {Shape{1, 1}, {5, 5}, {33, 7}, {7, 33}}) {
    EXPECT_TRUE(equal(exact({rows, cols}), Matrix{rows, cols}));
    for (const PolarSchedule& schedule : kPolarSchedules) {
      EXPECT_TRUE(equal(polar_of({rows, cols}, dtype(), schedule.polar), Matrix{rows, cols}))
          << schedule.name;
    }
  }
}

TEST_P(PolarFactor, LeavesZeroRowsAndColumnsZero) {
  Random random(9);
  Matrix g = integers(random, 12, 5, -9, 9);
  for (Index j = 0; j < 5; ++j) g(3, j) = g(11, j) = 0;
  for (Index i = 0; i < 12; ++i) g(i, 2) = 0;
  const Matrix u = exact(g);
  EXPECT_TRUE(close(u, reference_polar(g, 1e-10), bound(12, 10)));
  for (Index j = 0; j < 5; ++j) EXPECT_NEAR(u(3, j), 0, bound(12, 10));
  for (Index i = 0; i < 12; ++i) EXPECT_NEAR(u(i, 2), 0, bound(12, 10));
}

TEST_P(PolarFactor, OfARankDeficientMatrixIsThePartialIsometryOfItsRange) {
  for (const Index rank : {1, 3, 7}) {
    Random random(static_cast<std::uint64_t>(rank));
    for (const auto& [rows, cols] : {Shape{31, 10}, {16, 16}, {9, 40}}) {
      SCOPED_TRACE(::testing::Message() << rows << "x" << cols << " of rank " << rank);
      const Matrix g =
          product(integers(random, rows, rank, -5, 5), integers(random, rank, cols, -5, 5));  // exact
      const Matrix u = exact(g);
      EXPECT_TRUE(close(u, reference_polar(g, 1e-10), bound(40, 30)));
      // u u' u = u for a partial isometry, and its squares sum to the rank.
      EXPECT_TRUE(close(product(product(u, transposed(u)), u), u, 4 * bound(40, 30)));
      EXPECT_NEAR(std::pow(frobenius(u), 2), static_cast<double>(rank), 40 * bound(40, 30));
    }
  }
}

TEST(PolarOfFloats, OfARoundedRankOneMatrixHasNoAmplifiedNoise) {
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    Random random(seed);
    const Matrix x = gaussian(random, 96, 1), y = gaussian(random, 32, 1);
    const Matrix g =
        product(x, transposed(y));  // rounding to float32 adds singular values near 2^-25 of the largest
    const Matrix expected = scaled(1 / (frobenius(x) * frobenius(y)), g);
    EXPECT_TRUE(close(polar_of(g, DType::f32), expected, 8 * 0x1p-24)) << "seed " << seed;
  }
}

TEST_P(PolarFactor, CutsSingularValuesWhereTheHeaderSays) {
  const Matrix shape = identity(4);
  const double cut = polar_cut(Stored(shape, dtype()).cview());
  EXPECT_EQ(cut, dtype() == DType::f32 ? 0x1p-21 : 4 * 0x1p-52);
  const Matrix u = exact(diagonal({1, 2 * cut, cut / 2, 1}));
  EXPECT_TRUE(close(u, diagonal({1, 1, 0, 1}), dtype() == DType::f32 ? 0x1p-8 : 0x1p-20));
}

TEST_P(PolarFactor, LeavesItsInputUnchangedToTheByte) {
  Random random(10);
  const auto backend = make_tested_backend();
  for (const PolarSchedule& schedule : kPolarSchedules) {
    for (const Placement& placement :
         {Placement{}, {.gap = 2, .offset = 1}, {.column_major = true, .gap = 1}}) {
      const Stored before(gaussian(random, 12, 9), dtype(), placement);
      const Stored g = before;
      Stored u(Matrix{12, 9}, dtype(), placement);
      polar(*backend, g.view(), schedule.polar, u.view());
      EXPECT_TRUE(same_bytes(g, before)) << schedule.name;
    }
  }
}

TEST_P(PolarFactor, IsTheSameInEveryPlacementWithNaNInTheGaps) {
  Random random(11);
  for (const PolarSchedule& schedule : kPolarSchedules) {
    for (const auto& [rows, cols] : {Shape{24, 9}, {9, 24}, {13, 13}}) {
      const Matrix g = rounded(conditioned(random, rows, cols, 5), dtype());
      const Matrix packed = polar_of(g, dtype(), schedule.polar);
      for (const Placement& placement : {Placement{.gap = 3},
                                         {.offset = 1},
                                         {.gap = 1, .offset = 3},
                                         {.column_major = true},
                                         {.column_major = true, .gap = 2, .offset = 1}}) {
        // The schedules' gain on rounding errors is at most 10^4 on small singular values, here about 100.
        EXPECT_TRUE(
            close(polar_of(g, dtype(), schedule.polar, placement), packed, 2000 * unit_roundoff(dtype())))
            << schedule.name << ", " << rows << "x" << cols;
      }
    }
  }
}

TEST_P(PolarFactor, OfABatchIsThatOfEachMatrix) {
  Random random(12);
  for (const PolarSchedule& schedule : kPolarSchedules) {
    const Matrix g = gaussian(random, 20, 12, 5);
    const Matrix u = polar_of(g, dtype(), schedule.polar, {.gap = 1, .batch_gap = 7});
    for (Index b = 0; b < 5; ++b) {
      EXPECT_TRUE(close(matrix_of(u, b), polar_of(matrix_of(g, b), dtype(), schedule.polar),
                        1e4 * unit_roundoff(dtype())))
          << schedule.name;
    }
  }
}

TEST_P(PolarFactor, RefusesWhatIsNotFiniteAndWritesNothing) {
  const auto backend = make_tested_backend();
  for (const double bad : {kNaN, kInf, -kInf}) {
    Matrix g = identity(5);
    g(4, 2) = bad;
    const Stored before(scaled(3, identity(5)), dtype());
    Stored u = before;
    const std::string message =
        message_of([&] { polar(*backend, Stored(g, dtype()).cview(), Polar::exact, u.view()); });
    EXPECT_THAT(message, ::testing::StartsWith("[aurora::polar] "));
    EXPECT_THAT(message, ::testing::HasSubstr("5x5"));
    EXPECT_TRUE(same_bytes(u, before));
  }
}

TEST_P(PolarFactor, LetsNaNThroughASchedule) {
  Matrix g = identity(4);
  g(1, 1) = kNaN;
  for (const PolarSchedule& schedule : kPolarSchedules) {
    if (schedule.steps.empty()) continue;
    const Matrix u = polar_of(g, dtype(), schedule.polar);
    EXPECT_TRUE(std::any_of(u.values.begin(), u.values.end(), [](double x) { return std::isnan(x); }));
  }
}

TEST(PolarErrors, NameAPrecisionWithoutProducts) {
  const auto backend = make_cpu_backend();
  Stored g(identity(4), DType::f32), u(Matrix{4, 4}, DType::f32);
  EXPECT_THAT(
      message_of([&] { polar(*backend, g.cview(), Polar::polar_express_5, u.view(), Precision::float16); }),
      ::testing::AllOf(::testing::HasSubstr("float16"), ::testing::HasSubstr("precision=float32")));
}

TEST(PolarMethods, AutomaticIsResolvedByTheDeviceAndNothingElseIs) {
  EXPECT_EQ(resolved(Polar::automatic, Device::cpu), Polar::exact);
  EXPECT_EQ(resolved(Polar::automatic, Device::accelerator), Polar::polar_express_7);
  EXPECT_EQ(resolved(Polar::automatic, Device::accelerator, DType::f64), Polar::exact);
  EXPECT_EQ(resolved(Precision::automatic, Device::cpu), Precision::float32);
  EXPECT_EQ(resolved(Precision::automatic, Device::accelerator), Precision::float16);
  for (const PolarSchedule& schedule : kPolarSchedules) {
    if (schedule.polar == Polar::automatic) continue;
    for (const Device device : {Device::cpu, Device::accelerator}) {
      EXPECT_EQ(resolved(schedule.polar, device), schedule.polar);
    }
  }
}

TEST(PolarErrors, NameTheShapesAndTypesThatDiffer) {
  const auto backend = make_tested_backend();
  const Stored g(Matrix{4, 2}, DType::f32);
  Stored wrong_shape(Matrix{2, 4}, DType::f32), wrong_type(Matrix{4, 2}, DType::f64);
  EXPECT_EQ(message_of([&] { polar(*backend, g.view(), Polar::exact, wrong_shape.view()); }),
            "[aurora::polar] Shapes differ: 4x2 vs 2x4");
  const std::string types = message_of([&] { polar(*backend, g.view(), Polar::exact, wrong_type.view()); });
  EXPECT_THAT(types, ::testing::HasSubstr("float32"));
  EXPECT_THAT(types, ::testing::HasSubstr("float64"));
  Stored half(Matrix{4, 2}, DType::bf16);
  EXPECT_THAT(message_of([&] { polar(*backend, half.cview(), Polar::exact, half.view()); }),
              ::testing::HasSubstr("bfloat16"));
}

/// A schedule is a function of each singular value.
Matrix scheduled(const Matrix& g, const PolarSchedule& schedule) {
  Svd f = svd(g);
  double squares = 0;
  for (const double s : f.s) squares += s * s;
  for (Index j = 0; j < f.u.cols; ++j) {
    double s = f.s[static_cast<std::size_t>(j)] / (schedule.norm_factor * std::sqrt(squares));
    for (const auto& [a, b, c] : schedule.steps) s = a * s + b * std::pow(s, 3) + c * std::pow(s, 5);
    for (Index i = 0; i < f.u.rows; ++i) f.u(i, j) *= s;
  }
  return product(f.u, transposed(f.v));
}

TEST_P(PolarFactor, UnderAScheduleMapsEverySingularValueThroughItsSteps) {
  Random random(13);
  for (const PolarSchedule& schedule : kPolarSchedules) {
    if (schedule.steps.empty()) continue;
    double gain = 1;
    for (const Quintic& step : schedule.steps) gain *= step.a;
    for (const auto& [rows, cols] : {Shape{24, 8}, {8, 24}, {16, 16}, {33, 7}}) {
      for (const double condition : {3.0, 300.0}) {
        const Matrix g = rounded(conditioned(random, rows, cols, condition), dtype());
        // A rounding error of the first step, u |X|, grows at most by the gain at zero; each step adds a few
        // more.
        EXPECT_TRUE(close(polar_of(g, dtype(), schedule.polar), scheduled(g, schedule),
                          16 * gain * unit_roundoff(dtype())))
            << schedule.name << ", " << rows << "x" << cols;
      }
    }
  }
}

TEST_P(PolarFactor, UnderAScheduleDoesNotDependOnTheScaleOfTheGradient) {
  Random random(14);
  const Matrix g = rounded(conditioned(random, 24, 8, 5), dtype());
  for (const PolarSchedule& schedule : kPolarSchedules) {
    for (const double c : {0x1p-100, 0x1p100}) {
      EXPECT_TRUE(close(polar_of(scaled(c, g), dtype(), schedule.polar), polar_of(g, dtype(), schedule.polar),
                        2000 * unit_roundoff(dtype())))
          << schedule.name << ", c = " << c;
    }
  }
}

TEST(PolarSchedules, HaveTheirPublishedNumberOfStepsAndDifferentNames) {
  std::set<std::string_view> names;
  for (const PolarSchedule& schedule : kPolarSchedules) {
    EXPECT_TRUE(names.insert(schedule.name).second) << schedule.name;
    EXPECT_EQ(&aurora::schedule(schedule.polar), &schedule);
    EXPECT_EQ(schedule.steps.empty(), schedule.polar == Polar::exact || schedule.polar == Polar::automatic);
    const std::size_t dash = schedule.name.rfind('-');
    if (schedule.steps.empty()) continue;
    EXPECT_EQ(std::to_string(schedule.steps.size()), schedule.name.substr(dash + 1));
  }
}

TEST(PolarSchedules, MapTheSpectrumIntoTheirPublishedBands) {
  struct Band {
    Polar polar;
    double least, most;
  };
  for (const auto& [polar, least, most] : {Band{Polar::keller_jordan_5, 0.68, 1.135},
                                           {Polar::simple_quintic_12, 0.9995, 1.0005},
                                           {Polar::cans_12, 0.9995, 1.0005},
                                           {Polar::polar_express_5, 0.855, 1.145},
                                           {Polar::polar_express_6, 0.997, 1.0015},
                                           {Polar::polar_express_7, 0.9995, 1.0005},
                                           {Polar::polar_express_8, 0.9995, 1.0005}}) {
    const PolarSchedule& schedule = aurora::schedule(polar);
    double lowest = 2, highest = 0;
    for (int k = 0; k <= 1000; ++k) {
      double s = std::pow(0.01, k / 1000.0) / schedule.norm_factor;
      for (const auto& [a, b, c] : schedule.steps) s = a * s + b * std::pow(s, 3) + c * std::pow(s, 5);
      lowest = std::min(lowest, s);
      highest = std::max(highest, s);
    }
    EXPECT_GE(lowest, least) << schedule.name;
    EXPECT_LE(highest, most) << schedule.name;
  }
}

TEST_P(PolarFactor, RepeatsItsBitsForAnyNumberOfThreads) {
  Random random(15);
  const Matrix g = gaussian(random, 90, 50, 2);
  for (const Polar method : {Polar::exact, Polar::polar_express_5}) {
    Matrix first;
    for (const int threads : {1, 2}) {
      const auto backend = make_tested_backend(threads);
      Matrix before;
      for (int repeat = 0; repeat < 2; ++repeat) {
        // Another placement in memory each time: alignment must not decide.
        const Stored stored(g, dtype(), {.offset = 0});
        const std::vector<double> disturbance(static_cast<std::size_t>(random.integer(1, 5000)));
        Stored u(scaled(kNaN, g), dtype());
        polar(*backend, stored.view(), method, u.view());
        if (repeat > 0) {
          EXPECT_TRUE(equal(u.values(), before)) << threads << " threads";
        }
        before = u.values();
      }
      if (threads == 1) first = before;
      EXPECT_TRUE(equal(before, first)) << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace aurora::test
