#pragma once

#include "aurora/torch/step.hpp"

// How the core sees the tensors of a step.
namespace aurora::optim {

inline bool is_adamw(const Rule& rule) { return std::holds_alternative<AdamWOptions>(rule); }

inline DType dtype_of(const at::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  return type == at::kDouble ? DType::f64 : type == at::kFloat ? DType::f32 : DType::bf16;
}

/// All elements of a tensor without holes, in the order of its memory.
inline MatrixView flat(const at::Tensor& tensor) {
  return {.data = const_cast<void*>(tensor.const_data_ptr()),
          .rows = 1,
          .cols = tensor.numel(),
          .row_stride = tensor.numel(),
          .dtype = dtype_of(tensor)};
}

/// How the parameter, or what it is a piece of, is cut into matrices, and their shapes. Throw where it
/// cannot be.
Dimensions dimensions_at(const Place& place);
std::vector<MatrixShape> matrices_at(const Place& place);

/// The vectors of a row state, one for each of the parameter's matrices.
std::vector<MatrixView> row_views(const Rule& rule, const at::Tensor& row_state,
                                  std::span<const MatrixView> weights);

}  // namespace aurora::optim
