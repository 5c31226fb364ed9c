#pragma once

#include <concepts>
#include <span>

#include "aurora/backend.hpp"

namespace aurora {

/// The factor between a direction and the update, named by what it keeps constant.
///   aspect_ratio     sqrt(max(1, m/n))       Muon, Aurora
///   rms_to_rms       sqrt(m/n)               dion's "spectral_norm"; shrinks wide matrices
///   match_rms_adamw  0.2 sqrt(max(m, n))     Moonlight
///   none             1
///   published        what the rule's own paper or code uses; resolved per rule, see published_scale
enum class UpdateScale : std::uint8_t { aspect_ratio, rms_to_rms, match_rms_adamw, none, published };

/// The factor for an m x n weight. Throws std::invalid_argument for `published`, which no shape alone
/// decides.
double update_scale(UpdateScale scale, Index rows, Index cols);

/// M <- mu M + (1 - mu) G; blended <- mu M + (1 - mu) G with Nesterov, else M. The gradient is only read.
void blend_momentum(Backend& backend, ConstMatrixView gradient, double momentum, bool nesterov,
                    MatrixView momentum_buffer, MatrixView blended);

/// W <- (1 - lr weight_decay) W - lr s U.
void apply_update(Backend& backend, ConstMatrixView direction, double lr, double weight_decay, double scale,
                  MatrixView weight);

/// Whether no gradient has an Inf or NaN.
bool all_finite(Backend& backend, std::span<const ConstMatrixView> gradients);

/// Anything that turns a blended gradient (a batch of equal shape) into a direction of the same shape.
/// `row_state`, one vector per matrix, is the direction's memory from step to step; none for directions that
/// have none.
template <class D>
concept Direction =
    std::invocable<const D&, Backend&, ConstMatrixView, std::span<const MatrixView>, MatrixView>;

struct StepOptions {
  double lr, momentum;
  bool nesterov;
  double weight_decay;
  UpdateScale scale;
};

/// The tensors of a group of weights of one shape. Every span has one view per weight; `row_states` and
/// `directions` may be empty. Gradients and weights are float32, float64 or bf16, states float32 or float64.
struct StepTensors {
  std::span<const ConstMatrixView> gradients;
  std::span<const MatrixView> momentum_buffers;
  std::span<const MatrixView> row_states;
  std::span<const MatrixView> weights;
  std::span<const MatrixView> directions = {};  // receives the direction before scaling, for diagnostics
};

/// What a step did. `applied` is false when a gradient had an Inf or NaN: then nothing at all was written.
struct StepReport {
  bool applied = true;
};

/// A Direction without its type.
struct DirectionRef {
  const void* object;
  void (*call)(const void*, Backend&, ConstMatrixView, std::span<const MatrixView>, MatrixView);
};

/// The pipeline behind spectral_step, without the look at the gradients: for callers that looked at all of
/// theirs.
void update_weights(Backend& backend, const StepOptions& options, DirectionRef direction,
                    const StepTensors& tensors);

template <Direction D>
DirectionRef direction_ref(const D& direction) {
  return {&direction, [](const void* object, Backend& backend, ConstMatrixView blended,
                         std::span<const MatrixView> row_state, MatrixView out) {
            (*static_cast<const D*>(object))(backend, blended, row_state, out);
          }};
}

/// gradient -> momentum -> direction -> scale -> weight, for a group of weights of one shape.
/// One Inf or NaN in any gradient and nothing changes. Throws std::invalid_argument where shapes, types or
/// counts differ, and for a weight with a side of length 1, which belongs to AdamW.
template <Direction D>
StepReport spectral_step(Backend& backend, const StepOptions& options, const D& direction,
                         const StepTensors& tensors) {
  if (!all_finite(backend, tensors.gradients)) return {.applied = false};
  update_weights(backend, options, direction_ref(direction), tensors);
  return {};
}

}  // namespace aurora
