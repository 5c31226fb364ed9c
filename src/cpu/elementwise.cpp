#include "elementwise.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "elements.hpp"

namespace aurora::cpu {
namespace {

constexpr Index kRowBlock = 256;  // rows whose sums stay in the first cache

/// The batch and the blocks of rows of a column-major `view`.
template <class Work>
void for_each_row_block(const ConstMatrixView& view, Work&& work) {
  for (Index b = 0; b < view.batch; ++b) {
    for (Index begin = 0; begin < view.rows; begin += kRowBlock)
      work(b, begin, std::min(kRowBlock, view.rows - begin));
  }
}

template <class X, class Y>
void axpby_line(double scale_x, const X* x, Index x_step, double scale_y, Y* y, Index y_step, Index count) {
  using A = Arithmetic<X, Y>;
  const A alpha = static_cast<A>(scale_x), beta = static_cast<A>(scale_y);
  const auto line = [&](auto dx, auto dy) __attribute__((always_inline)) {
    if (scale_y == 0.0) {
      for (Index j = 0; j < count; ++j) y[j * dy] = rounded<Y>(alpha * static_cast<A>(x[j * dx]));
    } else if (scale_x == 0.0) {
      for (Index j = 0; j < count; ++j) y[j * dy] = rounded<Y>(beta * static_cast<A>(y[j * dy]));
    } else {
      for (Index j = 0; j < count; ++j)
        y[j * dy] = rounded<Y>(alpha * static_cast<A>(x[j * dx]) + beta * static_cast<A>(y[j * dy]));
    }
  };
  run_stepping(line, x_step, y_step);
}

// Sums of one line. Functions of their own, for g++ makes no vectors of a reduction in a lambda.
template <class X, class Y, class StepX, class StepY>
AURORA_INLINE double dot(const X* x, StepX dx, const Y* y, StepY dy, Index count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index j = 0; j < count; ++j) sum += static_cast<double>(x[j * dx]) * static_cast<double>(y[j * dy]);
  return sum;
}

/// Sum of (x_j first second)^2.
template <class X, class StepX>
AURORA_INLINE double squares(const X* x, StepX dx, double first, double second, Index count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index j = 0; j < count; ++j) {
    const double value = static_cast<double>(x[j * dx]) * first * second;
    sum += value * value;
  }
  return sum;
}

/// Largest |x_j|; NaN is passed over.
template <class X, class StepX>
AURORA_INLINE auto largest_of(const X* x, StepX dx, Index count) {
  using A = Arithmetic<X, X>;
  A most = 0;
#pragma omp simd reduction(max : most)
  for (Index j = 0; j < count; ++j) {
    const A magnitude = std::abs(static_cast<A>(x[j * dx]));
    most = magnitude > most ? magnitude : most;
  }
  return most;
}

template <class X, class Y>
double dot_line(const X* x, Index x_step, const Y* y, Index y_step, Index count) {
  double sum = 0;
  const auto line = [&](auto dx, auto dy) __attribute__((always_inline)) { sum = dot(x, dx, y, dy, count); };
  run_stepping(line, x_step, y_step);
  return sum;
}

/// Largest |element| of matrix b; NaN is passed over, for the sum of squares shows it.
double largest_magnitude(const ConstMatrixView& x, Index b) {
  double result = 0;
  visit_dtype(x.dtype, [&]<class T>(T) {
    using A = Arithmetic<T, T>;
    A largest_value = 0;
    for (Index i = 0; i < x.rows; ++i) {
      const T* line = element<T>(x, b * x.batch_stride + i * x.row_stride);
      const auto loop = [&](auto step) __attribute__((always_inline)) {
        largest_value = std::max(largest_value, largest_of(line, step, x.cols));
      };
      run_stepping(loop, x.col_stride);
    }
    result = static_cast<double>(largest_value);
  });
  return result;
}

/// y = x first second, each product in double; the split keeps 1 / |x| representable for the smallest x.
void scale_by(ConstMatrixView x, double first, double second, MatrixView y) {
  visit_dtype(x.dtype, [&]<class X>(X) {
    visit_dtype(y.dtype, [&]<class Y>(Y) {
      for (Index i = 0; i < x.rows; ++i) {
        const X* from = element<X>(x, i * x.row_stride);
        Y* to = element<Y>(y, i * y.row_stride);
        const auto line = [&](auto dx, auto dy) __attribute__((always_inline)) {
          for (Index j = 0; j < x.cols; ++j)
            to[j * dy] = rounded<Y>(static_cast<double>(from[j * dx]) * first * second);
        };
        run_stepping(line, x.col_stride, y.col_stride);
      }
    });
  });
}

