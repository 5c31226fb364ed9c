#include "step_operands.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "error.hpp"

namespace aurora {
namespace {

/// View i of a span, checked.
template <class View>
View checked_one(std::string_view where, std::string_view what, std::span<const View> views, std::size_t i) {
  try {
    const View view = checked(where, what, views[i]);
    if (view.batch != 1) fail(where, "One matrix per view is needed: ", what, " is ", shape_text(view));
    return view;
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string(error.what()) + "; number " + std::to_string(i));
  }
}

void require_count(std::string_view where, std::string_view what, std::size_t count, std::size_t weights) {
  if (count != weights) {
    fail(where, "One view per weight is needed: ", weights, " weights vs ", count, " ", what, "s");
  }
}

void require_equal_shape(std::string_view where, std::string_view what, std::size_t i,
                         const ConstMatrixView& view, Index rows, Index cols) {
  if (view.rows != rows || view.cols != cols) {
    fail(where, "Shapes differ: weight ", i, " needs a ", what, " of ", rows, "x", cols, ", not ",
         shape_text(view));
  }
}

void require_state(std::string_view where, std::string_view what, std::size_t i,
                   const ConstMatrixView& view) {
  if (!is_wide(view.dtype)) {
    fail(where, "States must be float32 or float64: ", what, " ", i, " is ", name(view.dtype));
  }
}

/// Gradients and weights: what a step reads and writes on every backend.
void require_element(std::string_view where, std::string_view what, std::size_t i,
                     const ConstMatrixView& view) {
  if (view.dtype == DType::f16) {
    fail(where, "Gradients and weights must be float32, float64 or bfloat16: ", what, " ", i, " is ",
         name(view.dtype));
  }
}

std::uintptr_t begin_of(const Extent& extent) { return reinterpret_cast<std::uintptr_t>(extent.view.data); }
std::uintptr_t end_of(const Extent& extent) {
  const ConstMatrixView& view = extent.view;
  const Index elements = (view.rows - 1) * view.row_stride + (view.cols - 1) * view.col_stride + 1;
  return begin_of(extent) + static_cast<std::uintptr_t>(elements * byte_size(view.dtype));
}

template <class View>
void append(std::vector<Extent>& extents, std::string_view what, const std::vector<View>& views) {
  constexpr bool kWritten = std::is_same_v<View, MatrixView>;
  for (std::size_t i = 0; i < views.size(); ++i) extents.push_back({views[i], kWritten, what, i});
}

/// What is stepped together: equal keys. Of sizes that nobody has checked yet.
auto key_of(const StepTensors& tensors, std::size_t i) {
  const Index m = tensors.weights[i].rows, n = tensors.weights[i].cols;
  const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(std::min(m, n));
  const DType state = tensors.momentum_buffers[i].dtype;
  return std::tuple(state, -work, m, tensors.row_states.empty() ? state : tensors.row_states[i].dtype);
}

}  // namespace

void require_apart(std::string_view where, std::vector<Extent>& extents) {
  std::ranges::sort(extents, {}, begin_of);
  for (std::size_t i = 0; i < extents.size(); ++i) {
    for (std::size_t j = i + 1; j < extents.size() && begin_of(extents[j]) < end_of(extents[i]); ++j) {
      const Extent &a = extents[i], &b = extents[j];
      if ((a.written || b.written) && may_overlap(a.view, b.view)) {
        fail(where, "Matrices share memory: a ", a.what, " and a ", b.what, ", ", shape_text(a.view));
      }
    }
  }
}

