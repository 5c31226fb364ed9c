#include "stage_clock.hpp"

#include <chrono>

namespace aurora::cli {

namespace {

/// Adds the time until it ends.
class Interval {
 public:
  explicit Interval(StageTime& time) : time_(time) { ++time_.calls; }
  Interval(const Interval&) = delete;
  Interval& operator=(const Interval&) = delete;
  ~Interval() {
    time_.milliseconds +=
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  StageTime& time_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// rows * cols * depth of all matrices of a batch.
double volume(const ConstMatrixView& x, Index depth) {
  return static_cast<double>(x.rows) * static_cast<double>(x.cols) * static_cast<double>(depth) *
         static_cast<double>(x.batch);
}

}  // namespace

template <class Call>
auto StageClock::timed(Stage stage, double flops, Call&& call) {
  StageTime& time = times_[static_cast<std::size_t>(stage)];
  time.flops += flops;
  const Interval interval(time);
  return call();
}

void StageClock::axpby(double alpha, ConstMatrixView x, double beta, MatrixView y) {
  timed(Stage::elementwise, 0, [&] { inner_.axpby(alpha, x, beta, y); });
}
void StageClock::scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y) {
  timed(Stage::elementwise, 0, [&] { inner_.scale_rows(d, x, y); });
}
void StageClock::row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d) {
  timed(Stage::elementwise, 0, [&] { inner_.row_dots(x, y, d); });
}
void StageClock::apply(const Formula& formula, std::span<const Operand> inputs,
                       std::span<const Result> outputs, const Gate& gate) {
  timed(Stage::elementwise, 0, [&] { inner_.apply(formula, inputs, outputs, gate); });
}
void StageClock::fill(double value, MatrixView y) {
  timed(Stage::elementwise, 0, [&] { inner_.fill(value, y); });
}
void StageClock::normalize(ConstMatrixView x, MatrixView y) {
  timed(Stage::elementwise, 0, [&] { inner_.normalize(x, y); });
}
void StageClock::multiply(double alpha, ConstMatrixView a, ConstMatrixView b, double beta, MatrixView c) {
  timed(Stage::product, 2 * volume(c, a.cols), [&] { inner_.multiply(alpha, a, b, beta, c); });
}
void StageClock::gram(ConstMatrixView x, MatrixView s) {
  timed(Stage::gram, volume(x, x.cols), [&] { inner_.gram(x, s); });
}
double StageClock::cholesky(MatrixView s) {
  return timed(Stage::cholesky, volume(s, s.rows) / 3, [&] { return inner_.cholesky(s); });
}
void StageClock::divide_by_upper(ConstMatrixView r, MatrixView x) {
  timed(Stage::triangular, volume(x, x.cols), [&] { inner_.divide_by_upper(r, x); });
}
void StageClock::multiply_by_upper(ConstMatrixView r, MatrixView x) {
  timed(Stage::triangular, volume(x, x.cols), [&] { inner_.multiply_by_upper(r, x); });
}
void StageClock::upper_row_gram(ConstMatrixView r, MatrixView s) {
  timed(Stage::gram, volume(s, s.rows) / 3, [&] { inner_.upper_row_gram(r, s); });
}
void StageClock::symmetric_eigen(MatrixView s, MatrixView w) {
  if (s.dtype == DType::f64) widest_ = DType::f64;
  timed(Stage::eigen, 9 * volume(s, s.rows), [&] { inner_.symmetric_eigen(s, w); });
}
void StageClock::svd(MatrixView x, MatrixView u, MatrixView s, MatrixView v) {
  if (s.dtype == DType::f64) widest_ = DType::f64;
  timed(Stage::svd, 6 * volume(x, x.cols) + 20 * volume(v, v.rows), [&] { inner_.svd(x, u, s, v); });
}
void StageClock::all_finite(std::span<const ConstMatrixView> matrices, DType as, MatrixView flag) {
  timed(Stage::elementwise, 0, [&] { inner_.all_finite(matrices, as, flag); });
}
void StageClock::download(ConstMatrixView x, std::span<double> values) {
  timed(Stage::elementwise, 0, [&] { inner_.download(x, values); });
}

}  // namespace aurora::cli
