#include "aurora/polar.hpp"

#include <algorithm>
#include <utility>

#include "../error.hpp"
#include "exact.hpp"

namespace aurora {
namespace {

bool clearly_tall(const ConstMatrixView& G) { return 2 * G.rows >= 3 * G.cols; }

/// X <- a X + b X X'X + c X (X'X)^2 for every step. X and Y are scratch; the result is where X points.
void iterate(Backend& backend, std::span<const Quintic> steps, MatrixView& X, MatrixView& Y) {
  const MatrixView A = backend.scratch(X.cols, X.cols, X.batch, X.dtype);
  const MatrixView B = backend.scratch(X.cols, X.cols, X.batch, X.dtype);
  for (const auto& [a, b, c] : steps) {
    backend.gram(X, A);           // A = X'X
    backend.axpby(b, A, 0.0, B);  // B = b A + c A^2
    if (c != 0.0) backend.multiply(c, A, A, 1.0, B);
    backend.axpby(a, X, 0.0, Y);  // Y = a X + X B
    backend.multiply(1.0, X, B, 1.0, Y);
    std::swap(X, Y);
  }
}

/// Whether step k of `steps` is the last before a product with the tall matrix. Float16 leaves errors of 5e-4
/// of its largest eigenvalue in R, and a step multiplies those of the smallest by a^2, 67 in polar-express's
/// first: after a third step without a fresh R a matrix with singular values of 1 and 0.01 would be off by
/// half, and diverge. The last block may have three: its a are small.
bool ends_block(std::size_t k, std::size_t steps) { return k + 1 == steps || (k % 2 == 1 && k + 2 < steps); }

/// The same on n x n matrices alone: with R = X'X and P = a I + b R + c R^2, a step is X <- X P and R <- P R
/// P. The P of a block of steps are collected in Q, then X <- X Q, and R is computed afresh.
void iterate_on_gram(Backend& backend, std::span<const Quintic> steps, MatrixView& X, MatrixView& Y) {
  const Index n = X.cols;
  const auto square = [&] { return backend.scratch(n, n, X.batch, X.dtype); };
  MatrixView R = square(), Z = square(), T = square(), Q = square();
  const MatrixView ones = backend.scratch(n, 1, X.batch, X.dtype);
  backend.fill(1.0, ones);
  for (std::size_t k = 0, begin = 0; k < steps.size(); ++k) {
    const auto [a, b, c] = steps[k];
    const bool first = k == begin, last = ends_block(k, steps.size());
    if (first) backend.gram(X, R);
    backend.axpby(b, R, 0.0, Z);  // Z = P - a I
    if (c != 0.0) backend.multiply(c, R, R, 1.0, Z);
    if (first) {
      backend.axpby(1.0, Z, 0.0, Q);
      MatrixView diagonal = Q;
      diagonal.cols = 1;
      diagonal.row_stride = n + 1;
      backend.axpby(a, ones, 1.0, diagonal);
    } else {
      backend.axpby(a, Q, 0.0, T);
      backend.multiply(1.0, Q, Z, 1.0, T);
      std::swap(Q, T);
    }
    if (last) {
      backend.multiply(1.0, X, Q, 0.0, Y);
      std::swap(X, Y);
      begin = k + 1;
    } else {
      backend.axpby(a, R, 0.0, T);  // T = R P
      backend.multiply(1.0, R, Z, 1.0, T);
      backend.axpby(a, T, 0.0, R);  // R = P T
      backend.multiply(1.0, Z, T, 1.0, R);
    }
  }
}

DType product_type(const ConstMatrixView& G, Precision precision) {
  if (G.dtype != DType::f32) return G.dtype;
  return precision == Precision::float16    ? DType::f16
         : precision == Precision::bfloat16 ? DType::bf16
                                            : DType::f32;
}

void schedule_polar(Backend& backend, ConstMatrixView G, const PolarSchedule& schedule, Precision precision,
                    MatrixView U) {
  const DType type = product_type(G, precision);
  if (!is_wide(type) && backend.device() == Device::cpu) {
    fail("polar", "This backend has no products in ", name(type),
         "; precision=float32 is there: ", backend.description());
  }
  MatrixView X = backend.scratch(G.rows, G.cols, G.batch, type, layout_of(G));
  MatrixView Y = backend.scratch(G.rows, G.cols, G.batch, type, layout_of(G));
  backend.normalize(G, X);
  backend.axpby(0.0, X, 1.0 / schedule.norm_factor, X);
  if (!is_wide(type) && clearly_tall(G)) {
    iterate_on_gram(backend, schedule.steps, X, Y);
  } else {
    iterate(backend, schedule.steps, X, Y);
  }
  backend.axpby(1.0, X, 0.0, U);
}

}  // namespace

Polar resolved(Polar polar, Device device, DType dtype) {
  if (polar != Polar::automatic) return polar;
  return device == Device::cpu || dtype == DType::f64 ? Polar::exact : Polar::polar_express_7;
}

Precision resolved(Precision precision, Device device) {
  if (precision != Precision::automatic) return precision;
  return device == Device::cpu ? Precision::float32 : Precision::float16;
}

double polar_cost(Polar method, Index rows, Index cols, Device device) {
  const auto m = static_cast<double>(std::max(rows, cols)), n = static_cast<double>(std::min(rows, cols));
  method = resolved(method, device);
  // Exact: a Gram matrix and a product in float64, a product in float32, and four steps of Cholesky factors,
  // triangular solves and products of n x n. A step of a schedule: X'X and X B, and A^2.
  if (method == Polar::exact) return 6 * m * n * n + 44 * n * n * n;
  return static_cast<double>(schedule(method).steps.size()) * (4 * m * n * n + 2 * n * n * n);
}

void polar(Backend& backend, ConstMatrixView gradient, Polar method, MatrixView direction,
           Precision precision) {
  gradient = checked("polar", "The gradient", gradient);
  direction = checked("polar", "The direction", direction);
  if (!same_shape(gradient, direction)) {
    fail("polar", "Shapes differ: ", shape_text(gradient), " vs ", shape_text(direction));
  }
  if (gradient.dtype != direction.dtype || !is_wide(gradient.dtype)) {
    fail("polar", "Types must be float32 or float64 and equal: ", name(gradient.dtype), " vs ",
         name(direction.dtype));
  }
  const bool in_place = gradient.data == direction.data && gradient.row_stride == direction.row_stride &&
                        gradient.batch_stride == direction.batch_stride;
  if (!in_place && may_overlap(gradient, direction)) {
    fail("polar", "Gradient and direction are the same memory or none in common: ", shape_text(gradient));
  }
  method = resolved(method, backend.device(), gradient.dtype);
  precision = resolved(precision, backend.device());

  const ScratchFrame frame(backend);
  const ConstMatrixView G = tall(gradient);
  const MatrixView U = tall(direction);
  if (method != Polar::exact) return schedule_polar(backend, G, schedule(method), precision, U);
  if (!all_finite(backend, G)) fail("polar", "The gradient has an Inf or NaN: ", shape_text(gradient));
  for (Index b = 0; b < G.batch; ++b) exact_polar(backend, matrix_of(G, b), matrix_of(U, b));
}

}  // namespace aurora
