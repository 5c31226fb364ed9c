#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "../operands.hpp"
#include "aurora/torch/backend.hpp"

namespace aurora {
namespace {

using at::Tensor;

constexpr double kAlone = 1 - 1e-6;  // leverage of a row alone on its direction
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLeastOdds = 1e-2;  // of an odds step; see Backend::odds_step

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

/// The largest element of each matrix, [batch, 1, 1].
Tensor largest_of(const Tensor& x) { return x.amax({1, 2}, /*keepdim=*/true); }

/// Rows that take part in balancing.
Tensor part_of(const Tensor& h, const Tensor& d) {
  return at::logical_and(at::logical_and(d > 0, h > 0), h < kAlone);
}

/// Mean over the rows of `part`, [batch, 1, 1]; NaN where there are none.
Tensor mean_over(const Tensor& part, const Tensor& x) {
  return at::where(part, x, 0.0).sum(1, true) / part.sum(1, true);
}

class BackendOnTensors final : public AtenBackend {
 public:
  BackendOnTensors(at::Device device, bool asynchronous)
      : device_(at::empty({1}, at::TensorOptions(device).dtype(at::kDouble)).device()),
        asynchronous_(asynchronous) {}

  std::string description() const override { return "aten: " + device_.str(); }
  bool asynchronous() const override { return asynchronous_; }
  DType product_type() const override { return asynchronous_ ? DType::f16 : DType::f32; }
  void set_threads(int threads) override {
    if (threads < 1) fail("AtenBackend::set_threads", "At least one thread is needed: ", threads);
    threads_ = threads;
  }
  int threads() const override { return threads_; }

  MatrixView scratch(Index rows, Index cols, Index batch, DType dtype, Layout layout) override {
    live_.push_back(at::empty({batch, rows, cols}, at::TensorOptions(device_).dtype(scalar_type(dtype))));
    const bool by_rows = layout == Layout::row_major;
    return {live_.back().mutable_data_ptr(),
            rows,
            cols,
            by_rows ? cols : 1,
            by_rows ? 1 : rows,
            batch,
            rows * cols,
            dtype};
  }
  Index scratch_bytes() const override {
    Index sum = 0;
    for (const Tensor& tensor : live_) sum += static_cast<Index>(tensor.nbytes());
    return sum;
  }

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

  void power_scales(ConstMatrixView h, double target, double exponent, double cut, MatrixView d) override {
    require_vector("power_scales", h, h);
    require_vector("power_scales", h, d);
    const Tensor values = tensor(h).to(at::kDouble);
    const Tensor floor = (largest_of(values) * cut).clamp_min(0);
    tensor(d).copy_(at::where(values > floor, (target / values).pow(exponent), 0.0));
  }

  void odds_step(ConstMatrixView h, MatrixView d) override {
    balance_step("odds_step", h, d, [](const Tensor& leverage, const Tensor& r) {
      return (r / (1 - r) * (1 - leverage) / leverage).sqrt().clamp_min(kLeastOdds);
    });
  }
  void tyler_step(ConstMatrixView h, MatrixView d) override {
    balance_step("tyler_step", h, d,
                 [](const Tensor& leverage, const Tensor& r) { return (r / leverage).sqrt(); });
  }

  void spread(ConstMatrixView h, ConstMatrixView d, MatrixView s) override {
    require_vector("spread", h, h);
    require_vector("spread", h, d);
    require_scalars("spread", h, s);
    const Tensor leverage = tensor(h).to(at::kDouble), part = part_of(leverage, tensor(d).to(at::kDouble));
    const Tensor mean = mean_over(part, leverage.sqrt());
    const Tensor variance = (mean_over(part, leverage) - mean * mean).clamp_min(0);
    tensor(s).copy_(at::where(part.any(1, true), variance.sqrt() / mean, 0.0));
  }
  void select_less(ConstMatrixView a, ConstMatrixView b, ConstMatrixView x, MatrixView y) override {
    require_same_shape("select_less", x, y);
    require_scalars("select_less", x, a);
    require_scalars("select_less", x, b);
    Tensor to = tensor(y);
    to.copy_(at::where(tensor(a) < tensor(b), tensor(x), to));
  }

