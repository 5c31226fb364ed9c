#include "../formulas.hpp"

#include <array>
#include <utility>

#include "../error.hpp"
#include "elements.hpp"
#include "elementwise.hpp"

// A formula runs over blocks of lines. What does not lie in memory as the loop wants it, one number of the
// arithmetic's type after another, goes through a block of such numbers that stays in the first cache.
namespace aurora::cpu {
namespace {

constexpr Index kBlock = 512;

/// One number of type T after another.
template <class T>
struct alignas(64) Block {
  T values[kBlock];
};

/// How one operand of a matrix is walked: lines, and steps along them; 0 where it is the same everywhere.
template <class View>
struct Lines {
  View view;
  Index line_stride, step;
};

template <class View>
Lines<View> lines_of(View view, bool by_columns) {
  if (by_columns) view = transposed(view);
  return {view, view.rows == 1 ? 0 : view.row_stride, view.cols == 1 ? 0 : view.col_stride};
}

/// `count` numbers of the line from `begin` on: where they lie, or copied into `block`.
template <class T>
const T* read(const Lines<ConstMatrixView>& lines, Index line, Index begin, Index count, Block<T>& block) {
  const Index offset = line * lines.line_stride + begin * lines.step;
  if (lines.view.dtype == dtype_of<T>() && lines.step == 1) return element<T>(lines.view, offset);
  visit_dtype(lines.view.dtype, [&]<class X>(X) {
    const X* x = element<X>(lines.view, offset);
    if (lines.step == 0) {
      std::fill_n(block.values, count, static_cast<T>(*x));
    } else {
      const auto copy = [&](auto step) __attribute__((always_inline)) {
        for (Index j = 0; j < count; ++j) block.values[j] = static_cast<T>(x[j * step]);
      };
      run_stepping(copy, lines.step);
    }
  });
  return block.values;
}

/// Where the results for `count` numbers of the line go: their own place, or `block`, to be written back.
template <class T>
T* place(const Lines<MatrixView>& lines, Index line, Index begin, Block<T>& block) {
  if (lines.view.dtype != dtype_of<T>() || lines.step != 1) return block.values;
  return element<T>(lines.view, line * lines.line_stride + begin * lines.step);
}

template <class T>
void write_back(const T* from, const Lines<MatrixView>& lines, Index line, Index begin, Index count) {
  if (lines.view.dtype == dtype_of<T>() && lines.step == 1) return;  // already there
  visit_dtype(lines.view.dtype, [&]<class X>(X) {
    X* x = element<X>(lines.view, line * lines.line_stride + begin * lines.step);
    const auto copy = [&](auto step) __attribute__((always_inline)) {
      for (Index j = 0; j < count; ++j) x[j * step] = rounded<X>(from[j]);
    };
    run_stepping(copy, lines.step);
  });
}

/// out[o][j] = formula(in[0][j], in[1][j], ...)[o]. Pointers are parameters and local, or g++ reads them anew
/// for every element and makes no vectors.
template <class F, class T, std::size_t M, class... In>
AURORA_INLINE void run_loop(const F formula, const std::array<T*, M>& out, Index count, const In*... in) {
  static_assert(M <= 3);
  T* const first = out[0];
  T* const second = out[M > 1 ? 1 : 0];
  T* const third = out[M > 2 ? 2 : 0];
#pragma omp simd
  for (Index j = 0; j < count; ++j) {
    const auto results = formula(in[j]...);
    first[j] = results.first;
    if constexpr (M > 1) second[j] = results.second;
    if constexpr (M > 2) third[j] = results.third;
  }
}

/// Sums of the results over a block, in double.
template <std::size_t M, class F, class... In>
AURORA_INLINE std::array<double, 3> sum_loop(const F formula, Index count, const In*... in) {
  double first = 0, second = 0, third = 0;
#pragma omp simd reduction(+ : first, second, third)
  for (Index j = 0; j < count; ++j) {
    const auto results = formula(in[j]...);
    first += static_cast<double>(results.first);
    if constexpr (M > 1) second += static_cast<double>(results.second);
    if constexpr (M > 2) third += static_cast<double>(results.third);
  }
  return {first, second, third};
}

/// A formula on one matrix whose lines are `count` of `length` numbers.
template <class F, class T, std::size_t N, std::size_t M>
class OneMatrix {
 public:
  OneMatrix(const F& formula, const std::array<ConstMatrixView, N>& inputs,
            const std::array<MatrixView, M>& outputs, bool by_columns, Index lines, Index length)
      : formula_(formula), lines_(lines), length_(length) {
    for (std::size_t i = 0; i < N; ++i) in_[i] = lines_of(inputs[i], by_columns);
    for (std::size_t o = 0; o < M; ++o) out_[o] = lines_of(outputs[o], by_columns);
  }

  void write_all() {
    for (Index line = 0; line < lines_; ++line) {
      for (Index begin = 0; begin < length_; begin += kBlock) {
        const Index count = std::min(kBlock, length_ - begin);
        std::array<T*, M> to;
        for (std::size_t o = 0; o < M; ++o) to[o] = place(out_[o], line, begin, result_blocks_[o]);
        compute(line, begin, count, to);
        for (std::size_t o = 0; o < M; ++o) write_back(to[o], out_[o], line, begin, count);
      }
    }
  }

  /// Sums along the lines, one per line.
  void sum_along_lines() {
    for (Index line = 0; line < lines_; ++line) {
      std::array<double, 3> sums{};
      for (Index begin = 0; begin < length_; begin += kBlock) {
        const Index count = std::min(kBlock, length_ - begin);
        std::array<double, 3> of_block{};
        with_arguments(
            line, begin, count, [&](const auto*... in) __attribute__((always_inline)) {
              of_block = sum_loop<M>(formula_, count, in...);
            });
        for (std::size_t o = 0; o < M; ++o) sums[o] += of_block[o];
      }
      for (std::size_t o = 0; o < M; ++o) set_value(out_[o].view, 0, line, sums[o]);
    }
  }

