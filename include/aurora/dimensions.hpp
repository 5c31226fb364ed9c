#pragma once

#include <span>
#include <vector>

#include "aurora/matrix.hpp"

namespace aurora {

/// How an N-dimensional parameter is a batch of matrices: every axis is a batch axis, a row axis or a column
/// axis.
///   linear [out, in]                 {.rows = {0}, .cols = {1}}
///   convolution [out, in, kh, kw]    {.rows = {0}, .cols = {1, 2, 3}}
///   stacked experts [e, out, in]     {.batch = {0}, .rows = {1}, .cols = {2}}
///   fused QKV [3d, d]                {.rows = {0}, .cols = {1}, .row_blocks = {d, d, d}}
/// Row blocks split the rows of each matrix into matrices of their own; they sum to the number of rows.
struct Dimensions {
  std::vector<int> batch;
  std::vector<int> rows;
  std::vector<int> cols;
  std::vector<Index> row_blocks;
};

/// Two dimensions are a matrix; more are [out, ...] with all but the first as columns (a convolution). Throws
/// std::invalid_argument for fewer than two.
Dimensions default_dimensions(std::size_t dimension_count);

/// The matrices of a tensor, `shape` and `strides` (in elements) per axis. Column axes are merged in the
/// order of their strides: the order of columns does not matter to any direction, as long as all tensors of a
/// parameter share it. Throws std::invalid_argument, with the shape, when an axis is missing or named twice,
/// blocks do not sum to the rows, or the strides of merged axes do not make one stride.
std::vector<MatrixView> matrix_views(void* data, DType dtype, std::span<const Index> shape,
                                     std::span<const Index> strides, const Dimensions& dimensions);

}  // namespace aurora
