#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "../formulas.hpp"
#include "../operands.hpp"
#include "aurora/torch/backend.hpp"
#include "numbers.hpp"

namespace aurora {
namespace {

using at::Tensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return at::kDouble;
    case DType::bf16:
      return at::kBFloat16;
    case DType::f16:
      return at::kHalf;
    case DType::f32:
      break;
  }
  return at::kFloat;
}

/// Blocks of torch's allocator, which keeps what is given back.
class TensorMemory final : public ScratchMemory {
 public:
  explicit TensorMemory(at::Device device) : device_(device) {}
  void* take(Index bytes) override {
    live_.push_back(at::empty({bytes}, at::TensorOptions(device_).dtype(at::kByte)));
    return live_.back().mutable_data_ptr();
  }
  Index mark() override { return static_cast<Index>(live_.size()); }
  void release(Index mark) noexcept override { live_.resize(static_cast<std::size_t>(mark)); }
  Index bytes() const override {
    Index sum = 0;
    for (const auto& block : live_) sum += static_cast<Index>(block.nbytes());
    return sum;
  }

 private:
  at::Device device_;
  std::vector<Tensor> live_;
};

/// formula(arguments) as a list of tensors.
template <class F, std::size_t... I>
std::vector<Tensor> results_of(const F& formula, const std::vector<Tensor>& arguments,
                               std::index_sequence<I...>) {
  const auto numbers = formula(tensors::Numbers(arguments[I])...);
  std::vector<Tensor> results = {numbers.first.tensor()};
  if constexpr (requires { numbers.second; }) results.push_back(numbers.second.tensor());
  if constexpr (requires { numbers.third; }) results.push_back(numbers.third.tensor());
  if constexpr (F::kSums) {
    for (Tensor& result : results) result = result.to(at::kDouble).sum(2, true);
  }
  return results;
}

class AtenBackend final : public Backend {
 public:
  explicit AtenBackend(at::Device device) : device_(device), memory_(device) {}

  std::string description() const override { return "aten: " + device_.str(); }
  Device device() const override { return device_.is_cpu() ? Device::cpu : Device::accelerator; }
  ScratchMemory& memory() override { return memory_; }

