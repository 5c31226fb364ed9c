#include "aurora/backend.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <thread>

#include "support/matchers.hpp"
#include "support/tested_backend.hpp"

namespace aurora::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

const std::vector<Placement> kPlacements = {
    {},
    {.gap = 3},
    {.offset = 1, .batch_gap = 5},
    {.column_major = true},
    {.column_major = true, .gap = 1, .offset = 3, .batch_gap = 2},
};

struct Shape {
  Index rows, cols;
};
const std::vector<Shape> kShapes = {{1, 1}, {1, 7}, {5, 1}, {2, 2}, {5, 7}, {33, 31}, {17, 64}};

class BackendPrimitive : public ::testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  /// Error of a sum of `terms` products of numbers of size one, in the tested type: (terms + 4) u, and each
  /// product is at most `size`.
  double bound(Index terms, double size) const {
    return static_cast<double>(terms + 4) * unit_roundoff(dtype()) * size;
  }
  std::unique_ptr<Backend> backend_ = make_tested_backend();
};
INSTANTIATE_TEST_SUITE_P(Types, BackendPrimitive, ::testing::Values(DType::f32, DType::f64),
                         [](const auto& type) { return std::string(name(type.param)); });

TEST_P(BackendPrimitive, AxpbyIsItsFormulaInEveryPlacement) {
  Random random(1);
  for (const auto& [rows, cols] : kShapes) {
    const Matrix x = rounded(gaussian(random, rows, cols, 3), dtype());
    const Matrix y = rounded(gaussian(random, rows, cols, 3), dtype());
    for (const Placement& px : kPlacements) {
      for (const Placement& py : kPlacements) {
        const Stored sx(x, dtype(), px);
        Stored sy(y, dtype(), py);
        backend_->axpby(0.75, sx.view(), -1.5, sy.view());
        EXPECT_TRUE(close(sy.values(), sum(0.75, x, -1.5, y), bound(2, 10)));
        EXPECT_TRUE(sy.padding_is_untouched());
      }
    }
  }
}

TEST_P(BackendPrimitive, AxpbyWithBetaZeroDoesNotReadItsOutput) {
  Random random(2);
  const Matrix x = rounded(gaussian(random, 5, 7), dtype());
  Stored y(scaled(kNaN, x), dtype());
  backend_->axpby(1.0, Stored(x, dtype()).cview(), 0.0, y.view());
  EXPECT_TRUE(equal(y.values(), x));
}

TEST_P(BackendPrimitive, AxpbyOfAMatrixAndItselfIsInPlace) {
  Random random(3);
  const Matrix x = rounded(gaussian(random, 33, 31), dtype());
  Stored y(x, dtype());
  backend_->axpby(0.0, y.cview(), 0.5, y.view());
  EXPECT_TRUE(equal(y.values(), scaled(0.5, x)));
  backend_->axpby(2.0, y.cview(), 0.0, y.view());
  EXPECT_TRUE(equal(y.values(), x));
}

TEST(Backend, AxpbyConvertsBetweenAllTypesToTheNearest) {
  Random random(4);
  const auto backend = make_tested_backend();
  for (const DType from : {DType::f32, DType::f64, DType::bf16}) {
    for (const DType to : {DType::f32, DType::f64, DType::bf16}) {
      for (const Placement& placement : kPlacements) {
        const Matrix x = rounded(gaussian(random, 9, 13, 2), from);
        Stored y(Matrix{9, 13, 2}, to, placement);
        backend->axpby(1.0, Stored(x, from).cview(), 0.0, y.view());
        EXPECT_TRUE(equal(y.values(), rounded(x, to))) << name(from) << " to " << name(to);
        EXPECT_TRUE(y.padding_is_untouched());
      }
    }
  }
}

TEST(Backend, Bf16TiesGoToTheEvenNeighbour) {
  const auto backend = make_tested_backend();
  const Matrix ties{1, 4, 1, {1 + 0x1p-8, 1 + 0x3p-8, -1 - 0x1p-8, 1 + 0x1p-8 + 0x1p-20}};
  Stored y(Matrix{1, 4}, DType::bf16);
  backend->axpby(1.0, Stored(ties, DType::f32).cview(), 0.0, y.view());
  EXPECT_TRUE(equal(y.values(), {1, 4, 1, {1, 1 + 0x1p-6, -1, 1 + 0x1p-7}}));
}

