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
  Device device() const override { return inner_.device(); }
  ScratchMemory& memory() override { return inner_.memory(); }
  void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y) override;
  void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y) override;
  void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d) override;
  using Backend::apply;
  void apply(const Formula& formula, std::span<const Operand> inputs, std::span<const Result> outputs,
             const Gate& gate) override;
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
  void all_finite(std::span<const ConstMatrixView> matrices, DType as, MatrixView flag) override;
  void download(ConstMatrixView x, std::span<double> values) override;

 protected:
  void run_parts(std::span<const Index> sizes, void* work, PartFunction function) override {
    for (std::size_t group = 0; group < sizes.size(); ++group) {
      for (Index i = 0; i < sizes[group]; ++i) function(work, *this, group, i, i + 1);
    }
  }

 private:
  template <class Call>
  auto timed(Stage stage, double flops, Call&& call);

  Backend& inner_;
  std::array<StageTime, kStageNames.size()> times_ = {};
  DType widest_ = DType::f32;
};

}  // namespace aurora::cli