  void blend(std::span<const ConstMatrixView> gradients, double momentum, bool nesterov,
             std::span<const MatrixView> momentum_buffers, MatrixView blended) override {
    const std::vector<Tensor> buffers = tensors(momentum_buffers);
    const Tensor gradient = if_applied(at::stack(tensors(gradients)).to(scalar_type(blended.dtype)));
    at::_foreach_mul_(buffers, factor_if_applied(momentum, gradient));
    at::_foreach_add_(buffers, gradient.unbind(), 1 - momentum);
    Tensor to = tensor(blended).copy_(at::stack(buffers));
    if (nesterov) to.mul_(momentum).add_(gradient, 1 - momentum);
  }

  void keep(ConstMatrixView batch, std::span<const MatrixView> to) override {
    const std::vector<Tensor> kept = tensors(to);
    Tensor values = tensor(batch);
    if (applied_.defined()) values = at::where(applied_, values, at::stack(kept));
    at::_foreach_copy_(kept, values.unbind());
  }

  void apply(ConstMatrixView directions, double lr, double weight_decay, double scale,
             std::span<const MatrixView> weights) override {
    const std::vector<Tensor> to = tensors(weights);
    const Tensor addend = if_applied(tensor(directions) * (-lr * scale));
    const Tensor shrink = factor_if_applied(1 - lr * weight_decay, addend);
    const auto like_directions = [&](const MatrixView& weight) { return weight.dtype == directions.dtype; };
    if (std::ranges::all_of(weights, like_directions)) {
      at::_foreach_mul_(to, shrink);
      at::_foreach_add_(to, addend.unbind());
    } else {  // rounded once
      const Tensor moved = at::stack(to).to(addend.scalar_type()).mul_(shrink).add_(addend);
      at::_foreach_copy_(to, moved.unbind());
    }
  }
  void apply_only_if(Tensor applied) override { applied_ = std::move(applied); }

  void adopt_scales(ConstMatrixView e, MatrixView d) override {
    require_vector("adopt_scales", e, e);
    require_vector("adopt_scales", e, d);
    constexpr double kFactor = 1000;
    const Tensor inverse = tensor(e).to(at::kDouble), scales = tensor(d).to(at::kDouble);
    const Tensor both = at::logical_and(scales > 0, inverse > 0);
    const Tensor logs = mean_over(both, (scales / inverse).log());
    const Tensor fresh = at::where(both.any(1, true), logs.exp(), 1.0) * inverse;
    const Tensor close = at::logical_and(scales <= kFactor * fresh, scales * kFactor >= fresh);
    tensor(d).copy_(at::where(at::logical_and(fresh > 0, close), scales, fresh));
  }

  void resolvent_sums(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView p,
                      MatrixView q) override {
    require_resolvent("resolvent_sums", y, s, lam);
    require_vector("resolvent_sums", y, p);
    require_vector("resolvent_sums", y, q);
    const Tensor inverse = inverse_sums(s, lam), terms = tensor(y).to(at::kDouble) * inverse;
    const Tensor squares = terms * terms;
    tensor(p).copy_(squares.sum(2, true));
    tensor(q).copy_((squares * inverse).sum(2, true));
  }
  void resolvent(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView w) override {
    require_resolvent("resolvent", y, s, lam);
    require_same_shape("resolvent", y, w);
    tensor(w).copy_(tensor(y).to(at::kDouble) * inverse_sums(s, lam));
  }
  void resolvent_newton(ConstMatrixView p, ConstMatrixView q, double target, double floor,
                        MatrixView x) override {
    require_vector("resolvent_newton", p, q);
    require_vector("resolvent_newton", p, x);
    const Tensor squares = tensor(p).to(at::kDouble), cubes = tensor(q).to(at::kDouble);
    const Tensor step = squares / cubes * ((squares / target).sqrt() - 1);
    Tensor to = tensor(x);
    to.copy_((to.to(at::kDouble) + at::where(cubes > 0, step, 0.0)).clamp_min(floor));
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
                                               asynchronous_ ? from.scalar_type() : at::kDouble);
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
    tensor(s).copy_(asynchronous_ ? product : product.triu().add_(product.triu(1).mT()));
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
    tensor(s).copy_(asynchronous_ ? product : product.triu().add_(product.triu(1).mT()));
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

