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

inline void require_column_major(std::string_view where, const ConstMatrixView& x) {
  if (x.row_stride != 1) fail(where, "A column-major matrix is needed, its row stride is ", x.row_stride);
}

inline void require_triangular(std::string_view where, const ConstMatrixView& r, const ConstMatrixView& x) {
  require(r.rows == x.cols && r.cols == x.cols && r.batch == x.batch, where, "Shapes do not fit: ", r, x);
  require(r.dtype == x.dtype && is_wide(r.dtype), where, "Types differ: ", r, x);
  require_column_major(where, r);
}

}  // namespace aurora
