#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "aurora/matrix.hpp"

namespace aurora::test {

/// `batch` matrices of float64 numbers, row-major: the numbers of a test, independent of how they are stored.
struct Matrix {
  Index rows = 0, cols = 0, batch = 1;
  std::vector<double> values = std::vector<double>(static_cast<std::size_t>(rows * cols * batch), 0.0);

  double& operator()(Index i, Index j, Index b = 0) { return values[position(i, j, b)]; }
  double operator()(Index i, Index j, Index b = 0) const { return values[position(i, j, b)]; }

 private:
  std::size_t position(Index i, Index j, Index b) const {
    return static_cast<std::size_t>((b * rows + i) * cols + j);
  }
};

Matrix identity(Index n);
Matrix diagonal(const std::vector<double>& entries);
Matrix transposed(const Matrix& x);
Matrix product(const Matrix& a, const Matrix& b);  // sums in long double
Matrix scaled(double factor, const Matrix& x);
Matrix sum(double a, const Matrix& x, double b, const Matrix& y);  // a x + b y
Matrix matrix_of(const Matrix& batch, Index index);
Matrix stacked(const std::vector<Matrix>& matrices);
double largest(const Matrix& x);    // max |x_ij|
double frobenius(const Matrix& x);  // long double inside

/// Deterministic numbers, the same on every platform and standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint64_t bits();
  double uniform();                        // [0, 1)
  double normal();                         // mean 0, variance 1
  Index integer(Index first, Index last);  // first..last
 private:
  std::uint64_t state_;
};

Matrix gaussian(Random& random, Index rows, Index cols, Index batch = 1);
Matrix integers(Random& random, Index rows, Index cols, Index first, Index last);
/// Orthonormal columns, rows >= cols.
Matrix orthonormal(Random& random, Index rows, Index cols);
/// Singular values spaced geometrically from 1 to 1 / condition.
Matrix conditioned(Random& random, Index rows, Index cols, double condition);
/// Rows of lengths spread by about e^(+-spread).
Matrix uneven_rows(Random& random, Index rows, Index cols, double spread);

/// x = u diag(s) v', thin, s descending. One-sided Jacobi: every singular value to high relative accuracy.
struct Svd {
  Matrix u;
  std::vector<double> s;
  Matrix v;
};
Svd svd(const Matrix& x);
/// The polar factor; singular values at or below cut times the largest give zero.
Matrix reference_polar(const Matrix& x, double cut = 0);
double condition_number(const Matrix& x);

/// How a matrix lies in memory.
struct Placement {
  bool column_major = false;
  Index gap = 0;        // unused elements after each row (column)
  Index offset = 0;     // unused elements before the first; an odd one misaligns
  Index batch_gap = 0;  // unused elements after each matrix
};

/// A matrix in memory of its own, in any type and placement. Every byte that is not an element is 0xFF: NaN
/// in all types. float32 and bf16 values are rounded to nearest, ties to even.
class Stored {
 public:
  Stored(const Matrix& values, DType dtype, Placement placement = {});

  MatrixView view();
  ConstMatrixView view() const;
  ConstMatrixView cview() const { return view(); }
  Matrix values() const;
  const std::vector<std::byte>& bytes() const { return bytes_; }
  bool padding_is_untouched() const;

 private:
  BasicMatrixView<void> layout_;
  std::vector<std::byte> bytes_;
  std::size_t first_ = 0;  // byte of element (0, 0)
};

Matrix rounded(const Matrix& x, DType dtype);
/// The elements of any view.
Matrix values_of(const ConstMatrixView& view);
/// Unit roundoff: 2^-53, 2^-24, 2^-8.
double unit_roundoff(DType dtype);

}  // namespace aurora::test