void StepOperands::assign(const Rule& rule, const StepTensors& tensors) {
  for (auto* list : {&momentum_buffers_, &weights_, &row_states_, &directions_}) list->clear();
  gradients_.clear(), momenta_.clear(), sizes_.clear(), firsts_.clear(), extents_.clear(), order_.clear();
  validate(rule);
  if (!takes_matrices(rule)) fail("step", "This rule takes no matrices: ", name(rule));
  const std::size_t count = tensors.weights.size();
  const bool has_rows = !row_state_name(rule).empty(), keeps = !tensors.directions.empty();
  require_count("step", "gradient", tensors.gradients.size(), count);
  require_count("step", "momentum buffer", tensors.momentum_buffers.size(), count);
  if (keeps) require_count("step", "direction", tensors.directions.size(), count);
  if (has_rows && tensors.row_states.size() != count) {
    fail("step", name(rule), " needs one row state, ", row_state_name(rule), ", per weight: ", count, " vs ",
         tensors.row_states.size());
  }
  if (!has_rows && !tensors.row_states.empty()) {
    fail("step", name(rule), " has no row state: ", tensors.row_states.size(), " were given");
  }
  for (std::size_t i = 0; i < count; ++i) order_.push_back(i);
  std::ranges::sort(order_, [&](std::size_t a, std::size_t b) {
    return std::pair(key_of(tensors, a), a) < std::pair(key_of(tensors, b), b);
  });
  for (const std::size_t i : order_) {
    gradients_.push_back(checked_one("step", "gradient", tensors.gradients, i));
    momentum_buffers_.push_back(checked_one("step", "momentum buffer", tensors.momentum_buffers, i));
    momenta_.emplace_back(momentum_buffers_.back());
    weights_.push_back(checked_one("step", "weight", tensors.weights, i));
    const Index rows = weights_.back().rows, cols = weights_.back().cols;
    if (rows < 2 || cols < 2) {
      fail("step", "A side of length 1 belongs to AdamW: weight ", i, ", ", shape_text(weights_.back()));
    }
    require_element("step", "gradient", i, gradients_.back());
    require_element("step", "weight", i, weights_.back());
    require_equal_shape("step", "gradient", i, gradients_.back(), rows, cols);
    require_equal_shape("step", "momentum buffer", i, momentum_buffers_.back(), rows, cols);
    require_state("step", "momentum buffer", i, momentum_buffers_.back());
    if (keeps) {
      directions_.push_back(checked_one("step", "direction", tensors.directions, i));
      require_equal_shape("step", "direction", i, directions_.back(), rows, cols);
      require_state("step", "direction", i, directions_.back());
    }
    if (has_rows) {
      row_states_.push_back(checked_one("step", "row state", tensors.row_states, i));
      require_equal_shape("step", "row state", i, row_states_.back(), row_state_size(rule, rows, cols), 1);
      require_state("step", "row state", i, row_states_.back());
    }
    if (sizes_.empty() || key_of(tensors, i) != key_of(tensors, order_[firsts_.back()])) {
      firsts_.push_back(weights_.size() - 1);
      sizes_.push_back(0);
    }
    ++sizes_.back();
  }
  append(extents_, "gradient", gradients_);
  append(extents_, "momentum buffer", momentum_buffers_);
  append(extents_, "weight", weights_);
  append(extents_, "row state", row_states_);
  append(extents_, "direction", directions_);
  require_apart("step", extents_);
}

StepTensors StepOperands::part(std::size_t group, Index begin, Index end) const {
  const std::size_t first = firsts_[group] + static_cast<std::size_t>(begin),
                    count = static_cast<std::size_t>(end - begin);
  const auto cut = [&](const std::vector<MatrixView>& views) {
    return views.empty() ? std::span<const MatrixView>() : std::span(views).subspan(first, count);
  };
  return {.gradients = std::span(gradients_).subspan(first, count),
          .momentum_buffers = cut(momentum_buffers_),
          .weights = cut(weights_),
          .row_states = cut(row_states_),
          .directions = cut(directions_)};
}

std::ptrdiff_t StepOperands::bad_momentum(Backend& backend) const {
  for (std::size_t i = 0; i < order_.size(); ++i) {
    if (!all_finite(backend, momenta_[i])) return static_cast<std::ptrdiff_t>(order_[i]);
  }
  return -1;
}

void AdamWOperands::assign(const AdamWOptions& options, std::int64_t step, const AdamWTensors& tensors) {
  for (auto* list : {&exp_avgs_, &exp_avg_sqs_, &weights_}) list->clear();
  gradients_.clear(), extents_.clear(), sizes.clear();
  validate(options);
  if (step < 1) fail("adamw_step", "The first step is number 1: ", step);
  const std::size_t count = tensors.weights.size();
  require_count("adamw_step", "gradient", tensors.gradients.size(), count);
  require_count("adamw_step", "exp_avg", tensors.exp_avgs.size(), count);
  require_count("adamw_step", "exp_avg_sq", tensors.exp_avg_sqs.size(), count);
  for (std::size_t i = 0; i < count; ++i) {
    gradients_.push_back(checked_one("adamw_step", "gradient", tensors.gradients, i));
    exp_avgs_.push_back(checked_one("adamw_step", "exp_avg", tensors.exp_avgs, i));
    exp_avg_sqs_.push_back(checked_one("adamw_step", "exp_avg_sq", tensors.exp_avg_sqs, i));
    weights_.push_back(checked_one("adamw_step", "weight", tensors.weights, i));
    const Index rows = weights_[i].rows, cols = weights_[i].cols;
    require_element("adamw_step", "gradient", i, gradients_[i]);
    require_element("adamw_step", "weight", i, weights_[i]);
    require_equal_shape("adamw_step", "gradient", i, gradients_[i], rows, cols);
    require_equal_shape("adamw_step", "exp_avg", i, exp_avgs_[i], rows, cols);
    require_equal_shape("adamw_step", "exp_avg_sq", i, exp_avg_sqs_[i], rows, cols);
    require_state("adamw_step", "exp_avg", i, exp_avgs_[i]);
    require_state("adamw_step", "exp_avg_sq", i, exp_avg_sqs_[i]);
    if (exp_avgs_[i].dtype != exp_avg_sqs_[i].dtype) {
      fail("adamw_step", "Both moments must be of one type: weight ", i, ", ", name(exp_avgs_[i].dtype),
           " and ", name(exp_avg_sqs_[i].dtype));
    }
  }
  append(extents_, "gradient", gradients_);
  append(extents_, "exp_avg", exp_avgs_);
  append(extents_, "exp_avg_sq", exp_avg_sqs_);
  append(extents_, "weight", weights_);
  require_apart("adamw_step", extents_);
}

}  // namespace aurora