  /// Sums over the lines, one per place of a line.
  void sum_over_lines() {
    std::array<Block<double>, M> sums;
    for (Index begin = 0; begin < length_; begin += kBlock) {
      const Index count = std::min(kBlock, length_ - begin);
      for (auto& block : sums) std::fill_n(block.values, count, 0.0);
      for (Index line = 0; line < lines_; ++line) {
        compute(line, begin, count, blocks());
        for (std::size_t o = 0; o < M; ++o) {
          double* sum = sums[o].values;
          const T* values = result_blocks_[o].values;
          run_wide([&]() __attribute__((always_inline)) {
#pragma omp simd
            for (Index j = 0; j < count; ++j) sum[j] += static_cast<double>(values[j]);
          });
        }
      }
      for (std::size_t o = 0; o < M; ++o) {  // the results are one line
        for (Index j = 0; j < count; ++j)
          set_value(transposed(out_[o].view), 0, begin + j, sums[o].values[j]);
      }
    }
  }

 private:
  std::array<T*, M> blocks() {
    std::array<T*, M> pointers;
    for (std::size_t o = 0; o < M; ++o) pointers[o] = result_blocks_[o].values;
    return pointers;
  }

  void compute(Index line, Index begin, Index count, const std::array<T*, M>& to) {
    with_arguments(
        line, begin, count, [&](const auto*... in) __attribute__((always_inline)) {
          run_loop(formula_, to, count, in...);
        });
  }

  /// loop(arguments...) for a block of a line, in vectors as wide as the CPU's.
  template <class Loop>
  void with_arguments(Index line, Index begin, Index count, const Loop& loop) {
    std::array<const T*, N> from;
    for (std::size_t i = 0; i < N; ++i) from[i] = read(in_[i], line, begin, count, argument_blocks_[i]);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      run_wide([&]() __attribute__((always_inline)) { loop(from[I]...); });
    }
    (std::make_index_sequence<N>{});
  }

  const F& formula_;
  Index lines_, length_;
  std::array<Lines<ConstMatrixView>, N> in_;
  std::array<Lines<MatrixView>, M> out_;
  std::array<Block<T>, N> argument_blocks_;
  std::array<Block<T>, M> result_blocks_;
};

template <class F>
constexpr std::size_t kInputs = formulas::arity<F>();
template <class F>
constexpr std::size_t kOutputs = []<std::size_t... I>(std::index_sequence<I...>) {
  return decltype(std::declval<F>()((static_cast<void>(I), 0.0)...))::kSize;
}
(std::make_index_sequence<kInputs<F>>{});

/// Matrix b of the operands.
template <class F>
void run(const F& formula, std::span<const Operand> inputs, std::span<const Result> outputs, Index b) {
  std::array<ConstMatrixView, kInputs<F>> in;
  std::array<MatrixView, kOutputs<F>> out;
  Index rows = 1, cols = 1;
  bool wide = false;
  const auto meet = [&](const ConstMatrixView& view) {
    rows = std::max(rows, view.rows), cols = std::max(cols, view.cols);
    wide = wide || view.dtype == DType::f64;
  };
  for (std::size_t i = 0; i < in.size(); ++i) meet(in[i] = inputs[i].at(b));
  for (std::size_t o = 0; o < out.size(); ++o) meet(out[o] = outputs[o].at(b));
  for (const auto& view : in) {
    if ((view.rows != rows && view.rows != 1) || (view.cols != cols && view.cols != 1)) {
      fail("apply", "Shapes differ: ", shape_text(view), " in ", rows, "x", cols);
    }
  }
  for (const auto& view : out) {
    if (view.rows != rows || view.cols != (F::kSums ? 1 : cols)) {
      fail("apply", "Shapes differ: a result ", shape_text(view), " of ", rows, "x", cols);
    }
  }
  // Lines run along what lies side by side in the first whole operand, in a vector along its length.
  bool by_columns = cols == 1;
  if (rows > 1 && cols > 1) {
    const auto whole =
        std::ranges::find_if(in, [&](const auto& view) { return view.rows == rows && view.cols == cols; });
    by_columns = whole != in.end() && !rows_are_lines(*whole);
  }
  const auto with_type = [&]<class T>(T) {
    OneMatrix<F, T, kInputs<F>, kOutputs<F>> matrix(formula, in, out, by_columns, by_columns ? cols : rows,
                                                    by_columns ? rows : cols);
    if constexpr (F::kSums) {
      by_columns ? matrix.sum_over_lines() : matrix.sum_along_lines();
    } else {
      matrix.write_all();
    }
  };
  wide ? with_type(double{}) : with_type(float{});
}

}  // namespace

void apply(const Formula& formula, std::span<const Operand> inputs, std::span<const Result> outputs) {
  Index batch = 1;
  for (const auto& operand : inputs) batch = std::max(batch, operand.size());
  std::visit(
      [&]<class F>(const F& one) {
        if (inputs.size() != kInputs<F> || outputs.size() != kOutputs<F>) {
          fail("apply", "The formula takes other numbers of arguments and results: ", kInputs<F>, " and ",
               kOutputs<F>, ", not ", inputs.size(), " and ", outputs.size());
        }
        for (Index b = 0; b < batch; ++b) run(one, inputs, outputs, b);
      },
      formula.of);
}

}  // namespace aurora::cpu
