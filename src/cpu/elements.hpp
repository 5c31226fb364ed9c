#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "../error.hpp"
#include "aurora/backend.hpp"

#define AURORA_INLINE __attribute__((always_inline)) inline

// What loops over the elements of CPU memory share.
namespace aurora::cpu {

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
inline bool rows_are_lines(const ConstMatrixView& view) { return layout_of(view) == Layout::row_major; }

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

template <class T>
double value_at(const ConstMatrixView& vector, Index b, Index i) {
  return static_cast<double>(*element<T>(vector, b * vector.batch_stride + i * vector.row_stride));
}

inline double value_at(const ConstMatrixView& vector, Index b, Index i) {
  return vector.dtype == DType::f64 ? value_at<double>(vector, b, i) : value_at<float>(vector, b, i);
}

inline void set_value(const MatrixView& vector, Index b, Index i, double value) {
  const Index offset = b * vector.batch_stride + i * vector.row_stride;
  if (vector.dtype == DType::f64) {
    *element<double>(vector, offset) = value;
  } else {
    *element<float>(vector, offset) = static_cast<float>(value);
  }
}

}  // namespace aurora::cpu