TEST_P(BackendPrimitive, ScaleRowsMultipliesEachRowByItsNumber) {
  Random random(5);
  for (const auto& [rows, cols] : kShapes) {
    const Matrix x = rounded(gaussian(random, rows, cols, 2), dtype());
    const Matrix d = gaussian(random, rows, 1, 2);
    Matrix expected = x;
    for (Index b = 0; b < 2; ++b) {
      for (Index i = 0; i < rows; ++i) {
        for (Index j = 0; j < cols; ++j) expected(i, j, b) *= d(i, 0, b);
      }
    }
    for (const Placement& placement : kPlacements) {
      const Stored sx(x, dtype(), placement);
      Stored y(scaled(kNaN, x), dtype(), placement);
      backend_->scale_rows(Stored(d, DType::f64).cview(), sx.view(), y.view());
      EXPECT_TRUE(close(y.values(), expected, bound(0, 10)));
      Stored in_place(x, dtype(), placement);
      backend_->scale_rows(Stored(d, DType::f64).cview(), in_place.cview(), in_place.view());
      EXPECT_TRUE(equal(in_place.values(), y.values()));
      EXPECT_TRUE(in_place.padding_is_untouched());
    }
  }
}

TEST_P(BackendPrimitive, ScaleRowsByZeroGivesZeroWhateverTheRowHolds) {
  const Matrix x{3, 2, 1, {kNaN, 1, kInf, -kInf, 3, 4}};
  Stored y(x, dtype());
  backend_->scale_rows(Stored({3, 1, 1, {0, 0, 2}}, DType::f64).cview(), Stored(x, dtype()).cview(),
                       y.view());
  EXPECT_TRUE(equal(y.values(), {3, 2, 1, {0, 0, 0, 0, 6, 8}}));
}

TEST_P(BackendPrimitive, RowDotsSumInDouble) {
  Random random(6);
  for (const auto& [rows, cols] : kShapes) {
    const Matrix x = rounded(gaussian(random, rows, cols, 2), dtype());
    const Matrix y = rounded(gaussian(random, rows, cols, 2), dtype());
    Matrix expected{rows, 1, 2};
    for (Index b = 0; b < 2; ++b) {
      for (Index i = 0; i < rows; ++i) {
        for (Index j = 0; j < cols; ++j) expected(i, 0, b) += x(i, j, b) * y(i, j, b);
      }
    }
    for (const Placement& px : kPlacements) {
      for (const Placement& py : kPlacements) {
        Stored d(Matrix{rows, 1, 2}, DType::f64);
        backend_->row_dots(Stored(x, dtype(), px).cview(), Stored(y, dtype(), py).cview(), d.view());
        EXPECT_TRUE(close(d.values(), expected, static_cast<double>(cols + 4) * 0x1p-53 * 20));
      }
    }
  }
}

TEST(Backend, RowDotsOfFloatsDoNotCancelOrOverflow) {
  const auto backend = make_tested_backend();
  const Stored x({2, 3, 1, {1e30, 1, -1e30, 4096.5, 1e-3, -4096.5}}, DType::f32);
  const Stored y({2, 3, 1, {1e30, 0.25, 1e30, 4096.5, 1, 4096.5}}, DType::f32);
  Stored d(Matrix{2, 1}, DType::f64);
  backend->row_dots(x.view(), y.view(), d.view());
  EXPECT_TRUE(std::isfinite(d.values()(0, 0)));
  EXPECT_NEAR(d.values()(1, 0), 1e-3, 1e-8);
}

TEST(Backend, ScaleRowsAndRowDotsGoThroughColumnsOfAnyLength) {
  Random random(14);
  const auto backend = make_tested_backend();
  for (const Index rows : {255, 256, 257, 600}) {
    const Matrix x = gaussian(random, rows, 3), d = gaussian(random, rows, 1);
    Matrix expected_product = x, expected_dots{rows, 1};
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < 3; ++j) {
        expected_product(i, j) = d(i, 0) * x(i, j);
        expected_dots(i, 0) += x(i, j) * x(i, j);
      }
    }
    const Stored from(x, DType::f64, {.column_major = true, .gap = 1}), scales(d, DType::f64);
    Stored to(x, DType::f64, {.column_major = true, .gap = 2}), dots(d, DType::f64);
    backend->scale_rows(scales.view(), from.view(), to.view());
    backend->row_dots(from.view(), from.view(), dots.view());
    EXPECT_TRUE(close(to.values(), expected_product, 1e-15 * largest(expected_product)));
    EXPECT_TRUE(close(dots.values(), expected_dots, 1e-14 * largest(expected_dots)));
  }
}