  void adam(const AdamScalars& scalars, ConstMatrixView gradient, MatrixView exp_avg, MatrixView exp_avg_sq,
            MatrixView weight) override {
    require_adam(gradient, exp_avg, exp_avg_sq, weight);
    Tensor m = tensor(exp_avg), v = tensor(exp_avg_sq), w = tensor(weight);
    const Tensor g = tensor(gradient).to(m.scalar_type());
    m.mul_(scalars.beta1).add_(g, 1 - scalars.beta1);
    v.mul_(scalars.beta2).addcmul_(g, g, 1 - scalars.beta2);
    const Tensor root = (v / scalars.bias_correction2).sqrt_().add_(scalars.eps);
    Tensor moved = w.to(m.scalar_type()) * (1 - scalars.lr * scalars.weight_decay);
    w.copy_(moved.addcdiv_(m, root, -scalars.lr / scalars.bias_correction1));
  }

  bool all_finite(ConstMatrixView x) override { return at::isfinite(tensor(x)).all().item<bool>(); }
  double largest(ConstMatrixView x) override { return tensor(x).max().item<double>(); }
  double smallest(ConstMatrixView x) override { return tensor(x).min().item<double>(); }
  void download(ConstMatrixView x, std::span<double> values) override {
    if (static_cast<Index>(values.size()) != x.rows * x.cols * x.batch) {
      fail("download", "Sizes differ: ", shape_text(x), " vs ", values.size());
    }
    const Tensor host = tensor(x).to(at::kDouble).cpu().contiguous();
    std::copy_n(host.const_data_ptr<double>(), values.size(), values.data());
  }

 protected:
  void run_parts(Index count, void* work, PartFunction function) override {
    if (count > 0) function(work, *this, 0, count);
  }
  Index scratch_mark() override { return static_cast<Index>(live_.size()); }
  void scratch_release(Index mark) override { live_.resize(static_cast<std::size_t>(mark)); }

 private:
  /// The view as a tensor [batch, rows, cols] of the same memory.
  Tensor tensor(const ConstMatrixView& view) const {
    return at::for_blob(const_cast<void*>(view.data), {view.batch, view.rows, view.cols})
        .strides({view.batch_stride, view.row_stride, view.col_stride})
        .options(at::TensorOptions(device_).dtype(scalar_type(view.dtype)))
        .target_device(device_)
        .make_tensor();
  }

  template <class Factor>
  void balance_step(std::string_view where, const ConstMatrixView& h, MatrixView d, const Factor& factor) {
    require_vector(where, h, h);
    require_vector(where, h, d);
    const Tensor leverage = tensor(h).to(at::kDouble), scales = tensor(d).to(at::kDouble);
    const Tensor part = part_of(leverage, scales);
    tensor(d).copy_(at::where(part, scales * factor(leverage, mean_over(part, leverage)), scales));
    normalize(d, d);
  }

  /// 1 / (s_j + lam_i).
  Tensor inverse_sums(const ConstMatrixView& s, const ConstMatrixView& lam) const {
    return (tensor(s).mT() + tensor(lam)).reciprocal_();
  }

  /// x where the step is applied, else zeros.
  Tensor if_applied(Tensor x) const { return applied_.defined() ? at::where(applied_, x, 0.0) : x; }
  /// `factor` where the step is applied, else 1, as a scalar of x's type on the device.
  Tensor factor_if_applied(double factor, const Tensor& x) const {
    const Tensor scalar = at::scalar_tensor(factor, x.options());
    return applied_.defined() ? at::where(applied_, scalar, at::ones_like(scalar)) : scalar;
  }

  template <class View>
  std::vector<Tensor> tensors(std::span<const View> views) const {
    std::vector<Tensor> list;
    for (const auto& view : views) list.push_back(tensor(view).squeeze(0));
    return list;
  }

  at::Device device_;
  bool asynchronous_;
  int threads_ = 1;
  Tensor applied_;
  std::vector<Tensor> live_;
};

}  // namespace

std::unique_ptr<AtenBackend> make_aten_backend(c10::Device device, const AtenOptions& options) {
  return std::make_unique<BackendOnTensors>(device, options.asynchronous || !device.is_cpu());
}

}  // namespace aurora
