#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace aurora {

using Index = std::int64_t;

/// Element types of matrices. Scalars are always `double`. Gradients and weights may be bf16; f16 is for
/// products inside algorithms, on backends that are fastest in it.
enum class DType : std::uint8_t { f32, f64, bf16, f16 };

/// float32 or float64: what states, directions and factorisations are made of.
constexpr bool is_wide(DType dtype) { return dtype == DType::f32 || dtype == DType::f64; }

constexpr Index byte_size(DType dtype) { return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2; }
std::string_view name(DType dtype);

/// A matrix, or `batch` matrices of one shape, that somebody else owns. Element (i, j) of matrix b lies
/// b * batch_stride + i * row_stride + j * col_stride elements after `data`. One of row_stride and col_stride
/// is 1 and the other at least the length of a row or column, so a view is a BLAS operand as it stands and a
/// transpose is only another view; a row stride of 0 means packed. A vector of m numbers is an m x 1 matrix.
/// Weights are [out, in]: rows are neurons.
///
/// Every function that takes views from outside checks them first and throws std::invalid_argument, with
/// nothing written, for null data, sizes outside [1, 2^31) (of a vector 2^40), strides that make elements coincide, extents that
/// overflow, and outputs that share memory with each other or with an input, where it does not say "in
/// place".
template <class Data>
struct BasicMatrixView {
  Data* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index row_stride = 0;
  Index col_stride = 1;
  Index batch = 1;
  Index batch_stride = 0;
  DType dtype = DType::f32;

  /// A writable view is a read-only view; never the reverse.
  operator BasicMatrixView<const void>() const requires(!std::is_const_v<Data>) {
    return {data, rows, cols, row_stride, col_stride, batch, batch_stride, dtype};
  }
};

using MatrixView = BasicMatrixView<void>;
using ConstMatrixView = BasicMatrixView<const void>;

template <class T>
constexpr DType dtype_of() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>, "a matrix element is float or double");
  return std::is_same_v<T, float> ? DType::f32 : DType::f64;
}

namespace views {
template <class T>
using Data = std::conditional_t<std::is_const_v<T>, const void, void>;
}

/// `batch` packed row-major matrices that begin at `data`: C arrays, torch and NumPy by default.
template <class T>
auto row_major(T* data, Index rows, Index cols, Index batch = 1) {
  return BasicMatrixView<views::Data<T>>{data, rows,  cols,        cols,
                                         1,    batch, rows * cols, dtype_of<std::remove_const_t<T>>()};
}

/// `batch` packed column-major matrices that begin at `data`: Fortran, Eigen by default.
template <class T>
auto column_major(T* data, Index rows, Index cols, Index batch = 1) {
  return BasicMatrixView<views::Data<T>>{data, rows,  cols,        1,
                                         rows, batch, rows * cols, dtype_of<std::remove_const_t<T>>()};
}

/// One row-major matrix of any element type whose rows begin `row_stride` elements apart; 0: packed. For
/// bf16, whose elements have no type of their own here, and for parts of larger matrices.
template <class Data>
BasicMatrixView<views::Data<Data>> strided(Data* data, DType dtype, Index rows, Index cols,
                                           Index row_stride = 0) {
  return {data, rows, cols, row_stride == 0 ? cols : row_stride, 1, 1, 0, dtype};
}

/// The transpose: the same elements, seen with rows and columns exchanged.
template <class Data>
BasicMatrixView<Data> transposed(BasicMatrixView<Data> view) {
  std::swap(view.rows, view.cols);
  std::swap(view.row_stride, view.col_stride);
  return view;
}

/// The same matrix seen with rows >= cols.
template <class Data>
BasicMatrixView<Data> tall(const BasicMatrixView<Data>& view) {
  return view.rows < view.cols ? transposed(view) : view;
}

/// Matrix `index` of a batch, 0 <= index < view.batch.
template <class Data>
BasicMatrixView<Data> matrix_of(BasicMatrixView<Data> view, Index index) {
  using Byte = std::conditional_t<std::is_const_v<Data>, const std::byte, std::byte>;
  view.data = static_cast<Byte*>(view.data) + index * view.batch_stride * byte_size(view.dtype);
  view.batch = 1;
  view.batch_stride = 0;
  return view;
}

inline bool same_shape(const ConstMatrixView& a, const ConstMatrixView& b) {
  return a.rows == b.rows && a.cols == b.cols && a.batch == b.batch;
}

/// The view with its row stride filled in, if it is one that may be read and written; else throws
/// std::invalid_argument "[aurora::WHERE] WHAT ...".
ConstMatrixView checked(std::string_view where, std::string_view what, ConstMatrixView view);
MatrixView checked(std::string_view where, std::string_view what, MatrixView view);

/// Whether two views may have an element in common; false where it is certain that they have none.
bool may_overlap(const ConstMatrixView& a, const ConstMatrixView& b);

/// "4x2", or "3 of 4x2" for a batch.
std::string shape_text(const ConstMatrixView& view);

}  // namespace aurora