TEST_P(BackendPrimitive, FillWritesEveryElementAndNoPadding) {
  for (const Placement& placement : kPlacements) {
    Stored x(Matrix{5, 7, 2}, dtype(), placement);
    backend_->fill(-2.5, x.view());
    for (const double value : x.values().values) EXPECT_EQ(value, -2.5);
    EXPECT_TRUE(x.padding_is_untouched());
  }
}

TEST_P(BackendPrimitive, NormalizeGivesFrobeniusNormOneAtEveryMagnitude) {
  Random random(7);
  const bool single = dtype() == DType::f32;
  const double most = single ? double{std::numeric_limits<float>::max()} : std::numeric_limits<double>::max();
  const std::vector<double> magnitudes = {
      1, 1e-30, 1e30, single ? 1e-37 : 1e-300, most / 100, single ? 1e-43 : 5e-322};
  const Matrix base = integers(random, 5, 7, 1, 20);
  for (const double magnitude : magnitudes) {
    const Matrix x = rounded(scaled(magnitude, base), dtype());
    Matrix expected = scaled(1 / largest(x), x);
    if (!std::isfinite(1 / largest(x))) {
      expected = scaled(0x1p1000, x);
      expected = scaled(1 / largest(expected), expected);
    }
    expected = scaled(1 / frobenius(expected), expected);
    for (const Placement& placement : kPlacements) {
      Stored y(scaled(kNaN, x), dtype(), placement);
      backend_->normalize(Stored(x, dtype(), placement).cview(), y.view());
      EXPECT_TRUE(close(y.values(), expected, bound(0, 2))) << magnitude;
      Stored in_place(x, dtype(), placement);
      backend_->normalize(in_place.cview(), in_place.view());
      EXPECT_TRUE(equal(in_place.values(), y.values())) << magnitude;
      EXPECT_TRUE(in_place.padding_is_untouched());
    }
  }
}

TEST_P(BackendPrimitive, NormalizeLeavesZeroAndTreatsEachMatrixOfABatchAlone) {
  Stored x({1, 2, 3, {3, 4, 0, 0, -1e-20, 0}}, dtype());
  backend_->normalize(x.cview(), x.view());
  EXPECT_TRUE(close(x.values(), {1, 2, 3, {0.6, 0.8, 0, 0, -1, 0}}, unit_roundoff(dtype())));
}

TEST_P(BackendPrimitive, MultiplyIsTheMatrixProductInEveryPlacement) {
  Random random(8);
  struct Sizes {
    Index m, k, n;
  };
  for (const auto& [m, k, n] :
       {Sizes{1, 1, 1}, {1, 5, 3}, {4, 1, 6}, {7, 5, 1}, {33, 17, 31}, {40, 65, 33}}) {
    const Matrix a = rounded(gaussian(random, m, k, 2), dtype());
    const Matrix b = rounded(gaussian(random, k, n, 2), dtype());
    const Matrix c = rounded(gaussian(random, m, n, 2), dtype());
    std::vector<Matrix> products, sums;
    for (Index i = 0; i < 2; ++i) {
      products.push_back(product(matrix_of(a, i), matrix_of(b, i)));
      sums.push_back(sum(-0.5, products.back(), 2, matrix_of(c, i)));
    }
    const double limit = bound(k, 16 * static_cast<double>(k));
    for (const Placement& pa : kPlacements) {
      for (const Placement& pb : kPlacements) {
        for (const Placement& pc : kPlacements) {
          const Stored sa(a, dtype(), pa), sb(b, dtype(), pb);
          Stored sc(c, dtype(), pc);
          backend_->multiply(-0.5, sa.view(), sb.view(), 2.0, sc.view());
          EXPECT_TRUE(close(sc.values(), stacked(sums), limit));
          EXPECT_TRUE(sc.padding_is_untouched());
          Stored fresh(scaled(kNaN, c), dtype(), pc);
          backend_->multiply(1.0, sa.view(), sb.view(), 0.0, fresh.view());
          EXPECT_TRUE(close(fresh.values(), stacked(products), limit));
        }
      }
    }
  }
}

