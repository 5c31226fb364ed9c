#pragma once

#include <optional>
#include <vector>

#include "aurora/torch/step.hpp"

namespace aurora::optim {

/// The matrices of one tensor, to read: views of it, or of a copy.
struct Matrices {
  at::Tensor memory;  // what the views look at
  std::vector<MatrixView> views;
};
Matrices matrices_of(const at::Tensor& tensor, const Dimensions& dimensions);
/// What was written to the views of matrices_of(tensor, dimensions), into the tensor.
void give_back(const Matrices& matrices, const Dimensions& dimensions, const at::Tensor& tensor);

/// What one step reads and writes of one parameter, as the core takes it. Where strides and types allow, these
/// are views of the caller's tensors; else all of them are views of copies: matrices gathered row by row
/// (query, key and value by head, interleaved gate and up), elements without gaps, float16 as float32.
/// give_back() writes what a step changed into the caller's tensors.
class Gathered {
 public:
  /// The matrices of the parameter, its gradient, momentum and, where it is asked for, direction.
  static Gathered matrices(const Due& due, const Dimensions& dimensions);
  /// All elements as one row each: of the parameter, its gradient, exp_avg and exp_avg_sq.
  static Gathered elements(const Due& due);

  std::vector<MatrixView> weights, gradients, first_states, second_states, directions;

  void give_back() const;

 private:
  struct Copy {
    at::Tensor original, packed;
    std::optional<Dimensions> dimensions;  // as which it is packed; nothing: elements in a row
  };
  std::vector<Copy> copies_;
  std::vector<at::Tensor> gradients_;
};

}  // namespace aurora::optim