double sum_of_squares(const ConstMatrixView& x, double scale_first, double scale_second) {
  double total = 0;
  visit_dtype(x.dtype, [&]<class T>(T) {
    for (Index i = 0; i < x.rows; ++i) {
      const T* line = element<T>(x, i * x.row_stride);
      const auto loop = [&](auto step) __attribute__((always_inline)) {
        total += squares(line, step, scale_first, scale_second, x.cols);
      };
      run_stepping(loop, x.col_stride);
    }
  });
  return total;
}

/// Sum of x_j 0: 0 for finite x, else NaN. Four places at a time, for one alone leaves the memory waiting.
template <class T, class Step>
AURORA_INLINE auto poison_of(const T* x, Step step, Index count) {
  using A = Arithmetic<T, T>;
  const Index quarter = count / 4;
  const auto at = [&](Index j) __attribute__((always_inline)) { return static_cast<A>(x[j * step]) * A{0}; };
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index j = 0; j < quarter; ++j)
    sum += at(j) + at(quarter + j) + at(2 * quarter + j) + at(3 * quarter + j);
  for (Index j = 4 * quarter; j < count; ++j) sum += at(j);
  return sum;
}

}  // namespace

void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y) {
  if (!rows_are_lines(y)) x = transposed(x), y = transposed(y);
  visit_dtype(x.dtype, [&]<class X>(X) {
    visit_dtype(y.dtype, [&]<class Y>(Y) {
      for_each_line(y, [&](Index b, Index i) {
        axpby_line(alpha, element<X>(x, b * x.batch_stride + i * x.row_stride), x.col_stride, beta,
                   element<Y>(y, b * y.batch_stride + i * y.row_stride), y.col_stride, y.cols);
      });
    });
  });
}

void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y) {
  visit_dtype(x.dtype, [&]<class X>(X) {
    visit_dtype(y.dtype, [&]<class Y>(Y) {
      if (rows_are_lines(y)) {
        for_each_line(y, [&](Index b, Index i) {
          const double scale = value_at(d, b, i);
          const X* from = element<X>(x, b * x.batch_stride + i * x.row_stride);
          Y* to = element<Y>(y, b * y.batch_stride + i * y.row_stride);
          const auto line = [&](auto dx, auto dy) __attribute__((always_inline)) {
            if (scale == 0.0) {
              for (Index j = 0; j < y.cols; ++j) to[j * dy] = rounded<Y>(0.0);
            } else {
              for (Index j = 0; j < y.cols; ++j)
                to[j * dy] = rounded<Y>(scale * static_cast<double>(from[j * dx]));
            }
          };
          run_stepping(line, x.col_stride, y.col_stride);
        });
        return;
      }
      double scales[kRowBlock];
      for_each_row_block(y, [&](Index b, Index begin, Index count) {
        for (Index i = 0; i < count; ++i) scales[i] = value_at(d, b, begin + i);
        for (Index j = 0; j < y.cols; ++j) {
          const X* from = element<X>(x, b * x.batch_stride + begin * x.row_stride + j * x.col_stride);
          Y* to = element<Y>(y, b * y.batch_stride + begin * y.row_stride + j * y.col_stride);
          const auto line = [&](auto dx, auto dy) __attribute__((always_inline)) {
            for (Index i = 0; i < count; ++i)
              to[i * dy] = rounded<Y>(scales[i] == 0.0 ? 0.0 : scales[i] * static_cast<double>(from[i * dx]));
          };
          run_stepping(line, x.row_stride, y.row_stride);
        }
      });
    });
  });
}

