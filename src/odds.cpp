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
  const MatrixView s = backend.scratch(1, 1, 1, DType::f64);
  const auto spread = [&] {
    backend.spread(h, d, s);
    return backend.largest(s);
  };
  Safeguard safeguard(backend, X.rows);
  for (int k = 1; k < evaluations; ++k) {
    scaled_leverage(backend, X, d, factors, h);
    const double now = spread();
    safeguard.rejects(now) ? safeguard.retreat(d) : safeguard.step(h, now, d);
  }
  scaled_polar(backend, X, d, schedule, factors, U, h);
  if (safeguard.rejects(spread())) {
    safeguard.retreat(d);
    scaled_polar(backend, X, d, schedule, factors, U, h);
  }
}

void odds_balance_asynchronous(Backend& backend, ConstMatrixView X, int evaluations,
                               const PolarSchedule& schedule, MatrixView d, MatrixView U) {
  const ScratchFrame frame(backend);
  const auto vector = [&](Index rows) { return backend.scratch(rows, 1, X.batch, DType::f64); };
  const MatrixView V = backend.scratch(X.rows, X.cols, X.batch, X.dtype, layout_of(X));
  const MatrixView h = vector(X.rows), best_h = vector(X.rows), best_d = vector(X.rows), s = vector(1),
                   best_s = vector(1), before = vector(1);
  const PolarSchedule rough = schedule == kExact ? kPolarExpress6 : schedule;
  for (int k = 1; k <= evaluations; ++k) {
    const bool first = k == 1, last = k == evaluations;
    scaled_polar(backend, X, d, last ? schedule : rough, first ? U : V, h);
    backend.spread(h, d, s);
    if (first) {
      backend.axpby(1.0, s, 0.0, best_s);
      backend.axpby(1.0, h, 0.0, best_h);
      backend.axpby(1.0, d, 0.0, best_d);
    } else {
      backend.axpby(1.0, best_s, 0.0, before);
      backend.select_less(s, before, V, U);
      backend.select_less(s, before, h, best_h);
      backend.select_less(s, before, d, best_d);
      backend.select_less(s, before, s, best_s);
    }
    if (last) return;
    backend.axpby(1.0, best_d, 0.0, d);
    if (first) {
      backend.odds_step(best_h, d);
      continue;
    }
    backend.axpby(1.0, best_d, 0.0, h);  // the scales after an odds step, in h's place
    backend.tyler_step(best_h, d);
    backend.odds_step(best_h, h);
    backend.select_less(s, before, h, d);
  }
}

}  // namespace aurora
