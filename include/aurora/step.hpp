#pragma once

#include <span>

#include "aurora/rules.hpp"

namespace aurora {

// A step is four functions in a row,
//
//   look -> Gate,  blend,  directions,  apply,
//
// each of which also stands alone: ranks exchange matrices between blend and directions, and directions and
// apply. Nothing is written before everything has been looked at: a step is whole or not at all.

/// The tensors of weights of any shapes. Every span has one view per weight (batch 1); row_states has one per
/// weight for a rule with a row state, else none. Gradients and weights are float32, float64 or bf16; states
/// are float32 or float64, zero before the first step. Gradients are only read.
struct StepTensors {
  std::span<const ConstMatrixView> gradients = {};
  std::span<const MatrixView> momentum_buffers = {};
  std::span<const MatrixView> weights = {};
  std::span<const MatrixView> row_states = {};
  std::span<const MatrixView> directions = {};  // if not empty, receives the directions before scaling
};

/// What a step did. `applied` is false when a gradient had an Inf or NaN: then nothing at all was written. On
/// an accelerator nobody waits: true says "queued", and the gate decides there.
struct StepReport {
  bool applied = true;
};

/// One step of a matrix rule: look, then for each weight, largest first, blend, directions and apply. Weights
/// of one shape are one batch where the backend takes batches. Throws std::invalid_argument, with nothing
/// written, where counts, shapes, types or memory do not fit, for a weight with a side of length 1 (it
/// belongs to AdamW), for a rule that takes no matrices, and for a momentum with an Inf or NaN under finite
/// gradients. std::runtime_error where LAPACK does not converge, which finite matrices have not been seen to
/// cause, is the one error that can come after other weights were stepped.
StepReport step(Backend& backend, const Rule& rule, const StepTensors& tensors);
/// One weight.
StepReport step(Backend& backend, const Rule& rule, ConstMatrixView gradient, MatrixView momentum_buffer,
                MatrixView weight, MatrixView row_state = {});

/// The same behind a gate that a look at more than these tensors has made.
void step(Backend& backend, const Gate& gate, const Rule& rule, const StepTensors& tensors);

/// Checks all operands as step says, then whether every gradient is finite, also in the type of its momentum,
/// and every momentum. The gate's flag, on an accelerator, lives until the enclosing ScratchFrame ends.
Gate look(Backend& backend, const Rule& rule, const StepTensors& tensors);
/// The look at values alone: whether all are finite in the type `as`.
Gate look(Backend& backend, std::span<const ConstMatrixView> matrices, DType as);

/// M <- mu M + (1 - mu) G; blended <- mu M + (1 - mu) G with Nesterov, else M. Weights of one shape, blended
/// a batch of them; nothing where the gate is shut.
void blend(Backend& backend, const Gate& gate, const Rule& rule, std::span<const ConstMatrixView> gradients,
           std::span<const MatrixView> momentum_buffers, MatrixView blended);

/// The rule's directions for a batch of blended gradients; see direction in rules.hpp. `row_states` is a batch
/// of copies of the rule's memory, updated: apply keeps them.
void directions(Backend& backend, const Rule& rule, ConstMatrixView blended, MatrixView row_states,
                MatrixView directions);

/// W <- (1 - lr weight_decay) W - lr s U, s the update scale of the shape, for a batch of directions U; and
/// the rule's new memory. Nothing where the gate is shut.
void apply(Backend& backend, const Gate& gate, const Rule& rule, ConstMatrixView directions,
           ConstMatrixView new_row_states, std::span<const MatrixView> weights,
           std::span<const MatrixView> row_states);

/// The same for elements of a rows x cols weight that lie elsewhere than its others, such as a shard: any
/// shape, equal for both.
void apply_to_piece(Backend& backend, const Gate& gate, const Rule& rule, Index rows, Index cols,
                    ConstMatrixView directions, MatrixView weights);

/// Tensors of any shapes, one view per parameter in each span; states float32 or float64.
struct AdamWTensors {
  std::span<const ConstMatrixView> gradients = {};
  std::span<const MatrixView> exp_avgs = {};
  std::span<const MatrixView> exp_avg_sqs = {};
  std::span<const MatrixView> weights = {};
};

/// Step number `step` (1 is the first) of AdamW:
///   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
///   w <- (1 - lr weight_decay) w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
/// One Inf or NaN in any gradient and nothing changes. Errors as step.
StepReport adamw_step(Backend& backend, const AdamWOptions& options, std::int64_t step,
                      const AdamWTensors& tensors);
/// The same behind a gate.
void adamw_step(Backend& backend, const Gate& gate, const AdamWOptions& options, std::int64_t step,
                const AdamWTensors& tensors);

}  // namespace aurora
