#include "aurora/backend.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

namespace aurora {
namespace {

/// Calls visit(number) for every element of one matrix, without asking the system for memory.
template <class Visit>
void for_each_number(Backend& backend, ConstMatrixView x, Visit&& visit) {
  std::array<double, 2048> block;
  if (x.rows > x.cols) x = transposed(x);
  const auto* data = static_cast<const std::byte*>(x.data);
  for (Index i = 0; i < x.rows; ++i) {
    for (Index j = 0; j < x.cols; j += std::ssize(block)) {
      ConstMatrixView part = x;
      part.data = data + (i * x.row_stride + j * x.col_stride) * byte_size(x.dtype);
      part.rows = 1;
      part.cols = std::min(std::ssize(block), x.cols - j);
      const auto values = std::span(block).first(static_cast<std::size_t>(part.cols));
      backend.download(part, values);
      for (const double value : values) visit(value);
    }
  }
}

}  // namespace

double number_in(Backend& backend, ConstMatrixView x) {
  double value = 0;
  backend.download(x, {&value, 1});
  return value;
}

double largest(Backend& backend, ConstMatrixView x) {
  double most = -std::numeric_limits<double>::infinity();
  for_each_number(backend, x, [&](double value) { most = std::max(most, value); });
  return most;
}

double smallest(Backend& backend, ConstMatrixView x) {
  double least = std::numeric_limits<double>::infinity();
  for_each_number(backend, x, [&](double value) { least = std::min(least, value); });
  return least;
}

bool all_finite(Backend& backend, ConstMatrixView x) {
  const ScratchFrame frame(backend);
  const MatrixView flag = backend.scratch(1, 1, 1, DType::f32);
  backend.fill(1.0, flag);
  backend.all_finite({&x, 1}, x.dtype, flag);
  return number_in(backend, flag) != 0;
}

}  // namespace aurora
