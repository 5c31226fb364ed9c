#include "aurora/matrix.hpp"

namespace aurora {

std::string_view name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::bf16:
      return "bfloat16";
    case DType::f16:
      return "float16";
  }
  return "unknown";
}

std::string shape_text(const ConstMatrixView& view) {
  const std::string shape = std::to_string(view.rows) + "x" + std::to_string(view.cols);
  return view.batch == 1 ? shape : std::to_string(view.batch) + " of " + shape;
}

}  // namespace aurora
