#include "aurora/dimensions.hpp"

#include <algorithm>
#include <numeric>

#include "error.hpp"

namespace aurora {
namespace {

std::string shape_of(std::span<const Index> shape) {
  std::string text;
  for (const Index size : shape) text.append(text.empty() ? "[" : ", ").append(std::to_string(size));
  return text.append("]");
}

void require_each_axis_once(std::span<const Index> shape, const Dimensions& dimensions) {
  std::vector<int> named(shape.size(), 0);
  for (const auto* axes : {&dimensions.batch, &dimensions.rows, &dimensions.cols}) {
    for (const int axis : *axes) {
      if (axis < 0 || static_cast<std::size_t>(axis) >= shape.size()) {
        fail("matrix_views", "No such axis: ", axis, " of shape ", shape_of(shape));
      }
      ++named[static_cast<std::size_t>(axis)];
    }
  }
  for (std::size_t axis = 0; axis < named.size(); ++axis) {
    if (named[axis] != 1) {
      fail("matrix_views", "Each axis is batch, row or column once: axis ", axis, " of shape ",
           shape_of(shape), " is named ", named[axis], " times");
    }
  }
  if (dimensions.rows.empty() || dimensions.cols.empty()) {
    fail("matrix_views", "Row and column axes are needed: shape ", shape_of(shape));
  }
}

struct Merged {
  Index size, stride;
};

/// Several axes as one, outermost stride first.
Merged merged(std::string_view what, std::vector<int> axes, std::span<const Index> shape,
              std::span<const Index> strides) {
  const auto size = [&](int axis) { return shape[static_cast<std::size_t>(axis)]; };
  const auto stride = [&](int axis) { return strides[static_cast<std::size_t>(axis)]; };
  std::erase_if(axes, [&](int axis) { return size(axis) == 1; });
  if (axes.empty()) return {1, 1};
  std::stable_sort(axes.begin(), axes.end(), [&](int a, int b) { return stride(a) > stride(b); });
  Merged result{size(axes.back()), stride(axes.back())};
  for (auto axis = axes.rbegin() + 1; axis != axes.rend(); ++axis) {
    if (stride(*axis) != result.size * result.stride) {
      fail("matrix_views", "The ", what, " axes do not merge: shape ", shape_of(shape), ", strides ",
           shape_of(strides));
    }
    result.size *= size(*axis);
  }
  return result;
}

}  // namespace

Dimensions default_dimensions(std::size_t dimension_count) {
  if (dimension_count < 2)
    fail("default_dimensions", "A matrix has two dimensions or more: ", dimension_count);
  Dimensions dimensions{.batch = {}, .rows = {0}, .cols = {}, .row_blocks = {}};
  for (std::size_t axis = 1; axis < dimension_count; ++axis)
    dimensions.cols.push_back(static_cast<int>(axis));
  return dimensions;
}

std::vector<MatrixView> matrix_views(void* data, DType dtype, std::span<const Index> shape,
                                     std::span<const Index> strides, const Dimensions& dimensions) {
  if (shape.size() != strides.size()) fail("matrix_views", "One stride per axis: shape ", shape_of(shape));
  require_each_axis_once(shape, dimensions);
  const Merged rows = merged("row", dimensions.rows, shape, strides);
  const Merged cols = merged("column", dimensions.cols, shape, strides);
  if (rows.stride != 1 && cols.stride != 1) {
    fail("matrix_views", "Rows or columns must lie side by side: shape ", shape_of(shape), ", strides ",
         shape_of(strides));
  }
  std::vector<Index> blocks = dimensions.row_blocks;
  if (blocks.empty()) blocks = {rows.size};
  const bool positive = std::all_of(blocks.begin(), blocks.end(), [](Index block) { return block >= 1; });
  if (!positive || std::accumulate(blocks.begin(), blocks.end(), Index{0}) != rows.size) {
    fail("matrix_views", "Row blocks must be positive and sum to the rows: ", shape_of(blocks), " vs ",
         rows.size, " rows of shape ", shape_of(shape));
  }

  std::vector<Index> offsets = {0};
  for (const int axis : dimensions.batch) {
    std::vector<Index> next;
    for (const Index offset : offsets) {
      for (Index i = 0; i < shape[static_cast<std::size_t>(axis)]; ++i) {
        next.push_back(offset + i * strides[static_cast<std::size_t>(axis)]);
      }
    }
    offsets = std::move(next);
  }
  std::vector<MatrixView> views;
  for (Index offset : offsets) {
    for (const Index block : blocks) {
      views.push_back({static_cast<std::byte*>(data) + offset * byte_size(dtype), block, cols.size,
                       rows.stride, cols.stride, 1, 0, dtype});
      offset += block * rows.stride;
    }
  }
  return views;
}

}  // namespace aurora