void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d) {
  visit_dtype(x.dtype, [&]<class X>(X) {
    visit_dtype(y.dtype, [&]<class Y>(Y) {
      if (rows_are_lines(x)) {
        for_each_line(x, [&](Index b, Index i) {
          set_value(d, b, i,
                    dot_line(element<X>(x, b * x.batch_stride + i * x.row_stride), x.col_stride,
                             element<Y>(y, b * y.batch_stride + i * y.row_stride), y.col_stride, x.cols));
        });
        return;
      }
      double sums[kRowBlock];
      for_each_row_block(x, [&](Index b, Index begin, Index count) {
        std::fill_n(sums, count, 0.0);
        for (Index j = 0; j < x.cols; ++j) {
          const X* column = element<X>(x, b * x.batch_stride + begin * x.row_stride + j * x.col_stride);
          const Y* other = element<Y>(y, b * y.batch_stride + begin * y.row_stride + j * y.col_stride);
          const auto line = [&](auto dx, auto dy) __attribute__((always_inline)) {
            for (Index i = 0; i < count; ++i)
              sums[i] += static_cast<double>(column[i * dx]) * static_cast<double>(other[i * dy]);
          };
          run_stepping(line, x.row_stride, y.row_stride);
        }
        for (Index i = 0; i < count; ++i) set_value(d, b, begin + i, sums[i]);
      });
    });
  });
}

void normalize(ConstMatrixView x, MatrixView y) {
  if (!rows_are_lines(x)) x = transposed(x), y = transposed(y);
  for (Index b = 0; b < x.batch; ++b) {
    const ConstMatrixView from = matrix_of(x, b);
    const MatrixView to = matrix_of(y, b);
    const double magnitude = largest_magnitude(from, 0);
    int exponent = 0;
    if (std::isfinite(magnitude)) std::frexp(magnitude, &exponent);
    const double first = std::ldexp(1.0, -(exponent / 2)),
                 second = std::ldexp(1.0, -(exponent - exponent / 2));
    const double norm = std::sqrt(sum_of_squares(from, first, second));
    if (norm == 0.0) {
      fill(0.0, to);
    } else {
      scale_by(from, first, second / norm, to);
    }
  }
}

void fill(double value, MatrixView y) {
  if (!rows_are_lines(y)) y = transposed(y);
  visit_dtype(y.dtype, [&]<class Y>(Y) {
    for_each_line(y, [&](Index b, Index i) {
      Y* line = element<Y>(y, b * y.batch_stride + i * y.row_stride);
      for (Index j = 0; j < y.cols; ++j) line[j * y.col_stride] = rounded<Y>(value);
    });
  });
}

void mirror_upper(MatrixView s) {
  constexpr Index kBlock = 32;  // both triangles stay in cache
  visit_dtype(s.dtype, [&]<class T>(T) {
    for (Index b = 0; b < s.batch; ++b) {
      T* base = element<T>(s, b * s.batch_stride);
      for (Index row = 0; row < s.rows; row += kBlock) {
        for (Index col = row; col < s.cols; col += kBlock) {
          for (Index i = row; i < std::min(row + kBlock, s.rows); ++i) {
            for (Index j = std::max(col, i + 1); j < std::min(col + kBlock, s.cols); ++j) {
              base[j * s.row_stride + i * s.col_stride] = base[i * s.row_stride + j * s.col_stride];
            }
          }
        }
      }
    }
  });
}

bool all_finite(ConstMatrixView x, DType as) {
  if (!rows_are_lines(x)) x = transposed(x);
  bool finite = true;
  visit_dtype(x.dtype, [&]<class T>(T) {
    for (Index b = 0; b < x.batch && finite; ++b) {
      for (Index i = 0; i < x.rows && finite; ++i) {
        const T* line = element<T>(x, b * x.batch_stride + i * x.row_stride);
        const auto check = [&](auto step) __attribute__((always_inline)) {
          if (x.dtype == DType::f64 && as != DType::f64) {  // what a narrower type can hold
            finite = finite && !(largest_of(line, step, x.cols) > std::numeric_limits<float>::max());
          }
          finite = finite && poison_of(line, step, x.cols) == 0;
        };
        run_stepping(check, x.col_stride);
      }
    }
  });
  return finite;
}

void download(ConstMatrixView x, std::span<double> values) {
  std::size_t at = 0;
  visit_dtype(x.dtype, [&]<class T>(T) {
    for (Index b = 0; b < x.batch; ++b) {
      for (Index i = 0; i < x.rows; ++i) {
        for (Index j = 0; j < x.cols; ++j) {
          values[at++] =
              static_cast<double>(*element<T>(x, b * x.batch_stride + i * x.row_stride + j * x.col_stride));
        }
      }
    }
  });
}

}  // namespace aurora::cpu
