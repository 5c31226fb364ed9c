#include "aurora/step.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "error.hpp"

namespace aurora {
namespace {

void require_equal_shape(std::string_view what, std::span<const MatrixView> views, std::size_t count,
                         Index rows, Index cols) {
  if (views.size() != count) {
    fail("spectral_step", "One view per gradient is needed: ", count, " gradients vs ", views.size(), " ",
         what);
  }
  for (const auto& view : views) {
    if (view.rows != rows || view.cols != cols || view.batch != 1) {
      fail("spectral_step", "Shapes differ: gradient ", rows, "x", cols, " vs ", what, " ", shape_text(view));
    }
  }
}

void require_states(std::string_view what, std::span<const MatrixView> views) {
  for (const auto& view : views) {
    if (!is_wide(view.dtype) || view.dtype != views.front().dtype) {
      fail("spectral_step", "States must be float32 or float64 and equal: ", what, " ", name(view.dtype));
    }
  }
}

void require_consistent(const StepTensors& tensors) {
  const auto& [gradients, momentum_buffers, row_states, weights, directions] = tensors;
  const Index rows = gradients.front().rows, cols = gradients.front().cols;
  if (rows < 2 || cols < 2) {
    fail("spectral_step", "A side of length 1 belongs to AdamW: ", shape_text(gradients.front()));
  }
  for (const auto& gradient : gradients) {
    if (gradient.rows != rows || gradient.cols != cols || gradient.batch != 1) {
      fail("spectral_step", "Shapes differ: gradient ", rows, "x", cols, " vs gradient ",
           shape_text(gradient));
    }
  }
  require_equal_shape("momentum buffer", momentum_buffers, gradients.size(), rows, cols);
  require_equal_shape("weight", weights, gradients.size(), rows, cols);
  require_states("momentum buffer", momentum_buffers);
  if (!row_states.empty()) {
    const Index state_rows = row_states.front().rows == rows ? rows : std::max(rows, cols);
    require_equal_shape("row state", row_states, gradients.size(), state_rows, 1);
    require_states("row state", row_states);
  }
  if (!directions.empty()) require_equal_shape("direction", directions, gradients.size(), rows, cols);
}

template <class View>
std::span<const View> part_of(std::span<const View> views, Index begin, Index end) {
  if (views.empty()) return views;
  return views.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
}

}  // namespace

double update_scale(UpdateScale scale, Index rows, Index cols) {
  const auto m = static_cast<double>(rows), n = static_cast<double>(cols);
  switch (scale) {
    case UpdateScale::aspect_ratio:
      return std::sqrt(std::max(1.0, m / n));
    case UpdateScale::rms_to_rms:
      return std::sqrt(m / n);
    case UpdateScale::match_rms_adamw:
      return 0.2 * std::sqrt(std::max(m, n));
    case UpdateScale::none:
      return 1.0;
    case UpdateScale::published:
      break;
  }
  fail("update_scale", "The published scale depends on the rule, not on the shape alone: ", rows, "x", cols);
}

void blend_momentum(Backend& backend, ConstMatrixView gradient, double momentum, bool nesterov,
                    MatrixView momentum_buffer, MatrixView blended) {
  backend.axpby(1.0 - momentum, gradient, momentum, momentum_buffer);
  backend.axpby(1.0, momentum_buffer, 0.0, blended);
  if (nesterov) backend.axpby(1.0 - momentum, gradient, momentum, blended);
}

void apply_update(Backend& backend, ConstMatrixView direction, double lr, double weight_decay, double scale,
                  MatrixView weight) {
  backend.axpby(-lr * scale, direction, 1.0 - lr * weight_decay, weight);
}

bool all_finite(Backend& backend, std::span<const ConstMatrixView> gradients) {
  return std::all_of(gradients.begin(), gradients.end(),
                     [&](const ConstMatrixView& gradient) { return backend.all_finite(gradient); });
}

void Backend::blend(std::span<const ConstMatrixView> gradients, double momentum, bool nesterov,
                    std::span<const MatrixView> momentum_buffers, MatrixView blended) {
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    blend_momentum(*this, gradients[i], momentum, nesterov, momentum_buffers[i],
                   matrix_of(blended, static_cast<Index>(i)));
  }
}

void Backend::keep(ConstMatrixView batch, std::span<const MatrixView> to) {
  for (std::size_t i = 0; i < to.size(); ++i) axpby(1.0, matrix_of(batch, static_cast<Index>(i)), 0.0, to[i]);
}

void Backend::apply(ConstMatrixView directions, double lr, double weight_decay, double scale,
                    std::span<const MatrixView> weights) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    apply_update(*this, matrix_of(directions, static_cast<Index>(i)), lr, weight_decay, scale, weights[i]);
  }
}

void update_weights(Backend& backend, const StepOptions& options, DirectionRef direction,
                    const StepTensors& tensors) {
  if (tensors.gradients.empty()) return;
  require_consistent(tensors);
  const ConstMatrixView first = tensors.weights.front();
  const DType state = tensors.momentum_buffers.front().dtype;
  const double scale = update_scale(options.scale, first.rows, first.cols);
  const auto& row_states = tensors.row_states;

  const auto count = static_cast<Index>(tensors.gradients.size());
  backend.for_each_part(count, [&](Backend& part, Index begin, Index end) {
    const ScratchFrame frame(part);
    const MatrixView B = part.scratch(first.rows, first.cols, end - begin, state, layout_of(first));
    const MatrixView U = part.scratch(first.rows, first.cols, end - begin, state, layout_of(first));
    part.blend(part_of(tensors.gradients, begin, end), options.momentum, options.nesterov,
               part_of(tensors.momentum_buffers, begin, end), B);
    if (row_states.empty() || !part.asynchronous()) {
      direction.call(direction.object, part, B, part_of(row_states, begin, end), U);
    } else {  // on copies: whether the step is applied is not known yet
      const MatrixView S = part.scratch(row_states.front().rows, 1, end - begin, row_states.front().dtype);
      std::vector<MatrixView> states;
      for (Index i = begin; i < end; ++i) {
        states.push_back(matrix_of(S, i - begin));
        part.axpby(1.0, row_states[static_cast<std::size_t>(i)], 0.0, states.back());
      }
      direction.call(direction.object, part, B, states, U);
      part.keep(S, part_of(row_states, begin, end));
    }
    if (!tensors.directions.empty()) part.keep(U, part_of(tensors.directions, begin, end));
    part.apply(U, options.lr, options.weight_decay, scale, part_of(tensors.weights, begin, end));
  });
}

}  // namespace aurora
