#include "aurora/dimensions.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "support/matchers.hpp"

namespace aurora::test {
namespace {

using ::testing::HasSubstr;

/// A tensor whose elements are 0, 1, 2, ... in memory order.
struct Tensor {
  std::vector<double> numbers;
  std::vector<Index> shape, strides;

  explicit Tensor(std::vector<Index> sizes) : shape(std::move(sizes)), strides(shape.size()) {
    Index stride = 1;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      strides[axis] = stride;
      stride *= shape[axis];
    }
    numbers.resize(static_cast<std::size_t>(stride));
    std::iota(numbers.begin(), numbers.end(), 0.0);
  }
  std::vector<Matrix> matrices(const Dimensions& dimensions) {
    std::vector<Matrix> list;
    for (const MatrixView& view : matrix_views(numbers.data(), DType::f64, shape, strides, dimensions)) {
      EXPECT_TRUE(view.row_stride == 1 || view.col_stride == 1);
      EXPECT_EQ(view.batch, 1);
      list.push_back(values_of(view));
    }
    return list;
  }
  std::string error(const Dimensions& dimensions) {
    return message_of([&] { matrix_views(numbers.data(), DType::f64, shape, strides, dimensions); });
  }
};

Matrix counted(Index rows, Index cols, double first = 0) {
  Matrix x{rows, cols};
  std::iota(x.values.begin(), x.values.end(), first);
  return x;
}

TEST(Dimensions, OfALinearWeightAreTheMatrixItself) {
  const auto matrices = Tensor({3, 4}).matrices(default_dimensions(2));
  ASSERT_EQ(matrices.size(), 1u);
  EXPECT_TRUE(equal(matrices[0], counted(3, 4)));
}

TEST(Dimensions, OfAConvolutionMergeAllButTheFirstAxis) {
  const Dimensions dimensions = default_dimensions(4);
  EXPECT_EQ(dimensions.rows, std::vector<int>{0});
  EXPECT_EQ(dimensions.cols, (std::vector<int>{1, 2, 3}));
  const auto matrices = Tensor({5, 2, 3, 3}).matrices(dimensions);
  ASSERT_EQ(matrices.size(), 1u);
  EXPECT_TRUE(equal(matrices[0], counted(5, 18)));
}

TEST(Dimensions, OfAConvolutionWithChannelsLastAreTheSameMatrixUpToTheOrderOfColumns) {
  // [out, in, kh, kw] stored as [out, kh, kw, in].
  Tensor tensor({4, 3, 2, 2});
  tensor.strides = {12, 1, 6, 3};
  const auto matrices = tensor.matrices(default_dimensions(4));
  ASSERT_EQ(matrices.size(), 1u);
  EXPECT_TRUE(equal(matrices[0], counted(4, 12)));
}

TEST(Dimensions, OfStackedExpertsAreOneMatrixEach) {
  const auto matrices =
      Tensor({3, 4, 5}).matrices({.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {}});
  ASSERT_EQ(matrices.size(), 3u);
  for (std::size_t e = 0; e < 3; ++e)
    EXPECT_TRUE(equal(matrices[e], counted(4, 5, 20.0 * static_cast<double>(e))));
}

TEST(Dimensions, WithTwoBatchAxesWalkTheLastOneFastest) {
  const auto matrices =
      Tensor({2, 3, 4, 5}).matrices({.batch = {0, 1}, .rows = {2}, .cols = {3}, .row_blocks = {}});
  ASSERT_EQ(matrices.size(), 6u);
  for (std::size_t k = 0; k < 6; ++k)
    EXPECT_TRUE(equal(matrices[k], counted(4, 5, 20.0 * static_cast<double>(k))));
}

TEST(Dimensions, OfJaxKernelsMaySwapRowsAndColumns) {
  const auto matrices = Tensor({3, 4}).matrices({.batch = {}, .rows = {1}, .cols = {0}, .row_blocks = {}});
  ASSERT_EQ(matrices.size(), 1u);
  EXPECT_TRUE(equal(matrices[0], transposed(counted(3, 4))));
}

TEST(Dimensions, WithRowBlocksSplitFusedWeightsOfAnySizes) {
  Dimensions dimensions = default_dimensions(2);
  dimensions.row_blocks = {4, 2, 2};
  const auto matrices = Tensor({8, 3}).matrices(dimensions);
  ASSERT_EQ(matrices.size(), 3u);
  EXPECT_TRUE(equal(matrices[0], counted(4, 3)));
  EXPECT_TRUE(equal(matrices[1], counted(2, 3, 12)));
  EXPECT_TRUE(equal(matrices[2], counted(2, 3, 18)));
}

TEST(Dimensions, WithRowBlocksAndABatchSplitEachMatrix) {
  const auto matrices =
      Tensor({2, 5, 3}).matrices({.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {2, 3}});
  ASSERT_EQ(matrices.size(), 4u);
  EXPECT_TRUE(equal(matrices[1], counted(3, 3, 6)));
  EXPECT_TRUE(equal(matrices[2], counted(2, 3, 15)));
}

TEST(Dimensions, OfBlocksOfOneRowThatRepeatAreViewsOfEverySecondRow) {
  const Dimensions interleaved{.batch = {}, .rows = {0}, .cols = {1}, .row_blocks = {1, 1}, .repeats = 3};
  Tensor tensor({6, 4});
  const auto matrices = tensor.matrices(interleaved);
  ASSERT_EQ(matrices.size(), 2u);
  for (Index i = 0; i < 3; ++i) {
    for (Index j = 0; j < 4; ++j) {
      EXPECT_EQ(matrices[0](i, j), static_cast<double>(8 * i + j));
      EXPECT_EQ(matrices[1](i, j), static_cast<double>(8 * i + 4 + j));
    }
  }
  EXPECT_TRUE(are_views(tensor.shape, tensor.strides, interleaved));
}

TEST(Dimensions, OfBlocksOfSeveralRowsThatRepeatAreNoViews) {
  const Dimensions by_head{.batch = {}, .rows = {0}, .cols = {1}, .row_blocks = {2, 1}, .repeats = 2};
  Tensor tensor({6, 4});
  EXPECT_FALSE(are_views(tensor.shape, tensor.strides, by_head));
  EXPECT_EQ(matrix_shapes(tensor.shape, by_head), (std::vector<MatrixShape>{{4, 4}, {2, 4}}));
  EXPECT_THAT(tensor.error(by_head), HasSubstr("no views"));
  // Interleaved columns of [in, out]: neither rows nor columns lie side by side.
  const Dimensions columns{.batch = {}, .rows = {1}, .cols = {0}, .row_blocks = {1, 1}, .repeats = 2};
  EXPECT_FALSE(are_views(tensor.shape, tensor.strides, columns));
}

TEST(Dimensions, WhoseElementsShareTheirMemoryAreNoViews) {
  Tensor tensor({4, 3});
  tensor.strides = {0, 1};
  EXPECT_FALSE(are_views(tensor.shape, tensor.strides, default_dimensions(2)));
}

TEST(Dimensions, OfNoRowsAreAnEmptyMatrix) {
  const std::vector<Index> shape = {0, 3};
  EXPECT_EQ(matrix_shapes(shape, default_dimensions(2)), (std::vector<MatrixShape>{{0, 3}}));
}

TEST(Dimensions, OfHeadsMergeRowAxes) {
  const auto matrices =
      Tensor({2, 3, 4}).matrices({.batch = {}, .rows = {0, 1}, .cols = {2}, .row_blocks = {}});
  ASSERT_EQ(matrices.size(), 1u);
  EXPECT_TRUE(equal(matrices[0], counted(6, 4)));
}

TEST(Dimensions, OfAWeightThatIsATransposeInMemoryKeepItsStrides) {
  Tensor tensor({4, 3});
  tensor.strides = {1, 4};
  const auto matrices = tensor.matrices(default_dimensions(2));
  ASSERT_EQ(matrices.size(), 1u);
  EXPECT_TRUE(equal(matrices[0], transposed(counted(3, 4))));
}

TEST(Dimensions, WithAxesOfLengthOneIgnoreTheirStrides) {
  Tensor tensor({6, 4, 1, 1});
  tensor.strides = {4, 1, 77, 99};
  const auto matrices = tensor.matrices(default_dimensions(4));
  ASSERT_EQ(matrices.size(), 1u);
  EXPECT_TRUE(equal(matrices[0], counted(6, 4)));
}

TEST(Dimensions, OfABf16TensorCountInItsElements) {
  std::vector<std::uint16_t> bits(12, 0);
  for (std::size_t k = 0; k < bits.size(); ++k) bits[k] = static_cast<std::uint16_t>(0x3F80 + k);
  const std::vector<Index> shape = {2, 2, 3}, strides = {6, 3, 1};
  const auto views = matrix_views(bits.data(), DType::bf16, shape, strides,
                                  {.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {}});
  ASSERT_EQ(views.size(), 2u);
  EXPECT_EQ(values_of(views[1])(0, 0), 1 + 6 * 0x1p-7);
}

TEST(Dimensions, OfFewerThanTwoAxesAreRefused) {
  for (const std::size_t count : {0u, 1u}) {
    EXPECT_THAT(message_of([&] { default_dimensions(count); }), HasSubstr(std::to_string(count)));
  }
}

TEST(Dimensions, ThatDoNotFitTheTensorAreRefusedWithItsShape) {
  Tensor tensor({6, 4, 5});
  const Dimensions good{.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {}};
  const auto changed = [&](auto&& change) {
    Dimensions wrong = good;
    change(wrong);
    const std::string message = tensor.error(wrong);
    EXPECT_THAT(message, HasSubstr("6"));
    EXPECT_THAT(message, HasSubstr("4"));
    EXPECT_THAT(message, HasSubstr("5"));
  };
  changed([](Dimensions& d) { d.batch = {}; });     // an axis is missing
  changed([](Dimensions& d) { d.cols = {2, 0}; });  // an axis twice
  changed([](Dimensions& d) { d.rows = {1, 1}; });
  changed([](Dimensions& d) { d.cols = {3}; });  // no such axis
  changed([](Dimensions& d) { d.batch = {-1}; });
  changed([](Dimensions& d) { d.rows = {}, d.batch = {0, 1}; });  // no rows
  changed([](Dimensions& d) { d.cols = {}, d.batch = {0, 2}; });
  changed([](Dimensions& d) { d.row_blocks = {2, 1}; });  // sum 3 of 4
  changed([](Dimensions& d) { d.row_blocks = {5, -1}; });
  changed([](Dimensions& d) { d.row_blocks = {4, 0}; });
  changed([](Dimensions& d) { d.row_blocks = {2}, d.repeats = 3; });
  changed([](Dimensions& d) { d.row_blocks = {4}, d.repeats = 0; });
}

TEST(Dimensions, WhoseAxesDoNotMergeAreRefused) {
  Tensor tensor({6, 4, 5});
  // Rows 0 and 2 have strides 20 and 1 around axis 1.
  EXPECT_THAT(tensor.error({.batch = {}, .rows = {0, 2}, .cols = {1}, .row_blocks = {}}),
              HasSubstr("strides"));
  // Neither rows nor columns lie side by side.
  Tensor sliced({4, 3});
  sliced.strides = {6, 2};
  EXPECT_THAT(sliced.error(default_dimensions(2)), HasSubstr("strides"));
}

TEST(Dimensions, NeedAStrideForEachAxis) {
  std::vector<double> numbers(6);
  const std::vector<Index> shape = {2, 3}, strides = {1};
  EXPECT_THROW(matrix_views(numbers.data(), DType::f64, shape, strides, default_dimensions(2)),
               std::invalid_argument);
}

}  // namespace
}  // namespace aurora::test