TEST_P(BackendPrimitive, GramIsXTransposedXWithBothTrianglesTheSame) {
  Random random(9);
  for (const auto& [rows, cols] : kShapes) {
    const Matrix x = rounded(gaussian(random, rows, cols, 2), dtype());
    std::vector<Matrix> each;
    for (Index b = 0; b < 2; ++b) each.push_back(product(transposed(matrix_of(x, b)), matrix_of(x, b)));
    for (const Placement& px : kPlacements) {
      for (const Placement& ps : kPlacements) {
        Stored s(scaled(kNaN, Matrix{cols, cols, 2}), dtype(), ps);
        backend_->gram(Stored(x, dtype(), px).cview(), s.view());
        EXPECT_TRUE(close(s.values(), stacked(each), bound(rows, 16 * static_cast<double>(rows))));
        EXPECT_TRUE(equal(s.values(), transposed(s.values())));
        EXPECT_TRUE(s.padding_is_untouched());
      }
    }
  }
}

TEST_P(BackendPrimitive, CholeskyReassemblesTheMatrixFromAnUpperTriangle) {
  Random random(12);
  for (const Index n : {1, 2, 3, 31, 64}) {
    const Matrix x = gaussian(random, 2 * n, n);
    const Matrix s = rounded(product(transposed(x), x), dtype());
    Stored r(s, dtype(), {.column_major = true, .gap = 2});
    const double ratio = backend_->cholesky(r.view());
    const Matrix factor = r.values();
    double least = factor(0, 0), most = factor(0, 0);
    for (Index i = 0; i < n; ++i) {
      least = std::min(least, factor(i, i)), most = std::max(most, factor(i, i));
      for (Index j = 0; j < i; ++j) EXPECT_EQ(factor(i, j), 0.0);
    }
    EXPECT_NEAR(ratio, least / most, 2 * unit_roundoff(dtype()));
    EXPECT_TRUE(close(product(transposed(factor), factor), s, bound(n, largest(s))));
    EXPECT_TRUE(r.padding_is_untouched());
  }
}

TEST_P(BackendPrimitive, CholeskyOfAnIndefiniteMatrixSaysZero) {
  Stored s(Matrix{2, 2, 1, {1, 2, 2, 1}}, dtype(), {.column_major = true});
  EXPECT_EQ(backend_->cholesky(s.view()), 0.0);
}

TEST_P(BackendPrimitive, MultiplyAndDivideByUpperReadOneTriangleInEveryPlacement) {
  Random random(13);
  for (const auto& [rows, cols] : kShapes) {
    Matrix upper = scaled(0.5 / static_cast<double>(cols), gaussian(random, cols, cols, 2)), read = upper;
    for (Index b = 0; b < 2; ++b) {
      for (Index i = 0; i < cols; ++i) {
        upper(i, i, b) = 1 + 0.1 * static_cast<double>(i % 7);
        for (Index j = 0; j < i; ++j) upper(i, j, b) = 0;
      }
    }
    upper = rounded(upper, dtype());
    for (Index b = 0; b < 2; ++b) {
      for (Index i = 0; i < cols; ++i) {
        for (Index j = 0; j < cols; ++j) read(i, j, b) = i <= j ? upper(i, j, b) : kNaN;
      }
    }
    const Matrix x = rounded(gaussian(random, rows, cols, 2), dtype());
    std::vector<Matrix> times, times_transposed;
    for (Index b = 0; b < 2; ++b) {
      times.push_back(product(matrix_of(x, b), matrix_of(upper, b)));
      times_transposed.push_back(product(matrix_of(x, b), transposed(matrix_of(upper, b))));
    }
    const double limit = bound(4 * cols, 32);
    for (const Placement& place : kPlacements) {
      const Stored r(read, dtype(), {.column_major = true, .gap = 1, .batch_gap = 3});
      Stored y(x, dtype(), place);
      backend_->multiply_by_upper(r.view(), y.view());
      EXPECT_TRUE(close(y.values(), stacked(times), limit));
      EXPECT_TRUE(y.padding_is_untouched());
      backend_->divide_by_upper(r.view(), y.view());
      EXPECT_TRUE(close(y.values(), x, limit));
      EXPECT_TRUE(y.padding_is_untouched());
      Stored z(stacked(times_transposed), dtype(), place);
      backend_->divide_by_upper(transposed(r.view()), z.view());
      EXPECT_TRUE(close(z.values(), x, limit));
    }
  }
}

