#include "aurora/dimensions.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

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

Index merged_size(std::span<const int> axes, std::span<const Index> shape) {
  Index size = 1;
  for (const int axis : axes) size *= shape[static_cast<std::size_t>(axis)];
  return size;
}

/// What the rows are cut into; one block of all rows where nothing is said.
struct Blocks {
  std::vector<Index> lengths;
  Index repeats;
};

Blocks blocks_of(std::span<const Index> shape, const Dimensions& dimensions) {
  const Index rows = merged_size(dimensions.rows, shape);
  if (dimensions.row_blocks.empty()) return {{rows}, 1};
  const auto& lengths = dimensions.row_blocks;
  const bool positive = dimensions.repeats >= 1 &&
                        std::all_of(lengths.begin(), lengths.end(), [](Index block) { return block >= 1; });
  if (!positive || std::accumulate(lengths.begin(), lengths.end(), Index{0}) * dimensions.repeats != rows) {
    fail("matrix_views", "Row blocks must be positive and sum to the rows: ", dimensions.repeats, " x ",
         shape_of(lengths), " vs ", rows, " rows of shape ", shape_of(shape));
  }
  return {lengths, dimensions.repeats};
}

struct Merged {
  Index size, stride;
};

/// Several axes as one, outermost stride first; nothing where they do not make one stride.
std::optional<Merged> merged(std::vector<int> axes, std::span<const Index> shape,
                             std::span<const Index> strides) {
  const auto size = [&](int axis) { return shape[static_cast<std::size_t>(axis)]; };
  const auto stride = [&](int axis) { return strides[static_cast<std::size_t>(axis)]; };
  std::erase_if(axes, [&](int axis) { return size(axis) == 1; });
  if (axes.empty()) return Merged{1, 1};
  std::stable_sort(axes.begin(), axes.end(), [&](int a, int b) { return stride(a) > stride(b); });
  Merged result{size(axes.back()), stride(axes.back())};
  for (auto axis = axes.rbegin() + 1; axis != axes.rend(); ++axis) {
    if (stride(*axis) != result.size * result.stride) return std::nullopt;
    result.size *= size(*axis);
  }
  return result;
}

/// Matrix k of a batch begins at offsets[k]; all have these strides.
struct Layout {
  std::vector<Index> offsets, row_counts;
  Index cols, row_stride, col_stride;
};

/// The blocks of one matrix; nothing where they are no views.
std::optional<Layout> layout_of(std::span<const Index> shape, std::span<const Index> strides,
                                const Dimensions& dimensions) {
  if (shape.size() != strides.size()) fail("matrix_views", "One stride per axis: shape ", shape_of(shape));
  require_each_axis_once(shape, dimensions);
  const auto [lengths, repeats] = blocks_of(shape, dimensions);
  const auto rows = merged(dimensions.rows, shape, strides);
  const auto cols = merged(dimensions.cols, shape, strides);
  if (!rows || !cols) return std::nullopt;
  // Of more than one run, only blocks of single rows are evenly spaced.
  if (repeats > 1 && std::ranges::any_of(lengths, [](Index length) { return length > 1; })) {
    return std::nullopt;
  }
  Layout layout{{}, {}, cols->size, rows->stride, cols->stride};
  if (repeats > 1) layout.row_stride *= std::ssize(lengths);
  Index offset = 0;
  for (const Index length : lengths) {
    layout.offsets.push_back(offset);
    layout.row_counts.push_back(length * repeats);
    offset += length * rows->stride;
  }
  const Index most_rows = std::ranges::max(layout.row_counts);
  const bool row_by_row = layout.col_stride == 1 && (most_rows <= 1 || layout.row_stride >= layout.cols);
  const bool col_by_col = layout.row_stride == 1 && (layout.cols <= 1 || layout.col_stride >= most_rows);
  return row_by_row || col_by_col ? std::optional(layout) : std::nullopt;
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

std::vector<MatrixShape> matrix_shapes(std::span<const Index> shape, const Dimensions& dimensions) {
  require_each_axis_once(shape, dimensions);
  const auto [lengths, repeats] = blocks_of(shape, dimensions);
  const Index cols = merged_size(dimensions.cols, shape);
  std::vector<MatrixShape> shapes;
  for (Index b = 0; b < merged_size(dimensions.batch, shape); ++b) {
    for (const Index length : lengths) shapes.push_back({length * repeats, cols});
  }
  return shapes;
}

bool are_views(std::span<const Index> shape, std::span<const Index> strides, const Dimensions& dimensions) {
  return layout_of(shape, strides, dimensions).has_value();
}

std::vector<MatrixView> matrix_views(void* data, DType dtype, std::span<const Index> shape,
                                     std::span<const Index> strides, const Dimensions& dimensions) {
  const auto layout = layout_of(shape, strides, dimensions);
  if (!layout) {
    fail("matrix_views", "The matrices are no views of the tensor as it lies: shape ", shape_of(shape),
         ", strides ", shape_of(strides));
  }
  std::vector<Index> batch_offsets = {0};
  for (const int axis : dimensions.batch) {
    std::vector<Index> next;
    for (const Index offset : batch_offsets) {
      for (Index i = 0; i < shape[static_cast<std::size_t>(axis)]; ++i) {
        next.push_back(offset + i * strides[static_cast<std::size_t>(axis)]);
      }
    }
    batch_offsets = std::move(next);
  }
  std::vector<MatrixView> views;
  for (const Index batch_offset : batch_offsets) {
    for (std::size_t i = 0; i < layout->offsets.size(); ++i) {
      const Index offset = batch_offset + layout->offsets[i];
      views.push_back({static_cast<std::byte*>(data) + offset * byte_size(dtype), layout->row_counts[i],
                       layout->cols, layout->row_stride, layout->col_stride, 1, 0, dtype});
    }
  }
  return views;
}

}  // namespace aurora
