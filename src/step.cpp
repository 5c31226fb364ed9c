#include "aurora/step.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "error.hpp"
#include "formulas.hpp"
#include "step_operands.hpp"

namespace aurora {
namespace {

/// The hyperparameters of the ends of a step, of any matrix rule.
struct Ends {
  double lr, momentum, weight_decay;
  bool nesterov;
  UpdateScale scale;  // never published
};

Ends ends_of(const Rule& rule) {
  return std::visit(
      []<class Options>(const Options& o) -> Ends {
        if constexpr (requires { o.momentum; }) {
          return {o.lr, o.momentum, o.weight_decay, o.nesterov, applied_scale(o)};
        } else {
          fail("step", "This rule takes no matrices: ", name(o));
        }
      },
      rule);
}

/// The update of a rows x cols weight.
formulas::Update update_of(const Rule& rule, Index rows, Index cols) {
  const Ends ends = ends_of(rule);
  return {.rate = ends.lr * update_scale(ends.scale, rows, cols), .keep = 1.0 - ends.lr * ends.weight_decay};
}

void step_part(Backend& backend, const Gate& gate, const Rule& rule, const StepTensors& part) {
  const ScratchFrame frame(backend);
  const auto count = static_cast<Index>(part.weights.size());
  const Index rows = part.weights.front().rows, cols = part.weights.front().cols;
  const DType state = part.momentum_buffers.front().dtype;
  const Layout layout = layout_of(part.weights.front());
  const MatrixView B = backend.scratch(rows, cols, count, state, layout);
  const MatrixView U = backend.scratch(rows, cols, count, state, layout);
  MatrixView memory = {};
  if (!part.row_states.empty()) {
    memory = backend.scratch(part.row_states.front().rows, 1, count, part.row_states.front().dtype);
    backend.apply(formulas::Copy{}, {part.row_states}, {memory});
  }
  if (gate.flag.data != nullptr) backend.fill(0.0, B);  // a direction of what a shut gate leaves there
  blend(backend, gate, rule, part.gradients, part.momentum_buffers, B);
  directions(backend, rule, B, memory, U);
  apply(backend, gate, rule, U, memory, part.weights, part.row_states);
  if (!part.directions.empty()) backend.apply(formulas::Copy{}, {U}, {part.directions}, gate);
}

/// Lists of this thread that keep their memory from step to step; they hold nothing between steps.
StepOperands& operands_of_this_thread() {
  thread_local StepOperands operands;
  return operands;
}
AdamWOperands& adamw_operands_of_this_thread() {
  thread_local AdamWOperands operands;
  return operands;
}

/// A parameter cut into chunks of whole lines, for the threads to share.
struct Chunks {
  bool by_rows;
  Index lines, lines_per_chunk, count;
};

Chunks chunks_of(const ConstMatrixView& weight) {
  constexpr Index kElements = Index{1} << 16;
  const bool by_rows = layout_of(weight) == Layout::row_major && weight.rows > 1;
  const Index lines = by_rows ? weight.rows : weight.cols, length = by_rows ? weight.cols : weight.rows;
  const Index per_chunk = std::max<Index>(1, kElements / std::max<Index>(1, length));
  return {by_rows, lines, per_chunk, (lines + per_chunk - 1) / per_chunk};
}

/// Rows [begin, end) of a view.
template <class Data>
BasicMatrixView<Data> row_range(BasicMatrixView<Data> view, Index begin, Index end) {
  using Byte = std::conditional_t<std::is_const_v<Data>, const std::byte, std::byte>;
  view.data = static_cast<Byte*>(view.data) + begin * view.row_stride * byte_size(view.dtype);
  view.rows = end - begin;
  return view;
}

/// The gate of a step on one backend. Throws where the momentum alone is to blame.
Gate look_at(Backend& backend, const StepOperands& operands) {
  if (backend.device() != Device::cpu) {
    const MatrixView flag = backend.scratch(1, 1, 1, DType::f32);
    backend.fill(1.0, flag);
    operands.for_each_type([&](auto gradients, auto momenta, DType type) {
      backend.all_finite(gradients, type, flag);
      backend.all_finite(momenta, type, flag);
    });
    return {.open = true, .flag = flag};
  }
  bool gradients_are = true, momenta_are = true;
  operands.for_each_type([&](auto gradients, auto momenta, DType type) {
    gradients_are = gradients_are && look(backend, gradients, type).open;
    momenta_are = momenta_are && gradients_are && look(backend, momenta, type).open;
  });
  if (gradients_are && !momenta_are) {
    fail("look", "The momentum has an Inf or NaN, the gradients have none: weight ",
         operands.bad_momentum(backend));
  }
  return {.open = gradients_are};
}

void step_operands(Backend& backend, const Gate& gate, const Rule& rule, const StepOperands& operands) {
  if (!gate.open) return;
  backend.for_each_part(operands.sizes(), [&](Backend& part, std::size_t group, Index begin, Index end) {
    step_part(part, gate, rule, operands.part(group, begin, end));
  });
}

void adamw_operands(Backend& backend, const Gate& gate, const AdamWOptions& options, std::int64_t step,
                    AdamWOperands& operands) {
  if (!gate.open) return;
  const auto t = static_cast<double>(step);
  const formulas::Adam adam{.lr = options.lr,
                            .beta1 = options.beta1,
                            .beta2 = options.beta2,
                            .eps = options.eps,
                            .weight_decay = options.weight_decay,
                            .correction1 = 1.0 - std::pow(options.beta1, t),
                            .correction2 = 1.0 - std::pow(options.beta2, t)};
  const AdamWTensors all = operands.tensors();
  for (const auto& weight : all.weights) operands.sizes.push_back(chunks_of(weight).count);
  backend.for_each_part(operands.sizes, [&](Backend& part, std::size_t i, Index begin, Index end) {
    const Chunks chunks = chunks_of(all.weights[i]);
    const auto cut = [&](auto view) {
      return row_range(chunks.by_rows ? view : transposed(view), begin * chunks.lines_per_chunk,
                       std::min(chunks.lines, end * chunks.lines_per_chunk));
    };
    const MatrixView m = cut(all.exp_avgs[i]), v = cut(all.exp_avg_sqs[i]), w = cut(all.weights[i]);
    part.apply(adam, {cut(all.gradients[i]), m, v, w}, {m, v, w}, gate);
  });
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

Gate look(Backend& backend, std::span<const ConstMatrixView> matrices, DType as) {
  if (backend.device() == Device::cpu) {
    const ScratchFrame frame(backend);
    const MatrixView flag = backend.scratch(1, 1, 1, DType::f32);
    backend.fill(1.0, flag);
    backend.all_finite(matrices, as, flag);
    return {.open = number_in(backend, flag) != 0};
  }
  const MatrixView flag = backend.scratch(1, 1, 1, DType::f32);
  backend.fill(1.0, flag);
  backend.all_finite(matrices, as, flag);
  return {.open = true, .flag = flag};
}

Gate look(Backend& backend, const Rule& rule, const StepTensors& tensors) {
  StepOperands& operands = operands_of_this_thread();
  operands.assign(rule, tensors);
  return look_at(backend, operands);
}

void blend(Backend& backend, const Gate& gate, const Rule& rule, std::span<const ConstMatrixView> gradients,
           std::span<const MatrixView> momentum_buffers, MatrixView blended) {
  const Ends ends = ends_of(rule);
  backend.apply(formulas::Blend{.momentum = ends.momentum, .nesterov = ends.nesterov},
                {gradients, momentum_buffers}, {momentum_buffers, blended}, gate);
}

void directions(Backend& backend, const Rule& rule, ConstMatrixView blended, MatrixView row_states,
                MatrixView directions) {
  direction(backend, rule, blended, directions, row_states);
}

void apply(Backend& backend, const Gate& gate, const Rule& rule, ConstMatrixView directions,
           ConstMatrixView new_row_states, std::span<const MatrixView> weights,
           std::span<const MatrixView> row_states) {
  backend.apply(update_of(rule, directions.rows, directions.cols), {directions, weights}, {weights}, gate);
  if (!row_states.empty()) backend.apply(formulas::Copy{}, {new_row_states}, {row_states}, gate);
}

void apply_to_piece(Backend& backend, const Gate& gate, const Rule& rule, Index rows, Index cols,
                    ConstMatrixView directions, MatrixView weights) {
  backend.apply(update_of(rule, rows, cols), {directions, weights}, {weights}, gate);
}

void step(Backend& backend, const Gate& gate, const Rule& rule, const StepTensors& tensors) {
  StepOperands& operands = operands_of_this_thread();
  operands.assign(rule, tensors);
  step_operands(backend, gate, rule, operands);
}

StepReport step(Backend& backend, const Rule& rule, const StepTensors& tensors) {
  const ScratchFrame frame(backend);
  StepOperands& operands = operands_of_this_thread();
  operands.assign(rule, tensors);
  const Gate gate = look_at(backend, operands);
  step_operands(backend, gate, rule, operands);
  return {.applied = gate.open};
}

StepReport step(Backend& backend, const Rule& rule, ConstMatrixView gradient, MatrixView momentum_buffer,
                MatrixView weight, MatrixView row_state) {
  StepTensors tensors{
      .gradients = {&gradient, 1}, .momentum_buffers = {&momentum_buffer, 1}, .weights = {&weight, 1}};
  if (row_state.data != nullptr) tensors.row_states = {&row_state, 1};
  return step(backend, rule, tensors);
}

StepReport adamw_step(Backend& backend, const AdamWOptions& options, std::int64_t step,
                      const AdamWTensors& tensors) {
  const ScratchFrame frame(backend);
  AdamWOperands& operands = adamw_operands_of_this_thread();
  operands.assign(options, step, tensors);
  const AdamWTensors all = operands.tensors();
  // A state is float64 where the first is; a wider look would let an overflow into a narrower one.
  const bool wide = std::ranges::all_of(all.exp_avgs, [](auto& view) { return view.dtype == DType::f64; });
  const Gate gate = look(backend, all.gradients, wide ? DType::f64 : DType::f32);
  adamw_operands(backend, gate, options, step, operands);
  return {.applied = gate.open};
}

void adamw_step(Backend& backend, const Gate& gate, const AdamWOptions& options, std::int64_t step,
                const AdamWTensors& tensors) {
  AdamWOperands& operands = adamw_operands_of_this_thread();
  operands.assign(options, step, tensors);
  adamw_operands(backend, gate, options, step, operands);
}

}  // namespace aurora