TEST_P(BackendPrimitive, UpperRowGramIsRTimesRTransposedAndReadsOneTriangle) {
  Random random(15);
  for (const Index n : {1, 2, 3, 31, 64}) {
    Matrix upper = rounded(gaussian(random, n, n, 2), dtype()), read = upper;
    for (Index b = 0; b < 2; ++b) {
      for (Index i = 0; i < n; ++i) {
        for (Index j = 0; j < i; ++j) upper(i, j, b) = 0, read(i, j, b) = kNaN;
      }
    }
    std::vector<Matrix> each;
    for (Index b = 0; b < 2; ++b)
      each.push_back(product(matrix_of(upper, b), transposed(matrix_of(upper, b))));
    const Stored r(read, dtype(), {.column_major = true, .gap = 1, .batch_gap = 2});
    Stored s(Matrix{n, n, 2}, dtype(), {.column_major = true, .gap = 3});
    backend_->upper_row_gram(r.view(), s.view());
    EXPECT_TRUE(close(s.values(), stacked(each), bound(n, 16 * static_cast<double>(n))));
    EXPECT_TRUE(equal(s.values(), transposed(s.values())));
    EXPECT_TRUE(s.padding_is_untouched());
  }
}

TEST_P(BackendPrimitive, SymmetricEigenReassemblesTheMatrixFromOrthogonalVectorsAndAscendingValues) {
  Random random(10);
  for (const Index n : {1, 2, 3, 31, 64}) {
    std::vector<Matrix> each;
    for (int b = 0; b < 3; ++b) {
      const Matrix x = gaussian(random, n, n);
      each.push_back(rounded(sum(0.5, x, 0.5, transposed(x)), dtype()));
    }
    const Matrix s = stacked(each);
    Stored v(s, dtype(), {.column_major = true});
    Stored w(Matrix{n, 1, 3}, dtype());
    backend_->symmetric_eigen(v.view(), w.view());
    for (Index b = 0; b < 3; ++b) {
      const Matrix vectors = matrix_of(v.values(), b), values = matrix_of(w.values(), b);
      const double limit = 40 * static_cast<double>(n) * unit_roundoff(dtype());
      EXPECT_TRUE(semi_orthogonal(vectors, limit));
      EXPECT_TRUE(std::is_sorted(values.values.begin(), values.values.end()));
      EXPECT_TRUE(close(product(product(vectors, diagonal(values.values)), transposed(vectors)),
                        each[static_cast<std::size_t>(b)], limit * largest(values)));
    }
  }
}

TEST_P(BackendPrimitive, SvdReassemblesTheMatrixFromOrthogonalVectorsAndDescendingValues) {
  Random random(11);
  for (const auto& [rows, cols] : {Shape{1, 1}, {5, 1}, {5, 5}, {33, 31}, {64, 17}}) {
    const Matrix x = rounded(gaussian(random, rows, cols, 2), dtype());
    Stored destroyed(x, dtype(), {.column_major = true});
    Stored u(Matrix{rows, cols, 2}, dtype(), {.column_major = true});
    Stored s(Matrix{cols, 1, 2}, dtype());
    Stored v(Matrix{cols, cols, 2}, dtype());
    backend_->svd(destroyed.view(), u.view(), s.view(), v.view());
    for (Index b = 0; b < 2; ++b) {
      const Matrix values = matrix_of(s.values(), b);
      const double limit = 40 * static_cast<double>(rows) * unit_roundoff(dtype());
      EXPECT_TRUE(semi_orthogonal(matrix_of(u.values(), b), limit));
      EXPECT_TRUE(semi_orthogonal(matrix_of(v.values(), b), limit));
      EXPECT_TRUE(std::is_sorted(values.values.rbegin(), values.values.rend()));
      EXPECT_TRUE(close(product(product(matrix_of(u.values(), b), diagonal(values.values)),
                                transposed(matrix_of(v.values(), b))),
                        matrix_of(x, b), limit * largest(values)));
    }
  }
}

