#include "weight_parts.hpp"

#include <algorithm>

namespace aurora::trainer {
namespace {

std::vector<Index> c_order_strides(std::span<const Index> shape) {
  std::vector<Index> strides(shape.size());
  Index stride = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

/// Where index i of the merged axes lies.
Index offset_of(Index i, const std::vector<int>& axes, std::span<const Index> shape,
                std::span<const Index> strides) {
  Index offset = 0;
  for (std::size_t last = axes.size(); last-- > 0;) {
    const auto at = static_cast<std::size_t>(axes[last]);
    offset += i % shape[at] * strides[at];
    i /= shape[at];
  }
  return offset;
}

}  // namespace

WeightPart::WeightPart(const TensorEntry& weight, const Dimensions& dimensions, Index index) {
  const auto shapes = matrix_shapes(weight.shape, dimensions);
  const auto blocks = std::max<std::ptrdiff_t>(std::ssize(dimensions.row_blocks), 1);
  const auto [rows, cols] = shapes[static_cast<std::size_t>(index)];
  const Index batch = index / blocks, block = index % blocks;

  const auto strides = c_order_strides(weight.shape);
  Index slice_size = 1;
  for (std::size_t axis = dimensions.batch.size(); axis < weight.shape.size(); ++axis)
    slice_size *= weight.shape[axis];
  std::vector<double> slice(static_cast<std::size_t>(slice_size));
  values_as_double(weight, batch * slice_size, slice);

  Index run = 0, before = 0;  // rows of a run, and those in it before the block
  for (std::size_t i = 0; i < dimensions.row_blocks.size(); ++i) {
    run += dimensions.row_blocks[i];
    if (static_cast<Index>(i) < block) before += dimensions.row_blocks[i];
  }
  const Index length =
      dimensions.row_blocks.empty() ? rows : dimensions.row_blocks[static_cast<std::size_t>(block)];
  values_.resize(static_cast<std::size_t>(rows * cols));
  for (Index i = 0; i < rows; ++i) {
    const Index row = i / length * run + before + i % length;
    const Index row_offset = offset_of(row, dimensions.rows, weight.shape, strides);
    for (Index j = 0; j < cols; ++j) {
      const Index from = row_offset + offset_of(j, dimensions.cols, weight.shape, strides);
      values_[static_cast<std::size_t>(i * cols + j)] = slice[static_cast<std::size_t>(from)];
    }
  }
  entry_ = {weight.name, "F64", {rows, cols}, std::as_bytes(std::span(values_))};
}

}  // namespace aurora::trainer
