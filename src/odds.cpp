#include "row_scales.hpp"

namespace aurora {
namespace {

constexpr double kProgress = 0.999;  // what an exact exchange of shares does not reach by rounding
constexpr double kEven = 1e-6;       // a spread of rounding errors, not worth another evaluation

/// The scales before the last step, to go back to when it made the rows less even.
class Safeguard {
 public:
  Safeguard(Backend& backend, Index rows)
      : backend_(backend),
        d_(backend.scratch(rows, 1, 1, DType::f64)),
        h_(backend.scratch(rows, 1, 1, DType::f64)) {}

  /// Whether the odds step that led to this spread did not make the rows more even.
  bool rejects(double spread) const { return after_odds_ && spread > kEven && spread > kProgress * spread_; }

  /// d <- odds step from d, remembered.
  void step(ConstMatrixView h, double spread, MatrixView d) {
    backend_.axpby(1.0, d, 0.0, d_);
    backend_.axpby(1.0, h, 0.0, h_);
    spread_ = spread;
    after_odds_ = true;
    backend_.odds_step(h, d);
  }

  /// d <- Tyler's step from where the rejected step began.
  void retreat(MatrixView d) {
    backend_.axpby(1.0, d_, 0.0, d);
    backend_.tyler_step(h_, d);
    after_odds_ = false;
  }

 private:
  Backend& backend_;
  MatrixView d_, h_;
  double spread_ = 0;
  bool after_odds_ = false;
};

}  // namespace

void odds_balance(Backend& backend, ConstMatrixView X, int evaluations, const PolarSchedule& schedule,
                  MatrixView d, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView h = backend.scratch(X.rows, 1, 1, DType::f64);
  ScaledFactors factors{backend.scratch(X.rows, X.cols, 1, X.dtype, layout_of(X)),
                        backend.scratch(X.cols, X.cols, 1, X.dtype, Layout::column_major),
                        backend.scratch(X.rows, 1, 1, DType::f64)};
  Safeguard safeguard(backend, X.rows);
  for (int k = 1; k < evaluations; ++k) {
    scaled_leverage(backend, X, d, factors, h);
    const double spread = backend.spread(h, d);
    safeguard.rejects(spread) ? safeguard.retreat(d) : safeguard.step(h, spread, d);
  }
  scaled_polar(backend, X, d, schedule, factors, U, h);
  if (safeguard.rejects(backend.spread(h, d))) {
    safeguard.retreat(d);
    scaled_polar(backend, X, d, schedule, factors, U, h);
  }
}

}  // namespace aurora