TEST(Backend, AllFiniteLooksEverywhereWithTwoThreadsToo) {
  const auto backend = make_tested_backend(2);
  constexpr Index kSize = Index{514} * 1022;  // enough for two threads
  std::vector<float> x(kSize, 1.0F);
  const ConstMatrixView matrix = row_major(x.data(), 514, 1022), vector = row_major(x.data(), 1, kSize);
  for (const ConstMatrixView& view : {matrix, transposed(matrix), vector, transposed(vector)}) {
    EXPECT_TRUE(all_finite(*backend, view)) << shape_text(view);
    for (const Index where : {Index{0}, kSize / 4, kSize / 2 - 1, kSize / 2, 3 * kSize / 4, kSize - 1}) {
      x[static_cast<std::size_t>(where)] = std::numeric_limits<float>::infinity();
      EXPECT_FALSE(all_finite(*backend, view)) << shape_text(view) << " at " << where;
      x[static_cast<std::size_t>(where)] = 1.0F;
    }
  }
}

TEST(Backend, AllFiniteFindsASingleInfOrNaNAnywhereAndIgnoresPadding) {
  const auto backend = make_tested_backend();
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const Placement& placement : kPlacements) {
      Matrix x{7, 33, 2};
      x.values.assign(x.values.size(), 3e38);  // finite in every type, not when added up in float32
      EXPECT_TRUE(all_finite(*backend, Stored(x, dtype, placement).cview())) << name(dtype);
      for (const double bad : {kNaN, kInf, -kInf}) {
        for (const std::size_t where : {std::size_t{0}, std::size_t{100}, x.values.size() - 1}) {
          Matrix y = x;
          y.values[where] = bad;
          EXPECT_FALSE(all_finite(*backend, Stored(y, dtype, placement).cview())) << bad << " at " << where;
        }
      }
    }
  }
}

TEST(Backend, DownloadIsInRowMajorOrderMatrixAfterMatrix) {
  Random random(13);
  const auto backend = make_tested_backend();
  const Matrix numbers = integers(random, 1, 24, -50, 50);
  const Matrix x{3, 4, 2, numbers.values};
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const Placement& placement : kPlacements) {
      std::vector<double> values(24);
      backend->download(Stored(x, dtype, placement).cview(), values);
      EXPECT_EQ(values, x.values);
    }
  }
}

TEST(Backend, LargestIsTheLargestElementNotTheLargestMagnitude) {
  const auto backend = make_tested_backend();
  for (const Placement& placement : kPlacements) {
    EXPECT_EQ(largest(*backend, Stored({2, 2, 1, {-5, -1, -7, -2}}, DType::f64, placement).cview()), -1);
  }
}

TEST(Backend, ScratchBeginsAtMultiplesOf64BytesAndDoesNotOverlap) {
  const auto backend = make_tested_backend();
  const ScratchFrame frame(*backend);
  std::vector<MatrixView> views;
  Index bytes = 0;
  for (Index k = 1; k < 60; ++k) {
    const DType dtype = k % 2 == 0 ? DType::f32 : DType::f64;
    const Layout layout = k % 3 == 0 ? Layout::column_major : Layout::row_major;
    views.push_back(backend->scratch(k, 2 * k, 2, dtype, layout));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(views.back().data) % 64, 0u);
    EXPECT_EQ(views.back().rows, k);
    EXPECT_EQ(views.back().cols, 2 * k);
    EXPECT_EQ(views.back().batch, 2);
    EXPECT_EQ(layout == Layout::row_major ? views.back().col_stride : views.back().row_stride, 1);
    backend->fill(static_cast<double>(k), views.back());
    bytes += 4 * k * k * byte_size(dtype);
  }
  EXPECT_GE(backend->memory().bytes(), bytes);
  for (std::size_t k = 0; k < views.size(); ++k) {
    for (const double value : values_of(views[k]).values) ASSERT_EQ(value, static_cast<double>(k + 1));
  }
}

TEST(Backend, ScratchOfAnEndedFrameIsUsedAgain) {
  const auto backend = make_tested_backend();
  Index held = 0;
  for (int round = 0; round < 5; ++round) {
    const ScratchFrame outer(*backend);
    const MatrixView kept = backend->scratch(10, 10, 1, DType::f64);
    backend->fill(7, kept);
    for (int k = 0; k < 3; ++k) {
      const ScratchFrame inner(*backend);
      backend->fill(-1, backend->scratch(100, 30, 4, DType::f32));
    }
    for (const double value : values_of(kept).values) ASSERT_EQ(value, 7);
    if (round == 1) held = backend->memory().bytes();
    if (round > 1) {
      EXPECT_EQ(backend->memory().bytes(), held);
    }
  }
}

