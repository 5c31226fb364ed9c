#include "aurora/matrix.hpp"

#include <cstdint>
#include <limits>
#include <string>

#include "error.hpp"

namespace aurora {
namespace {

/// Elements from the first of a matrix to one past its last.
Index extent(const ConstMatrixView& view) {
  return (view.rows - 1) * view.row_stride + (view.cols - 1) * view.col_stride + 1;
}

/// Elements from the first of the batch to one past its last.
Index batch_extent(const ConstMatrixView& view) {
  return (view.batch - 1) * view.batch_stride + extent(view);
}

std::uintptr_t begin_of(const ConstMatrixView& view) { return reinterpret_cast<std::uintptr_t>(view.data); }
std::uintptr_t end_of(const ConstMatrixView& view) {
  return begin_of(view) + static_cast<std::uintptr_t>(batch_extent(view) * byte_size(view.dtype));
}

/// Whether two row-major views of one row stride lie in different columns of one larger matrix.
bool in_different_columns(const ConstMatrixView& a, const ConstMatrixView& b) {
  if (a.batch != 1 || b.batch != 1 || a.col_stride != 1 || b.col_stride != 1 || a.dtype != b.dtype ||
      a.row_stride != b.row_stride) {
    return false;
  }
  const auto size = static_cast<std::uintptr_t>(byte_size(a.dtype));
  const auto stride = static_cast<std::uintptr_t>(a.row_stride) * size;
  if (begin_of(b) < begin_of(a)) return in_different_columns(b, a);
  const std::uintptr_t offset = (begin_of(b) - begin_of(a)) % stride;
  return offset >= static_cast<std::uintptr_t>(a.cols) * size &&
         offset + static_cast<std::uintptr_t>(b.cols) * size <= stride;
}

}  // namespace

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

ConstMatrixView checked(std::string_view where, std::string_view what, ConstMatrixView view) {
  // What BLAS counts to; vectors, which it never sees, may be longer.
  const Index most =
      view.rows == 1 || view.cols == 1 ? Index{1} << 40 : std::numeric_limits<std::int32_t>::max();
  if (name(view.dtype) == "unknown") {
    fail(where, what, " has no such element type: ", static_cast<int>(view.dtype));
  }
  if (view.rows < 1 || view.cols < 1 || view.batch < 1 || view.rows > most || view.cols > most ||
      view.batch > most) {
    fail(where, what,
         " must have from 1 to 2^31 - 1 rows, columns and matrices (2^40 of a vector): ", shape_text(view));
  }
  if (view.data == nullptr) fail(where, what, " has no data: ", shape_text(view));
  if (view.row_stride == 0 && view.col_stride == 1) view.row_stride = view.cols;
  const bool by_rows = view.col_stride == 1 && (view.row_stride >= view.cols || view.rows == 1);
  const bool by_columns = view.row_stride == 1 && (view.col_stride >= view.rows || view.cols == 1);
  if ((!by_rows && !by_columns) || view.row_stride < 0 || view.col_stride < 0) {
    fail(where, what, " needs one stride of 1 and another of at least a row or column: ", shape_text(view),
         ", row stride ", view.row_stride, ", column stride ", view.col_stride);
  }
  // Of a single row or column the other stride means nothing.
  if (view.rows == 1 && view.col_stride == 1) view.row_stride = view.cols;
  if (view.cols == 1 && view.row_stride == 1) view.col_stride = by_rows ? 1 : view.rows;
  constexpr double kMostBytes = 0x1p52;  // more than any process can address
  const auto product = [](Index a, Index b) { return static_cast<double>(a) * static_cast<double>(b); };
  const double bytes = (product(view.rows - 1, view.row_stride) + product(view.cols - 1, view.col_stride) +
                        product(view.batch - 1, view.batch_stride) + 1) *
                       static_cast<double>(byte_size(view.dtype));
  if (view.batch_stride < 0 || bytes > kMostBytes || static_cast<double>(begin_of(view)) + bytes > 0x1p64) {
    fail(where, what, " reaches past the end of memory: ", shape_text(view), ", strides ", view.row_stride,
         ", ", view.col_stride, ", ", view.batch_stride);
  }
  const Index line = by_rows ? view.cols : view.rows, gap = by_rows ? view.row_stride : view.col_stride;
  const bool apart =
      view.batch_stride >= extent(view) ||
      (view.batch_stride >= line && (view.batch - 1) * view.batch_stride + line <= gap);  // side by side
  if (view.batch > 1 && !apart) {
    fail(where, what, " has matrices that overlap: ", shape_text(view), ", batch stride ", view.batch_stride);
  }
  return view;
}

MatrixView checked(std::string_view where, std::string_view what, MatrixView view) {
  const ConstMatrixView good = checked(where, what, ConstMatrixView(view));
  view.row_stride = good.row_stride;
  view.col_stride = good.col_stride;
  return view;
}

bool may_overlap(const ConstMatrixView& a, const ConstMatrixView& b) {
  if (end_of(a) <= begin_of(b) || end_of(b) <= begin_of(a)) return false;
  return !in_different_columns(a, b) && !in_different_columns(transposed(a), transposed(b));
}

}  // namespace aurora
