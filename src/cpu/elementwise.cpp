#include "elementwise.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "error.hpp"

namespace aurora::cpu {
namespace {

/// bfloat16: the upper half of a float.
struct BFloat16 {
  std::uint16_t bits;
  explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
  explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
  static BFloat16 rounded(float value) {  // to nearest, ties to even; NaN stays NaN
    const auto word = std::bit_cast<std::uint32_t>(value);
    if (std::isnan(value)) return {static_cast<std::uint16_t>((word >> 16) | 0x40U)};
    return {static_cast<std::uint16_t>((word + 0x7FFFU + ((word >> 16) & 1U)) >> 16)};
  }
};

template <class T>
T rounded(double value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16::rounded(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}
template <class T>
T rounded(float value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16::rounded(value);
  } else {
    return static_cast<T>(value);
  }
}

/// Arithmetic of two element types: double where either is double.
template <class X, class Y>
using Arithmetic = std::conditional_t<std::is_same_v<X, double> || std::is_same_v<Y, double>, double, float>;

template <class Visitor>
decltype(auto) visit_dtype(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::f64:
      return visitor(double{});
    case DType::bf16:
      return visitor(BFloat16{});
    case DType::f16:
      fail("cpu", "There is no float16 on this backend");
    case DType::f32:
      break;
  }
  return visitor(float{});
}

template <class T, class Data>
auto element(const BasicMatrixView<Data>& view, Index offset) {
  using Pointer = std::conditional_t<std::is_const_v<Data>, const T*, T*>;
  return static_cast<Pointer>(view.data) + offset;
}

/// Whether the elements of a row lie side by side; else those of a column do.
bool rows_are_lines(const ConstMatrixView& view) { return layout_of(view) == Layout::row_major; }

/// The batch and the lines of `view`, a line being a row or, with transposed views, a column.
template <class Work>
void for_each_line(const ConstMatrixView& view, Work&& work) {
  for (Index b = 0; b < view.batch; ++b) {
    for (Index i = 0; i < view.rows; ++i) work(b, i);
  }
}

#ifdef __x86_64__
template <class Loop>
__attribute__((target("avx2"))) void run_with_avx2(const Loop& loop) {
  loop();
}
#endif

/// The loop, with AVX2 where the CPU has it. Its bits stay the same if it adds nothing up: there is no FMA
/// in AVX2.
template <class Loop>
void run_wide(const Loop& loop) {
#ifdef __x86_64__
  static const bool wide = __builtin_cpu_supports("avx2") != 0;
  if (wide) return run_with_avx2(loop);
#endif
  loop();
}

struct UnitStep {
  constexpr operator Index() const { return 1; }
};

/// loop(steps...); where all steps are 1 they are constants, so that the loop becomes one of vectors.
template <class Loop, class... Steps>
void run_stepping(const Loop& loop, Steps... steps) {
  const bool units = ((steps == 1) && ...);
  if (units) {
    run_wide([&]() __attribute__((always_inline)) { loop((static_cast<void>(steps), UnitStep{})...); });
  } else {
    loop(steps...);
  }
}

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
#define AURORA_INLINE __attribute__((always_inline)) inline

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

struct ResolventSums {
  double squares = 0, cubes = 0;
};

/// Sums of x_j^2 / (s_j + shift)^2 and of x_j^2 / (s_j + shift)^3.
template <class X>
AURORA_INLINE ResolventSums resolvent_sums(const X* x, const double* s, double shift, Index count) {
  double squares = 0, cubes = 0;
#pragma omp simd reduction(+ : squares, cubes)
  for (Index j = 0; j < count; ++j) {
    const double inverse = 1 / (s[j] + shift), term = static_cast<double>(x[j]) * inverse;
    squares += term * term;
    cubes += term * term * inverse;
  }
  return {squares, cubes};
}

template <class X, class Y>
double dot_line(const X* x, Index x_step, const Y* y, Index y_step, Index count) {
  double sum = 0;
  const auto line = [&](auto dx, auto dy) __attribute__((always_inline)) { sum = dot(x, dx, y, dy, count); };
  run_stepping(line, x_step, y_step);
  return sum;
}

template <class T>
double value_at(const ConstMatrixView& vector, Index b, Index i) {
  return static_cast<double>(*element<T>(vector, b * vector.batch_stride + i * vector.row_stride));
}

double value_at(const ConstMatrixView& vector, Index b, Index i) {
  return vector.dtype == DType::f64 ? value_at<double>(vector, b, i) : value_at<float>(vector, b, i);
}

void set_value(const MatrixView& vector, Index b, Index i, double value) {
  const Index offset = b * vector.batch_stride + i * vector.row_stride;
  if (vector.dtype == DType::f64) {
    *element<double>(vector, offset) = value;
  } else {
    *element<float>(vector, offset) = static_cast<float>(value);
  }
}

constexpr double kAlone = 1 - 1e-6;  // leverage of a row that no scale can change
constexpr double kLeastOdds = 1e-2;  // of a step: a leverage next to 1 is mostly rounding error

bool takes_part(const ConstMatrixView& h, const ConstMatrixView& d, Index b, Index i) {
  return value_at(d, b, i) > 0 && value_at(h, b, i) > 0 && value_at(h, b, i) < kAlone;
}

/// d_i <- d_i step(h_i, r) for the rows that take part, r their mean leverage; then |d| = 1.
template <class Step>
void balance_step(const ConstMatrixView& h, const MatrixView& d, Step&& step) {
  for (Index b = 0; b < h.batch; ++b) {
    double sum = 0, count = 0;
    for (Index i = 0; i < h.rows; ++i) {
      if (takes_part(h, d, b, i)) sum += value_at(h, b, i), ++count;
    }
    const double r = sum / count;
    for (Index i = 0; i < h.rows; ++i) {
      if (takes_part(h, d, b, i)) set_value(d, b, i, value_at(d, b, i) * step(value_at(h, b, i), r));
    }
  }
  normalize(d, d);
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
template <class T>
auto poison_of(const T* x, Index count) {
  using A = Arithmetic<T, T>;
  const Index quarter = count / 4;
  const auto at = [&](Index j) { return static_cast<A>(x[j]) * A{0}; };
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

void blend(ConstMatrixView gradient, double momentum, bool nesterov, MatrixView momentum_buffer,
           MatrixView blended) {
  if (!rows_are_lines(momentum_buffer)) {
    gradient = transposed(gradient), momentum_buffer = transposed(momentum_buffer);
    blended = transposed(blended);
  }
  visit_dtype(gradient.dtype, [&]<class G>(G) {
    const auto blend_lines = [&]<class M>(M) {
      using A = Arithmetic<G, M>;
      const A keep = static_cast<A>(momentum), add = static_cast<A>(1.0 - momentum);
      for_each_line(momentum_buffer, [&](Index, Index i) {
        const G* g = element<G>(gradient, i * gradient.row_stride);
        M* m = element<M>(momentum_buffer, i * momentum_buffer.row_stride);
        M* b = element<M>(blended, i * blended.row_stride);
        const auto line = [&](auto dg, auto dm, auto db) __attribute__((always_inline)) {
          for (Index j = 0; j < blended.cols; ++j) {
            const A added = add * static_cast<A>(g[j * dg]);
            const M fresh = static_cast<M>(added + keep * static_cast<A>(m[j * dm]));
            m[j * dm] = fresh;
            b[j * db] = nesterov ? static_cast<M>(added + keep * static_cast<A>(fresh)) : fresh;
          }
        };
        run_stepping(line, gradient.col_stride, momentum_buffer.col_stride, blended.col_stride);
      });
    };
    momentum_buffer.dtype == DType::f64 ? blend_lines(double{}) : blend_lines(float{});
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

void power_scales(ConstMatrixView h, double target, double exponent, double cut, MatrixView d) {
  for (Index b = 0; b < h.batch; ++b) {
    double largest_value = 0;
    for (Index i = 0; i < h.rows; ++i) largest_value = std::max(largest_value, value_at(h, b, i));
    const double floor = std::max(cut * largest_value, 0.0);
    for (Index i = 0; i < h.rows; ++i) {
      const double value = value_at(h, b, i);
      const double power = exponent == 0.5 ? std::sqrt(target / value) : std::pow(target / value, exponent);
      set_value(d, b, i, value > floor ? power : 0.0);
    }
  }
}

void odds_step(ConstMatrixView h, MatrixView d) {
  balance_step(h, d, [](double leverage, double r) {
    return std::max(kLeastOdds, std::sqrt(r / (1 - r) * (1 - leverage) / leverage));
  });
}

void tyler_step(ConstMatrixView h, MatrixView d) {
  balance_step(h, d, [](double leverage, double r) { return std::sqrt(r / leverage); });
}

void spread(ConstMatrixView h, ConstMatrixView d, MatrixView s) {
  for (Index b = 0; b < h.batch; ++b) {
    double count = 0, sum = 0, squares = 0;
    for (Index i = 0; i < h.rows; ++i) {
      if (!takes_part(h, d, b, i)) continue;
      const double leverage = value_at(h, b, i);
      ++count, sum += std::sqrt(leverage), squares += leverage;
    }
    const double mean = sum / count;
    set_value(s, b, 0, count == 0 ? 0 : std::sqrt(std::max(0.0, squares / count - mean * mean)) / mean);
  }
}

void select_less(ConstMatrixView a, ConstMatrixView b, ConstMatrixView x, MatrixView y) {
  for (Index i = 0; i < y.batch; ++i) {
    if (value_at(a, i, 0) < value_at(b, i, 0)) axpby(1.0, matrix_of(x, i), 0.0, matrix_of(y, i));
  }
}

void adopt_scales(ConstMatrixView e, MatrixView d) {
  constexpr double kFactor = 1000;
  for (Index b = 0; b < e.batch; ++b) {
    double logs = 0, count = 0;
    for (Index i = 0; i < e.rows; ++i) {
      if (value_at(d, b, i) > 0 && value_at(e, b, i) > 0) {
        logs += std::log(value_at(d, b, i) / value_at(e, b, i)), ++count;
      }
    }
    const double g = count > 0 ? std::exp(logs / count) : 1;
    for (Index i = 0; i < e.rows; ++i) {
      const double scale = value_at(d, b, i), fresh = g * value_at(e, b, i);
      const bool keep = fresh > 0 && scale <= kFactor * fresh && scale * kFactor >= fresh;
      if (!keep) set_value(d, b, i, fresh);
    }
  }
}

void resolvent_sums(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView p, MatrixView q) {
  visit_dtype(y.dtype, [&]<class Y>(Y) {
    for (Index b = 0; b < y.batch; ++b) {
      const auto* row_shift = element<double>(lam, b * lam.batch_stride);
      const auto* col_shift = element<double>(s, b * s.batch_stride);
      if (rows_are_lines(y)) {
        for (Index i = 0; i < y.rows; ++i) {
          const Y* line = element<Y>(y, b * y.batch_stride + i * y.row_stride);
          const double shift = row_shift[i * lam.row_stride];
          ResolventSums sums;
          run_wide([&]() __attribute__((always_inline)) {
            sums = resolvent_sums(line, col_shift, shift, y.cols);
          });
          set_value(p, b, i, sums.squares);
          set_value(q, b, i, sums.cubes);
        }
      } else {
        auto* squares = element<double>(p, b * p.batch_stride);
        auto* cubes = element<double>(q, b * q.batch_stride);
        std::fill_n(squares, y.rows, 0.0);
        std::fill_n(cubes, y.rows, 0.0);
        for (Index j = 0; j < y.cols; ++j) {
          const Y* column = element<Y>(y, b * y.batch_stride + j * y.col_stride);
          const double shift = col_shift[j];
          run_wide([&]() __attribute__((always_inline)) {
#pragma omp simd
            for (Index i = 0; i < y.rows; ++i) {
              const double inverse = 1 / (shift + row_shift[i]),
                           term = static_cast<double>(column[i]) * inverse;
              squares[i] += term * term;
              cubes[i] += term * term * inverse;
            }
          });
        }
      }
    }
  });
}

void resolvent(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView w) {
  if (!rows_are_lines(w)) return resolvent(transposed(y), lam, s, transposed(w));
  visit_dtype(y.dtype, [&]<class Y>(Y) {
    visit_dtype(w.dtype, [&]<class W>(W) {
      for_each_line(w, [&](Index b, Index i) {
        const double shift = value_at(lam, b, i);
        const auto* col_shift = element<double>(s, b * s.batch_stride);
        const Y* from = element<Y>(y, b * y.batch_stride + i * y.row_stride);
        W* to = element<W>(w, b * w.batch_stride + i * w.row_stride);
        const Index ds = s.row_stride;
        const auto line = [&](auto dy, auto dw) __attribute__((always_inline)) {
          for (Index j = 0; j < w.cols; ++j)
            to[j * dw] = rounded<W>(static_cast<double>(from[j * dy]) / (col_shift[j * ds] + shift));
        };
        run_stepping(line, y.col_stride, w.col_stride);
      });
    });
  });
}

void resolvent_newton(ConstMatrixView p, ConstMatrixView q, double target, double floor, MatrixView x) {
  for (Index b = 0; b < p.batch; ++b) {
    for (Index i = 0; i < p.rows; ++i) {
      const double squares = value_at(p, b, i), cubes = value_at(q, b, i);
      const double step = cubes > 0 ? squares / cubes * (std::sqrt(squares / target) - 1) : 0;
      set_value(x, b, i, std::max(floor, value_at(x, b, i) + step));
    }
  }
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

void adam(const AdamScalars& scalars, ConstMatrixView gradient, MatrixView exp_avg, MatrixView exp_avg_sq,
          MatrixView weight) {
  if (!rows_are_lines(weight)) {
    gradient = transposed(gradient), exp_avg = transposed(exp_avg);
    exp_avg_sq = transposed(exp_avg_sq), weight = transposed(weight);
  }
  visit_dtype(weight.dtype, [&]<class W>(W) {
    visit_dtype(gradient.dtype, [&]<class G>(G) {
      const auto update = [&]<class S>(S) {
        const S beta1 = static_cast<S>(scalars.beta1), beta2 = static_cast<S>(scalars.beta2);
        const S rest1 = static_cast<S>(1 - scalars.beta1), rest2 = static_cast<S>(1 - scalars.beta2);
        const S keep = static_cast<S>(1 - scalars.lr * scalars.weight_decay);
        const S step = static_cast<S>(scalars.lr / scalars.bias_correction1);
        const S root = static_cast<S>(1 / std::sqrt(scalars.bias_correction2));
        const S eps = static_cast<S>(scalars.eps);
        for_each_line(weight, [&](Index b, Index i) {
          const G* g = element<G>(gradient, b * gradient.batch_stride + i * gradient.row_stride);
          S* m = element<S>(exp_avg, b * exp_avg.batch_stride + i * exp_avg.row_stride);
          S* v = element<S>(exp_avg_sq, b * exp_avg_sq.batch_stride + i * exp_avg_sq.row_stride);
          W* w = element<W>(weight, b * weight.batch_stride + i * weight.row_stride);
          const auto element_step = [&](Index jg, Index jm, Index jv, Index jw)
              __attribute__((always_inline)) {
            const S slope = static_cast<S>(g[jg]);
            m[jm] = beta1 * m[jm] + rest1 * slope;
            v[jv] = beta2 * v[jv] + rest2 * slope * slope;
            w[jw] = rounded<W>(keep * static_cast<S>(w[jw]) - step * m[jm] / (std::sqrt(v[jv]) * root + eps));
          };
          if (gradient.col_stride == 1 && exp_avg.col_stride == 1 && exp_avg_sq.col_stride == 1) {
            run_wide([&]() __attribute__((always_inline)) {
#pragma omp simd
              for (Index j = 0; j < weight.cols; ++j) element_step(j, j, j, j);
            });
          } else {
            for (Index j = 0; j < weight.cols; ++j) {
              element_step(j * gradient.col_stride, j * exp_avg.col_stride, j * exp_avg_sq.col_stride,
                           j * weight.col_stride);
            }
          }
        });
      };
      exp_avg.dtype == DType::f64 ? update(double{}) : update(float{});
    });
  });
}

bool all_finite(ConstMatrixView x) {
  if (!rows_are_lines(x)) x = transposed(x);
  bool finite = true;
  visit_dtype(x.dtype, [&]<class T>(T) {
    for (Index b = 0; b < x.batch && finite; ++b) {
      for (Index i = 0; i < x.rows && finite; ++i) {
        finite = poison_of(element<T>(x, b * x.batch_stride + i * x.row_stride), x.cols) == 0;
      }
    }
  });
  return finite;
}

double largest(ConstMatrixView x) {
  double result = -std::numeric_limits<double>::infinity();
  visit_dtype(x.dtype, [&]<class T>(T) {
    for (Index b = 0; b < x.batch; ++b) {
      for (Index i = 0; i < x.rows; ++i) {
        for (Index j = 0; j < x.cols; ++j) {
          const auto offset = b * x.batch_stride + i * x.row_stride + j * x.col_stride;
          result = std::max(result, static_cast<double>(*element<T>(x, offset)));
        }
      }
    }
  });
  return result;
}

double smallest(ConstMatrixView x) {
  double result = std::numeric_limits<double>::infinity();
  visit_dtype(x.dtype, [&]<class T>(T) {
    for_each_line(x, [&](Index b, Index i) {
      for (Index j = 0; j < x.cols; ++j) {
        const auto offset = b * x.batch_stride + i * x.row_stride + j * x.col_stride;
        result = std::min(result, static_cast<double>(*element<T>(x, offset)));
      }
    });
  });
  return result;
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