TEST(Backend, ForEachPartCoversEveryIndexOnceForAnyNumberOfThreads) {
  for (const int threads : {1, 2, 3, 5}) {
    const auto backend = make_cpu_backend({.threads = threads});
    for (const Index count : {0, 1, 2, 7, 100}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      const Index sizes[] = {count / 2, 0, count - count / 2};
      backend->for_each_part(sizes, [&](Backend& part, std::size_t group, Index begin, Index end) {
        const Index first = group == 0 ? 0 : count / 2;
        EXPECT_NE(group, 1u);
        begin += first, end += first;
        const ScratchFrame frame(part);
        const MatrixView own = part.scratch(4, 4, 1, DType::f32);
        for (Index i = begin; i < end; ++i) {
          part.fill(static_cast<double>(i), own);
          EXPECT_EQ(largest(part, own), static_cast<double>(i));
          ++visits[static_cast<std::size_t>(i)];
        }
      });
      for (const auto& visit : visits) EXPECT_EQ(visit, 1);
    }
  }
}

TEST(Backend, ScratchOfARepeatedGroupDoesNotDependOnWhichThreadCameFirst) {
  const auto backend = make_cpu_backend({.threads = 2});
  Random random(14);
  Index held = 0;
  for (int round = 0; round < 25; ++round) {
    std::vector<std::chrono::microseconds> delays;
    for (int i = 0; i < 8; ++i) delays.emplace_back(random.integer(0, 2000));
    const Index count = 8;
    backend->for_each_part({&count, 1}, [&](Backend& part, std::size_t, Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const ScratchFrame frame(part);
        part.fill(1, part.scratch(i == 5 ? 500 : 1, 100, 1, DType::f64));
        std::this_thread::sleep_for(delays[static_cast<std::size_t>(i)]);
      }
    });
    if (round == 0) held = backend->memory().bytes();
    EXPECT_EQ(backend->memory().bytes(), held) << "round " << round;
  }
}

TEST(Backend, ForEachPartRethrowsWhatAPartThrewAndWorksAfterwards) {
  for (const int threads : {1, 2, 4}) {
    const auto backend = make_cpu_backend({.threads = threads});
    const Index count = 8;
    const auto failing = [&] {
      backend->for_each_part({&count, 1}, [&](Backend& part, std::size_t, Index begin, Index end) {
        const ScratchFrame frame(part);
        part.fill(0, part.scratch(64, 64, 1, DType::f64));
        if (begin <= 5 && 5 < end) throw std::runtime_error("part 5");
      });
    };
    EXPECT_THROW(failing(), std::runtime_error);
    std::atomic<Index> covered = 0;
    backend->for_each_part({&count, 1},
                           [&](Backend&, std::size_t, Index begin, Index end) { covered += end - begin; });
    EXPECT_EQ(covered, 8);
  }
}

TEST(Backend, OfAForkedChildRefusesTheThreadsOfItsParentInsteadOfWaitingForThem) {
  const auto parts_on = [](int threads) {
    std::atomic<Index> covered = 0;
    const Index count = 8;
    const auto backend = make_cpu_backend({.threads = threads});
    backend->for_each_part({&count, 1},
                           [&](Backend&, std::size_t, Index begin, Index end) { covered += end - begin; });
    return covered.load();
  };
  ASSERT_EQ(parts_on(2), 8);
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // instead of for ever
    const bool one_thread_works = parts_on(1) == 8;
    try {
      parts_on(2);
    } catch (const std::runtime_error& error) {
      _exit(one_thread_works && std::string(error.what()).find("fork") != std::string::npos ? 0 : 2);
    }
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
}

TEST(Backend, OfNoThreadsIsRefusedWithTheValue) {
  EXPECT_THAT(message_of([&] { make_cpu_backend({.threads = -3}); }), ::testing::HasSubstr("-3"));
}

TEST(Backend, DescribesItselfWithBlasAndThreads) {
  const std::string text = make_cpu_backend({.threads = 2})->description();
  EXPECT_THAT(text, ::testing::StartsWith("cpu: "));
  EXPECT_THAT(text, ::testing::HasSubstr(blas_description()));
  EXPECT_THAT(text, ::testing::HasSubstr("2 threads"));
}

TEST(Backend, LayoutOfFollowsTheUnitStride) {
  std::vector<float> numbers(12);
  const MatrixView view = row_major(numbers.data(), 3, 4);
  EXPECT_EQ(layout_of(view), Layout::row_major);
  EXPECT_EQ(layout_of(transposed(view)), Layout::column_major);
}

}  // namespace
}  // namespace aurora::test
