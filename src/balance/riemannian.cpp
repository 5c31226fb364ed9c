#include <algorithm>
#include <cmath>

#include "../formulas.hpp"
#include "aurora/balance.hpp"
#include "row_scales.hpp"

namespace aurora {
namespace {

constexpr int kAscents = 3, kRetractions = 2, kConjugateGradients = 20;

/// x'y of two m x 1 vectors.
double dot(Backend& backend, ConstMatrixView x, ConstMatrixView y) {
  const ScratchFrame frame(backend);
  const MatrixView product = backend.scratch(1, 1, 1, DType::f64);
  backend.row_dots(transposed(x), transposed(y), product);
  return number_in(backend, product);
}

/// Rows of U to the given length; rows of zeros stay.
void set_row_lengths(Backend& backend, double length, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView h = backend.scratch(U.rows, 1, U.batch, DType::f64);
  backend.row_dots(U, U, h);
  backend.apply(formulas::InverseRoot{.target = length * length}, {h, h}, {h});
  backend.scale_rows(h, U, U);
}

/// One U of the batch moved along the tangent at U of the feasible set; see riemannian_polar.
class RiemannianAscent {
 public:
  RiemannianAscent(Backend& backend, ConstMatrixView G, MatrixView U)
      : backend_(backend),
        G_(G),
        U_(U),
        r_(static_cast<double>(G.cols) / static_cast<double>(G.rows)),
        S_(backend.scratch(G.cols, G.cols, 1, G.dtype)),
        product_(backend.scratch(G.cols, G.cols, 1, G.dtype)),
        Z_(backend.scratch(G.rows, G.cols, 1, G.dtype, layout_of(G))),
        T_(backend.scratch(G.rows, G.cols, 1, G.dtype, layout_of(G))),
        q_(vector()),
        lambda_(vector()),
        direction_(vector()),
        image_(vector()) {}

  /// U <- U + step Z, Z the projected gradient.
  void advance(double step) {
    backend_.multiply(1.0, transposed(ConstMatrixView(U_)), G_, 0.0, product_);
    backend_.axpby(0.5, product_, 0.0, S_);
    backend_.axpby(0.5, transposed(product_), 1.0, S_);  // S = sym(U'G)
    row_multipliers();
    backend_.scale_rows(lambda_, U_, T_);
    backend_.multiply(-1.0, transposed(ConstMatrixView(U_)), T_, 1.0, S_);  // S - U' diag(lam) U
    backend_.axpby(1.0, G_, 0.0, Z_);
    backend_.multiply(-1.0, U_, S_, 1.0, Z_);
    backend_.axpby(-1.0, T_, 1.0, Z_);  // Z = G - U S - diag(lam) U
    backend_.axpby(step, Z_, 1.0, U_);
  }

 private:
  MatrixView vector() { return backend_.scratch(G_.rows, 1, 1, DType::f64); }

  /// image = (r + reg) v - (P o P) v, P = U U'.
  void apply_operator(ConstMatrixView v, double diagonal) {
    backend_.scale_rows(v, U_, T_);
    backend_.multiply(1.0, transposed(ConstMatrixView(U_)), T_, 0.0, product_);
    backend_.multiply(1.0, U_, product_, 0.0, T_);
    backend_.row_dots(U_, T_, image_);
    backend_.axpby(diagonal, v, -1.0, image_);
  }

  /// lambda of (r I - P o P + reg I) lambda = q by conjugate gradients.
  void row_multipliers() {
    const auto m = static_cast<double>(G_.rows);
    backend_.row_dots(G_, U_, q_);
    backend_.multiply(1.0, U_, S_, 0.0, T_);
    backend_.row_dots(U_, T_, image_);
    backend_.axpby(-1.0, image_, 1.0, q_);
    backend_.fill(1.0, direction_);
    const double mean = dot(backend_, q_, direction_) / m;
    backend_.axpby(-mean, direction_, 1.0, q_);

    backend_.row_dots(U_, U_, image_);
    const double h = largest(backend_, image_);
    const double diagonal = r_ + std::max(0.0, h * h - r_ + 1e-3);

    backend_.fill(0.0, lambda_);
    backend_.axpby(1.0, q_, 0.0, direction_);  // q is the residual from here
    double residual = dot(backend_, q_, q_);
    const double enough = residual * 1e-30;
    for (int i = 0; i < kConjugateGradients && residual > enough; ++i) {
      apply_operator(direction_, diagonal);
      const double alpha = residual / dot(backend_, direction_, image_);
      backend_.axpby(alpha, direction_, 1.0, lambda_);
      backend_.axpby(-alpha, image_, 1.0, q_);
      const double next = dot(backend_, q_, q_);
      backend_.axpby(1.0, q_, next / residual, direction_);
      residual = next;
    }
  }

  Backend& backend_;
  ConstMatrixView G_;
  MatrixView U_;
  double r_;
  MatrixView S_, product_, Z_, T_, q_, lambda_, direction_, image_;
};

}  // namespace

double riemannian_polar_cost(const RiemannianOptions& options, Index rows, Index cols, Device device) {
  const double factor = polar_cost(options.polar, rows, cols, device);
  if (rows <= cols) return factor;
  const auto m = static_cast<double>(rows), n = static_cast<double>(cols);
  // Five products for the projected gradient, two for each step of conjugate gradients.
  return (1 + kAscents * kRetractions) * factor + kAscents * (10.0 + 4.0 * kConjugateGradients) * m * n * n;
}

void riemannian_polar(Backend& backend, ConstMatrixView gradient, const RiemannianOptions& options,
                      MatrixView direction) {
  gradient = checked("riemannian_polar", "The gradient", gradient);
  direction = checked("riemannian_polar", "The direction", direction);
  require_matching("riemannian_polar", gradient, direction);
  if (may_overlap(gradient, direction)) {
    fail("riemannian_polar", "Gradient and direction share memory: ", shape_text(gradient));
  }
  if (gradient.rows <= gradient.cols)
    return polar(backend, gradient, options.polar, direction, options.precision);
  const ScratchFrame frame(backend);
  const MatrixView G =
      backend.scratch(gradient.rows, gradient.cols, gradient.batch, gradient.dtype, layout_of(gradient));
  const double length = std::sqrt(static_cast<double>(G.cols) / static_cast<double>(G.rows));
  backend.normalize(gradient, G);
  polar(backend, G, options.polar, direction, options.precision);
  for (Index b = 0; b < G.batch; ++b) {
    const ScratchFrame ascent_frame(backend);
    const MatrixView U = matrix_of(direction, b);
    RiemannianAscent ascent(backend, matrix_of(G, b), U);
    for (int outer = 0; outer < kAscents; ++outer) {
      ascent.advance(0.1);
      for (int retraction = 0; retraction < kRetractions; ++retraction) {
        set_row_lengths(backend, length, U);
        polar(backend, U, options.polar, U, options.precision);
      }
    }
  }
}

}  // namespace aurora