  void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y) override {
    require_same_shape("axpby", x, y);
    const Tensor from = tensor(x);
    Tensor to = tensor(y);
    if (beta == 0 && x.dtype == y.dtype && x.data != y.data) {
      at::mul_out(to, from, at::scalar_tensor(alpha, from.options()));
    } else if (!is_wide(y.dtype) || x.data == y.data) {  // one rounding; no reading after writing
      const auto type = x.dtype == DType::f64 ? at::kDouble : at::kFloat;
      Tensor sum = from.to(type) * alpha;
      if (beta != 0) sum.add_(to.to(type), beta);
      to.copy_(sum);
    } else if (beta == 0) {
      to.copy_(from);
      if (alpha != 1) to.mul_(alpha);
    } else {
      if (beta != 1) to.mul_(beta);
      if (alpha != 0) to.add_(from.to(to.scalar_type()), alpha);
    }
  }

  void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y) override {
    require_same_shape("scale_rows", x, y);
    require_vector("scale_rows", x, d);
    const Tensor scales = tensor(d).to(x.dtype == DType::f64 ? at::kDouble : at::kFloat);
    tensor(y).copy_(at::where(scales == 0, 0.0, tensor(x) * scales));
  }

  void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d) override {
    require_same_shape("row_dots", x, y);
    require_vector("row_dots", x, d);
    tensor(d).copy_((tensor(x).to(at::kDouble) * tensor(y).to(at::kDouble)).sum(2, true));
  }

  void fill(double value, MatrixView y) override { tensor(y).fill_(value); }

  void normalize(ConstMatrixView x, MatrixView y) override {
    require_same_shape("normalize", x, y);
    // A power of two in two factors, each in range: the quotients are exact and the sum of squares is tame.
    const Tensor from = tensor(x).to(x.dtype == DType::f64 ? at::kDouble : at::kFloat);
    const Tensor exponent =
        std::get<1>(at::frexp(at::linalg_vector_norm(from, kInfinity, at::IntArrayRef{1, 2}, true)));
    const Tensor half = exponent.div(2, "trunc"), one = at::ones_like(half, from.options());
    const Tensor tame = from * at::ldexp(one, -half) * at::ldexp(one, half - exponent);
    // In double on the CPU; a device would copy the matrix for that, and sums in trees are as good.
    const Tensor norm = at::linalg_vector_norm(tame, 2, at::IntArrayRef{1, 2}, true,
                                               device_.is_cpu() ? at::kDouble : from.scalar_type());
    tensor(y).copy_(at::where(norm == 0, 0.0, tame / norm));
  }

  void multiply(double alpha, ConstMatrixView a, ConstMatrixView b, double beta, MatrixView c) override {
    require(a.cols == b.rows && a.batch == b.batch, "multiply", "Inner sizes differ: ", a, b);
    require(c.rows == a.rows && c.cols == b.cols && c.batch == a.batch, "multiply",
            "Result shape differs: ", a, c);
    require(a.dtype == b.dtype && a.dtype == c.dtype && a.dtype != DType::bf16, "multiply",
            "Types differ: ", a, c);
    Tensor result = tensor(c);
    at::baddbmm_out(result, result, tensor(a), tensor(b), beta, alpha);
  }

  void gram(ConstMatrixView x, MatrixView s) override {
    require(s.rows == x.cols && s.cols == x.cols && s.batch == x.batch, "gram", "Shapes do not fit: ", x, s);
    require(s.dtype == x.dtype && s.dtype != DType::bf16, "gram", "Types differ: ", x, s);
    const Tensor from = tensor(x), product = at::bmm(from.mT(), from);
    tensor(s).copy_(!device_.is_cpu() ? product : product.triu().add_(product.triu(1).mT()));
  }

  double cholesky(MatrixView s) override {
    require(s.rows == s.cols && s.batch == 1 && is_wide(s.dtype), "cholesky",
            "One square matrix is needed: ", s, s);
    require_column_major("cholesky", s);
    Tensor matrix = tensor(s);
    const auto [upper, info] = at::linalg_cholesky_ex(matrix, /*upper=*/true);
    if (info.item<int>() != 0) return 0;
    matrix.copy_(upper);
    const Tensor diagonal = upper.diagonal(0, 1, 2);
    return (diagonal.min() / diagonal.max()).item<double>();
  }

  void divide_by_upper(ConstMatrixView r, MatrixView x) override {
    const bool upper = r.row_stride == 1;
    require_triangular("divide_by_upper", upper ? r : transposed(r), x);
    Tensor to = tensor(x);
    to.copy_(at::linalg_solve_triangular(tensor(r), to, upper, /*left=*/false));
  }
  void multiply_by_upper(ConstMatrixView r, MatrixView x) override {
    require_triangular("multiply_by_upper", r, x);
    Tensor to = tensor(x);
    to.copy_(at::bmm(to, tensor(r).triu()));
  }
  void upper_row_gram(ConstMatrixView r, MatrixView s) override {
    require_triangular("upper_row_gram", r, s);
    require_column_major("upper_row_gram", s);
    const Tensor upper = tensor(r).triu(), product = at::bmm(upper, upper.mT());
    tensor(s).copy_(!device_.is_cpu() ? product : product.triu().add_(product.triu(1).mT()));
  }

  void symmetric_eigen(MatrixView s, MatrixView w) override {
    require_vector("symmetric_eigen", s, w);
    require(s.rows == s.cols && s.dtype == w.dtype, "symmetric_eigen", "A square matrix is needed: ", s, w);
    require_column_major("symmetric_eigen", s);
    Tensor matrix = tensor(s);
    const auto [values, vectors] = at::linalg_eigh(matrix);
    matrix.copy_(vectors);
    tensor(w).copy_(values.unsqueeze(2));
  }

  void svd(MatrixView x, MatrixView u, MatrixView s, MatrixView v) override {
    const Index n = x.cols;
    require(x.rows >= n && same_shape(x, u), "svd", "A tall matrix and its like are needed: ", x, u);
    require(v.rows == n && v.cols == n && layout_of(v) == Layout::row_major, "svd", "V is n x n by rows: ", x,
            v);
    require(s.rows == n && s.cols == 1 && s.dtype == x.dtype, "svd", "One number per column is needed: ", x,
            s);
    const auto [left, values, right] = at::linalg_svd(tensor(x), /*full_matrices=*/false);
    tensor(u).copy_(left);
    tensor(s).copy_(values.unsqueeze(2));
    tensor(v).copy_(right.mT());
  }

  using Backend::apply;
  void apply(const Formula& formula, std::span<const Operand> inputs, std::span<const Result> outputs,
             const Gate& gate) override {
    if (!gate.open) return;
    const auto is_double = [](const auto& operand) { return operand.at(0).dtype == DType::f64; };
    const auto type = std::ranges::any_of(inputs, is_double) || std::ranges::any_of(outputs, is_double)
                          ? at::kDouble
                          : at::kFloat;
    std::vector<Tensor> arguments;
    for (const auto& input : inputs) arguments.push_back(all_of(input).to(type));
    const std::vector<Tensor> results = std::visit(
        [&]<class F>(const F& one) {
          if (arguments.size() != formulas::arity<F>()) {
            fail("apply", "The formula takes another number of arguments: ", formulas::arity<F>(), ", not ",
                 arguments.size());
          }
          return results_of(one, arguments, std::make_index_sequence<formulas::arity<F>()>{});
        },
        formula.of);
    if (results.size() != outputs.size()) {
      fail("apply", "The formula has another number of results: ", results.size(), ", not ", outputs.size());
    }
    for (std::size_t o = 0; o < outputs.size(); ++o) write(results[o], gate, outputs[o]);
  }

  void all_finite(std::span<const ConstMatrixView> matrices, DType as, MatrixView flag) override {
    if (matrices.empty()) return;
    std::vector<Tensor> list;
    for (const auto& matrix : matrices) list.push_back(tensor(matrix));
    const double most =
        as == DType::f64 ? std::numeric_limits<double>::max() : double{std::numeric_limits<float>::max()};
    std::vector<Tensor> largest;
    for (const Tensor& norm : at::_foreach_norm(list, kInfinity)) largest.push_back(norm.to(at::kDouble));
    tensor(flag).mul_(at::le(at::stack(largest), most).all());  // false for NaN
  }
  void download(ConstMatrixView x, std::span<double> values) override {
    if (static_cast<Index>(values.size()) != x.rows * x.cols * x.batch) {
      fail("download", "Sizes differ: ", shape_text(x), " vs ", values.size());
    }
    const Tensor host = tensor(x).to(at::kDouble).cpu().contiguous();
    std::copy_n(host.const_data_ptr<double>(), values.size(), values.data());
  }

 protected:
  void run_parts(std::span<const Index> sizes, void* work, PartFunction function) override {
    for (std::size_t group = 0; group < sizes.size(); ++group) {
      if (sizes[group] > 0) function(work, *this, group, 0, sizes[group]);
    }
  }

 private:
  /// The view as a tensor [batch, rows, cols] of the same memory.
  Tensor tensor(const ConstMatrixView& view) const {
    return at::for_blob(const_cast<void*>(view.data), {view.batch, view.rows, view.cols})
        .strides({view.batch_stride, view.row_stride, view.col_stride})
        .options(at::TensorOptions(device_).dtype(scalar_type(view.dtype)))
        .target_device(device_)
        .make_tensor();
  }

  /// All matrices of an operand or result, [count, rows, cols]; a copy where they are many and scattered.
  template <class Views>
  Tensor all_of(const Views& views) const {
    if (views.is_list() && views.size() > 1) return at::stack(each_of(views));
    return tensor(views.is_list() ? views.at(0) : views.batch());
  }
  template <class Views>
  std::vector<Tensor> each_of(const Views& views) const {
    std::vector<Tensor> matrices;
    for (Index b = 0; b < views.size(); ++b) matrices.push_back(tensor(views.at(b)).squeeze(0));
    return matrices;
  }

  /// Writes a result where the gate is open; rounded once.
  void write(Tensor values, const Gate& gate, const Result& result) const {
    if (gate.flag.data != nullptr) {
      values = at::where(tensor(gate.flag) != 0, values, all_of(result).to(values.scalar_type()));
    }
    if (result.is_list()) {
      at::_foreach_copy_(each_of(result), values.unbind());
    } else {
      tensor(result.batch()).copy_(values);
    }
  }

  at::Device device_;
  TensorMemory memory_;
};

}  // namespace

std::unique_ptr<Backend> make_aten_backend(c10::Device device) {
  if (device.is_meta()) fail("make_aten_backend", "Tensors have no values on the device ", device);
  try {
    // cuda becomes cuda:0
    return std::make_unique<AtenBackend>(
        at::empty({1}, at::TensorOptions(device).dtype(at::kDouble)).device());
  } catch (const c10::Error& error) {
    fail("make_aten_backend", "This torch cannot use the device ", device, ": ",
         error.what_without_backtrace());
  }
}

}  // namespace aurora
