#include "aurora/matrix.hpp"

#include <gtest/gtest.h>

#include <type_traits>

#include "support/matchers.hpp"

namespace aurora::test {
namespace {

static_assert(std::is_convertible_v<MatrixView, ConstMatrixView>);
static_assert(!std::is_convertible_v<ConstMatrixView, MatrixView>);
static_assert(std::is_same_v<decltype(row_major(static_cast<const float*>(nullptr), 1, 1)), ConstMatrixView>);
static_assert(std::is_same_v<decltype(row_major(static_cast<double*>(nullptr), 1, 1)), MatrixView>);

TEST(MatrixView, OfPackedNumbersReadsThemRowByRow) {
  const std::vector<double> numbers = {1, 2, 3, 4, 5, 6};
  const ConstMatrixView view = row_major(numbers.data(), 2, 3);
  EXPECT_TRUE(equal(values_of(view), {2, 3, 1, numbers}));
  EXPECT_EQ(view.dtype, DType::f64);
  EXPECT_EQ(row_major(static_cast<float*>(nullptr), 2, 3).dtype, DType::f32);
}

TEST(MatrixView, TransposedSharesTheElementsAndTwiceIsTheSameView) {
  std::vector<float> numbers = {1, 2, 3, 4, 5, 6};
  const MatrixView view = row_major(numbers.data(), 2, 3);
  const MatrixView turned = transposed(view);
  EXPECT_EQ(turned.data, view.data);
  EXPECT_TRUE(equal(values_of(turned), {3, 2, 1, {1, 4, 2, 5, 3, 6}}));
  EXPECT_EQ(transposed(turned).row_stride, view.row_stride);
  EXPECT_EQ(transposed(turned).col_stride, view.col_stride);
}

TEST(MatrixView, TallTurnsOnlyWideMatrices) {
  std::vector<float> numbers(6);
  EXPECT_EQ(tall(row_major(numbers.data(), 2, 3)).rows, 3);
  EXPECT_EQ(tall(row_major(numbers.data(), 3, 2)).rows, 3);
  EXPECT_EQ(tall(row_major(numbers.data(), 2, 2)).row_stride, 2);
}

TEST(MatrixView, MatrixOfABatchIsThatMatrixForEveryType) {
  Random random(1);
  const Matrix numbers = integers(random, 3, 20, -99, 99);
  const Matrix batch = {4, 5, 3, numbers.values};
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const Stored stored(batch, dtype, {.gap = 2, .offset = 1, .batch_gap = 3});
    for (Index b = 0; b < 3; ++b) {
      const ConstMatrixView one = matrix_of(stored.view(), b);
      EXPECT_EQ(one.batch, 1);
      EXPECT_TRUE(equal(values_of(one), matrix_of(batch, b))) << name(dtype);
    }
  }
}

TEST(MatrixView, SameShapeLooksAtRowsColumnsAndBatch) {
  std::vector<float> numbers(24);
  const MatrixView view = row_major(numbers.data(), 2, 3, 2);
  EXPECT_TRUE(same_shape(view, view));
  EXPECT_TRUE(same_shape(view, transposed(row_major(numbers.data(), 3, 2, 2))));
  EXPECT_FALSE(same_shape(view, transposed(view)));
  EXPECT_FALSE(same_shape(view, row_major(numbers.data(), 2, 4, 2)));
  EXPECT_FALSE(same_shape(view, row_major(numbers.data(), 2, 3, 1)));
}

TEST(MatrixView, ShapeAndTypeHaveNamesForPeople) {
  std::vector<float> numbers(24);
  EXPECT_EQ(shape_text(row_major(numbers.data(), 4, 2)), "4x2");
  EXPECT_EQ(shape_text(row_major(numbers.data(), 4, 2, 3)), "3 of 4x2");
  EXPECT_EQ(name(DType::f32), "float32");
  EXPECT_EQ(name(DType::f64), "float64");
  EXPECT_EQ(name(DType::bf16), "bfloat16");
  EXPECT_EQ(byte_size(DType::f32), 4);
  EXPECT_EQ(byte_size(DType::f64), 8);
  EXPECT_EQ(byte_size(DType::bf16), 2);
}

}  // namespace
}  // namespace aurora::test
