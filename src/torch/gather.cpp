#include "aurora/torch/gather.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "views.hpp"

namespace aurora::optim {
namespace {

using at::Tensor;

bool has_core_type(const Tensor& tensor) { return tensor.scalar_type() != at::kHalf; }

/// Nothing is written through the pointer of a gradient: its views become ConstMatrixView.
void* data_of(const Tensor& tensor) { return const_cast<void*>(tensor.const_data_ptr()); }

std::vector<MatrixView> views_of(const Tensor& tensor, const Dimensions& dimensions) {
  return matrix_views(data_of(tensor), dtype_of(tensor), tensor.sizes(), tensor.strides(), dimensions);
}

std::vector<MatrixView> row_of(const Tensor& tensor) {
  return {{.data = data_of(tensor),
           .rows = 1,
           .cols = tensor.numel(),
           .row_stride = tensor.numel(),
           .dtype = dtype_of(tensor)}};
}

/// How the axes of a tensor come to stand as [batch, rows, columns].
struct Axes {
  std::vector<std::int64_t> order;
  std::int64_t batch = 1, rows = 1, cols = 1;
  std::vector<std::int64_t> blocks;
  std::int64_t repeats = 1;
};

Axes axes_of(const Tensor& tensor, const Dimensions& dimensions) {
  Axes axes;
  const auto append = [&](const std::vector<int>& list, std::int64_t& size) {
    for (const int axis : list) {
      axes.order.push_back(axis);
      size *= tensor.size(axis);
    }
  };
  append(dimensions.batch, axes.batch);
  append(dimensions.rows, axes.rows);
  append(dimensions.cols, axes.cols);
  axes.blocks.assign(dimensions.row_blocks.begin(), dimensions.row_blocks.end());
  if (axes.blocks.empty()) {
    axes.blocks = {axes.rows};
  } else {
    axes.repeats = dimensions.repeats;
  }
  return axes;
}

/// What the rows of `packed` are cut into.
Dimensions dimensions_of_packed(const Axes& axes) {
  Dimensions dimensions{.batch = {0}, .rows = {1}, .cols = {2}, .row_blocks = {}};
  for (const auto block : axes.blocks) dimensions.row_blocks.push_back(block * axes.repeats);
  return dimensions;
}

/// A copy [batch, rows, cols] in which the rows of a block follow each other; float16 becomes float32.
Tensor packed(const Tensor& tensor, const Axes& axes) {
  const Tensor runs =
      tensor.permute(axes.order).reshape({axes.batch, axes.repeats, axes.rows / axes.repeats, axes.cols});
  std::vector<Tensor> blocks;
  for (const Tensor& block : runs.split_with_sizes(axes.blocks, 2)) {
    blocks.push_back(block.reshape({axes.batch, -1, axes.cols}));
  }
  const Tensor all = at::cat(blocks, 1);
  return has_core_type(all) ? all : all.to(at::kFloat);
}

void unpack(const Tensor& copy, const Axes& axes, const Tensor& original) {
  std::vector<std::int64_t> lengths;
  for (const auto block : axes.blocks) lengths.push_back(block * axes.repeats);
  std::vector<Tensor> blocks;
  for (const Tensor& block : copy.split_with_sizes(lengths, 1)) {
    blocks.push_back(block.reshape({axes.batch, axes.repeats, -1, axes.cols}));
  }
  const Tensor permuted = original.permute(axes.order);
  permuted.copy_(at::cat(blocks, 2).reshape(permuted.sizes()));
}

}  // namespace

Matrices matrices_of(const Tensor& tensor, const Dimensions& dimensions) {
  if (has_core_type(tensor) && are_views(tensor.sizes(), tensor.strides(), dimensions)) {
    return {tensor, views_of(tensor, dimensions)};
  }
  const Axes axes = axes_of(tensor, dimensions);
  const Tensor copy = packed(tensor, axes);
  return {copy, views_of(copy, dimensions_of_packed(axes))};
}

void give_back(const Matrices& matrices, const Dimensions& dimensions, const Tensor& tensor) {
  if (!matrices.memory.is_same(tensor)) unpack(matrices.memory, axes_of(tensor, dimensions), tensor);
}

Gathered Gathered::matrices(const Due& due, const Dimensions& dimensions) {
  const Tensor weight = due.place.parameter.detach();
  const Tensor& momentum = due.state->momentum_buffer;
  Gathered gathered;
  const auto is_view = [&](const Tensor& tensor) {
    return !tensor.defined() ||
           (has_core_type(tensor) && are_views(tensor.sizes(), tensor.strides(), dimensions));
  };
  if (is_view(weight) && is_view(due.gradient) && is_view(momentum) && is_view(due.direction)) {
    gathered.weights = views_of(weight, dimensions);
    gathered.gradients = views_of(due.gradient, dimensions);
    gathered.first_states = views_of(momentum, dimensions);
    if (due.direction.defined()) gathered.directions = views_of(due.direction, dimensions);
    return gathered;
  }
  const Axes axes = axes_of(weight, dimensions);
  const Dimensions as_packed = dimensions_of_packed(axes);
  const auto views_of_copy = [&](const Tensor& original) {
    gathered.copies_.push_back({original, packed(original, axes), dimensions});
    return views_of(gathered.copies_.back().packed, as_packed);
  };
  gathered.weights = views_of_copy(weight);
  gathered.first_states = views_of_copy(momentum);
  if (due.direction.defined()) gathered.directions = views_of_copy(due.direction);
  gathered.gradients_.push_back(packed(due.gradient, axes));
  gathered.gradients = views_of(gathered.gradients_.back(), as_packed);
  return gathered;
}

Gathered Gathered::elements(const Due& due) {
  const Tensor weight = due.place.parameter.detach();
  Gathered gathered;
  const bool without_gaps = has_core_type(weight) && weight.is_non_overlapping_and_dense();
  const auto row = [&](const Tensor& original) {
    if (without_gaps || (has_core_type(original) && original.is_contiguous())) return row_of(original);
    const Tensor copy =
        at::empty(original.sizes(),
                  original.options().dtype(has_core_type(original) ? original.scalar_type() : at::kFloat));
    gathered.copies_.push_back({original, copy.copy_(original), std::nullopt});
    return row_of(copy);
  };
  gathered.weights = row(weight);
  gathered.first_states = row(due.state->exp_avg);
  gathered.second_states = row(due.state->exp_avg_sq);
  const Tensor gradient =
      without_gaps ? due.gradient
                   : due.gradient.to(has_core_type(due.gradient) ? due.gradient.scalar_type() : at::kFloat)
                         .contiguous();
  gathered.gradients_.push_back(gradient);
  gathered.gradients = row_of(gradient);
  return gathered;
}

void Gathered::give_back() const {
  for (const auto& [original, copy, dimensions] : copies_) {
    if (dimensions) {
      unpack(copy, axes_of(original, *dimensions), original);
    } else {
      original.copy_(copy);
    }
  }
}

}  // namespace aurora::optim
