#include "../formulas.hpp"
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
    odds_step(backend_, h, d);
  }

  /// d <- Tyler's step from where the rejected step began.
  void retreat(MatrixView d) {
    backend_.axpby(1.0, d_, 0.0, d);
    tyler_step(backend_, h_, d);
    after_odds_ = false;
  }

 private:
  Backend& backend_;
  MatrixView d_, h_;
  double spread_ = 0;
  bool after_odds_ = false;
};

}  // namespace

void odds_balance(Backend& backend, ConstMatrixView X, int evaluations, const BalanceOptions& options,
                  MatrixView d, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView h = backend.scratch(X.rows, 1, 1, DType::f64);
  ScaledFactors factors{backend.scratch(X.rows, X.cols, 1, X.dtype, layout_of(X)),
                        backend.scratch(X.cols, X.cols, 1, X.dtype, Layout::column_major),
                        backend.scratch(X.rows, 1, 1, DType::f64)};
  const MatrixView s = backend.scratch(1, 1, 1, DType::f64);
  const auto spread = [&] {
    aurora::spread(backend, h, d, s);
    return number_in(backend, s);
  };
  Safeguard safeguard(backend, X.rows);
  for (int k = 1; k < evaluations; ++k) {
    scaled_leverage(backend, X, d, factors, h);
    const double now = spread();
    safeguard.rejects(now) ? safeguard.retreat(d) : safeguard.step(h, now, d);
  }
  scaled_polar(backend, X, d, options, factors, U, h);
  if (safeguard.rejects(spread())) {
    safeguard.retreat(d);
    scaled_polar(backend, X, d, options, factors, U, h);
  }
}

void odds_balance_by_selection(Backend& backend, ConstMatrixView X, int evaluations,
                               const BalanceOptions& options, MatrixView d, MatrixView U) {
  const ScratchFrame frame(backend);
  const MatrixView V = backend.scratch(X.rows, X.cols, X.batch, X.dtype, layout_of(X));
  const MatrixView h = vector(backend, X.rows, X.batch), s = vector(backend, 1, X.batch);
  const MatrixView best_h = vector(backend, X.rows, X.batch), best_d = vector(backend, X.rows, X.batch),
                   best_s = vector(backend, 1, X.batch), odds = vector(backend, X.rows, X.batch);
  const auto take_where_better = [&](ConstMatrixView x, MatrixView y) {
    backend.apply(formulas::SelectLess{}, {s, best_s, x, y}, {y});
  };
  BalanceOptions rough = options;
  if (options.polar == Polar::automatic) rough.polar = Polar::polar_express_6;

  scaled_polar(backend, X, d, evaluations == 1 ? options : rough, U, best_h);
  spread(backend, best_h, d, best_s);
  copy(backend, d, best_d);
  odds_step(backend, best_h, d);
  for (int k = 2; k <= evaluations; ++k) {
    const bool last = k == evaluations;
    scaled_polar(backend, X, d, last ? options : rough, V, h);
    spread(backend, h, d, s);
    take_where_better(V, U);
    if (last) return;
    take_where_better(h, best_h);
    take_where_better(d, best_d);
    // The next step begins where the rows were most even: odds after a success, else Tyler's.
    copy(backend, best_d, d);
    copy(backend, best_d, odds);
    tyler_step(backend, best_h, d);
    odds_step(backend, best_h, odds);
    take_where_better(odds, d);
    take_where_better(s, best_s);
  }
}

}  // namespace aurora
