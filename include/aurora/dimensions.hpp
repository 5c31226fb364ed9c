#pragma once

#include <span>
#include <vector>

#include "aurora/matrix.hpp"

namespace aurora {

/// How an N-dimensional parameter is a batch of matrices: every axis is a batch axis, a row axis or a column
/// axis.
///   linear [out, in]                 {.rows = {0}, .cols = {1}}
///   the same stored [in, out]        {.rows = {1}, .cols = {0}}
///   convolution [out, in, kh, kw]    {.rows = {0}, .cols = {1, 2, 3}}
///   stacked experts [e, out, in]     {.batch = {0}, .rows = {1}, .cols = {2}}
///   fused QKV [3d, d]                {.rows = {0}, .cols = {1}, .row_blocks = {d, d, d}}
///   QKV by head [h * 3 * k, d]       {.rows = {0}, .cols = {1}, .row_blocks = {k, k, k}, .repeats = h}
///   interleaved gate and up [2n, d]  {.rows = {0}, .cols = {1}, .row_blocks = {1, 1}, .repeats = n}
/// The rows are `repeats` runs of the row blocks: block i of every run together is one matrix. Without row
/// blocks all rows are one matrix. repeats times the sum of the blocks is the number of rows.
struct Dimensions {
  std::vector<int> batch = {};
  std::vector<int> rows = {};
  std::vector<int> cols = {};
  std::vector<Index> row_blocks = {};
  Index repeats = 1;

  friend bool operator==(const Dimensions&, const Dimensions&) = default;
};

/// Two dimensions are a matrix; more are [out, ...] with all but the first as columns (a convolution). Throws
/// std::invalid_argument for fewer than two.
Dimensions default_dimensions(std::size_t dimension_count);

struct MatrixShape {
  Index rows, cols;
  friend bool operator==(const MatrixShape&, const MatrixShape&) = default;
};

/// The shapes of the matrices of a tensor of this shape, in the order of matrix_views: batch by batch, the
/// blocks of each in their order. Throws std::invalid_argument, with the shape, when an axis is missing or
/// named twice, or blocks do not make up the rows.
std::vector<MatrixShape> matrix_shapes(std::span<const Index> shape, const Dimensions& dimensions);

/// Whether the matrices are views of the tensor as it lies, `strides` in elements per axis: merged axes make
/// one stride, rows or columns lie side by side, no two elements share their memory, and the rows of a block
/// are evenly spaced. Where they are not, they have to be gathered first. Throws as matrix_shapes does.
bool are_views(std::span<const Index> shape, std::span<const Index> strides, const Dimensions& dimensions);

/// The matrices of a tensor. Column axes are merged in the order of their strides: the order of columns does
/// not matter to any direction, as long as all tensors of a parameter share it. Throws as matrix_shapes does,
/// and where they are no views.
std::vector<MatrixView> matrix_views(void* data, DType dtype, std::span<const Index> shape,
                                     std::span<const Index> strides, const Dimensions& dimensions);

}  // namespace aurora
