#pragma once

#include <vector>

#include "aurora/step.hpp"
#include "support/matrices.hpp"

namespace aurora::test {

struct Types {
  DType gradient = DType::f64, state = DType::f64, weight = DType::f64;
};
inline constexpr Types kDouble{};
inline constexpr Types kSingle{DType::f32, DType::f32, DType::f32};
inline constexpr Types kHalf{DType::bf16, DType::f32, DType::bf16};

/// A group of weights of one shape with everything that a step of any of the optimizers needs; states begin
/// at zero.
class Group {
 public:
  Group(const std::vector<Matrix>& start, Types types, Placement placement = {});

  /// One step of whichever optimizer `options` are for, after setting the gradients.
  StepReport step(Backend& backend, const Rule& options, const std::vector<Matrix>& gradients);
  /// The same with the gradients that are there.
  StepReport step(Backend& backend, const Rule& options);

  std::vector<Stored> gradients;
  std::vector<Stored> weights;
  std::vector<Stored> momentum;    // of AdamW: exp_avg
  std::vector<Stored> row_states;  // rows x 1
  std::vector<Stored> squares;     // exp_avg_sq
  std::vector<Stored> directions;  // empty unless asked for
  std::int64_t steps = 0;          // that were applied

  void keep_directions();

 private:
  Types types_;
  Placement placement_;
};

std::vector<MatrixView> views(std::vector<Stored>& matrices);
std::vector<ConstMatrixView> const_views(const std::vector<Stored>& matrices);

/// The step of one matrix: weight after `gradients`, one per step, in `types`.
Matrix trajectory(Backend& backend, const Rule& options, const Matrix& start,
                  const std::vector<Matrix>& gradients, Types types = kDouble, Placement placement = {});

}  // namespace aurora::test
