#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "aurora/backend.hpp"

namespace aurora::cli {

/// Where the time of a step goes.
enum class Stage : std::uint8_t { product, gram, cholesky, triangular, eigen, svd, elementwise };
inline constexpr std::array<std::string_view, 7> kStageNames = {"product", "gram", "cholesky",   "triangular",
                                                                "eigen",   "svd",  "elementwise"};

struct StageTime {
  double milliseconds = 0;
  double flops = 0;  // a multiply-add is 2; symmetric products count half, an eigen-decomposition 9 n^3
  int calls = 0;
};

/// A backend that gives every primitive to another one and keeps time and FLOPs by stage. One matrix after
/// another, on this thread.
class StageClock final : public Backend {
 public:
  explicit StageClock(Backend& inner) : inner_(inner) {}
  const StageTime& of(Stage stage) const { return times_[static_cast<std::size_t>(stage)]; }
  void reset() { times_ = {}, widest_ = DType::f32; }
  /// float64 where an eigen-decomposition or an SVD was.
  DType widest() const { return widest_; }

  std::string description() const override { return inner_.description(); }
  void set_threads(int threads) override { inner_.set_threads(threads); }
  int threads() const override { return inner_.threads(); }
  MatrixView scratch(Index rows, Index cols, Index batch, DType dtype, Layout layout) override {
    return inner_.scratch(rows, cols, batch, dtype, layout);
  }
  Index scratch_bytes() const override { return inner_.scratch_bytes(); }
  void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y) override;
  void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y) override;
  void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d) override;
  void power_scales(ConstMatrixView h, double target, double exponent, double cut, MatrixView d) override;
  void odds_step(ConstMatrixView h, MatrixView d) override;
  void tyler_step(ConstMatrixView h, MatrixView d) override;
  void spread(ConstMatrixView h, ConstMatrixView d, MatrixView s) override;
  void select_less(ConstMatrixView a, ConstMatrixView b, ConstMatrixView x, MatrixView y) override;
  void adopt_scales(ConstMatrixView e, MatrixView d) override;
  void resolvent_sums(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView p,
                      MatrixView q) override;
  void resolvent(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView w) override;
  void resolvent_newton(ConstMatrixView p, ConstMatrixView q, double target, double floor,
                        MatrixView x) override;
  void fill(double value, MatrixView y) override;
  void normalize(ConstMatrixView x, MatrixView y) override;
  void multiply(double alpha, ConstMatrixView a, ConstMatrixView b, double beta, MatrixView c) override;
  void gram(ConstMatrixView x, MatrixView s) override;
  double cholesky(MatrixView s) override;
  void divide_by_upper(ConstMatrixView r, MatrixView x) override;
  void multiply_by_upper(ConstMatrixView r, MatrixView x) override;
  void upper_row_gram(ConstMatrixView r, MatrixView s) override;
  void symmetric_eigen(MatrixView s, MatrixView w) override;
  void svd(MatrixView x, MatrixView u, MatrixView s, MatrixView v) override;
  void adam(const AdamScalars& scalars, ConstMatrixView gradient, MatrixView exp_avg, MatrixView exp_avg_sq,
            MatrixView weight) override;
  bool all_finite(ConstMatrixView x) override;
  void download(ConstMatrixView x, std::span<double> values) override;
  double largest(ConstMatrixView x) override;
  double smallest(ConstMatrixView x) override;

 protected:
  void run_parts(Index count, void* work, PartFunction function) override {
    for (Index i = 0; i < count; ++i) function(work, *this, i, i + 1);
  }
  Index scratch_mark() override {
    frames_.push_back(std::make_unique<ScratchFrame>(inner_));
    return static_cast<Index>(frames_.size()) - 1;
  }
  void scratch_release(Index mark) override {
    while (static_cast<Index>(frames_.size()) > mark) frames_.pop_back();
  }

 private:
  template <class Call>
  auto timed(Stage stage, double flops, Call&& call);

  Backend& inner_;
  std::vector<std::unique_ptr<ScratchFrame>> frames_;
  std::array<StageTime, kStageNames.size()> times_ = {};
  DType widest_ = DType::f32;
};

}  // namespace aurora::cli
