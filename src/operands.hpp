#pragma once

#include "aurora/backend.hpp"
#include "error.hpp"

// What the primitives of every backend ask of their operands.
namespace aurora {

inline void require(bool condition, std::string_view where, std::string_view rule, const ConstMatrixView& a,
                    const ConstMatrixView& b) {
  if (!condition)
    fail(where, rule, shape_text(a), " ", name(a.dtype), " vs ", shape_text(b), " ", name(b.dtype));
}

inline void require_same_shape(std::string_view where, const ConstMatrixView& a, const ConstMatrixView& b) {
  require(same_shape(a, b), where, "Shapes differ: ", a, b);
}

inline void require_vector(std::string_view where, const ConstMatrixView& x, const ConstMatrixView& d) {
  require(d.rows == x.rows && d.cols == 1 && d.batch == x.batch && is_wide(d.dtype), where,
          "One float32 or float64 number per row is needed: ", x, d);
}

inline void require_scalars(std::string_view where, const ConstMatrixView& x, const ConstMatrixView& s) {
  require(s.rows == 1 && s.cols == 1 && s.batch == x.batch && is_wide(s.dtype), where,
          "One float32 or float64 number per matrix is needed: ", x, s);
}

inline void require_column_major(std::string_view where, const ConstMatrixView& x) {
  if (x.row_stride != 1) fail(where, "A column-major matrix is needed, its row stride is ", x.row_stride);
}

inline void require_triangular(std::string_view where, const ConstMatrixView& r, const ConstMatrixView& x) {
  require(r.rows == x.cols && r.cols == x.cols && r.batch == x.batch, where, "Shapes do not fit: ", r, x);
  require(r.dtype == x.dtype && is_wide(r.dtype), where, "Types differ: ", r, x);
  require_column_major(where, r);
}

inline void require_resolvent(std::string_view where, const ConstMatrixView& y, const ConstMatrixView& s,
                              const ConstMatrixView& lam) {
  require_vector(where, transposed(y), s);
  require_vector(where, y, lam);
  require(s.dtype == DType::f64 && lam.dtype == DType::f64, where, "float64 numbers are needed: ", s, lam);
}

inline void require_adam(const ConstMatrixView& gradient, const ConstMatrixView& exp_avg,
                         const ConstMatrixView& exp_avg_sq, const ConstMatrixView& weight) {
  require_same_shape("adam", gradient, weight);
  require_same_shape("adam", exp_avg, weight);
  require_same_shape("adam", exp_avg_sq, weight);
  require(exp_avg.dtype == exp_avg_sq.dtype && is_wide(exp_avg.dtype), "adam",
          "States must be float32 or float64 and equal: ", exp_avg, exp_avg_sq);
}

}  // namespace aurora
