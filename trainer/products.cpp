#include "products.hpp"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace aurora::trainer {
namespace {

/// The operation of libtorch that multiplies dense matrices by oneDNN; nothing where it was built without.
const std::optional<c10::OperatorHandle>& onednn_linear() {
  static const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  return found;
}

/// x w' by oneDNN.
at::Tensor onednn_product(const at::Tensor& x, const at::Tensor& w) {
  c10::Stack stack{x, w, c10::IValue(), "none", c10::List<std::optional<at::Scalar>>(), ""};
  onednn_linear()->callBoxed(stack);
  return stack.front().toTensor();
}

struct OneDnnLinear : torch::autograd::Function<OneDnnLinear> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight) {
    context->save_for_backward({x, weight});
    return onednn_product(x, weight);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &gradient = gradients[0];
    at::Tensor of_x, of_weight;
    if (context->needs_input_grad(0)) of_x = onednn_product(gradient, weight.t());
    if (context->needs_input_grad(1)) {
      of_weight =
          onednn_product(gradient.reshape({-1, gradient.size(-1)}).t(), x.reshape({-1, x.size(-1)}).t());
    }
    return {of_x, of_weight};
  }
};

bool takes_onednn(const at::Tensor& x, const at::Tensor& weight) {
  constexpr std::int64_t kWorthIt = std::int64_t{1} << 21;  // multiplications: 1.3 times as fast on Zen 5
  const bool single = x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat;
  return single && x.is_cpu() && !at::autocast::is_autocast_enabled(at::kCPU) &&
         x.numel() * weight.size(0) >= kWorthIt;
}

}  // namespace

Products fastest_products() {
#ifdef __x86_64__
  const bool narrow_kernels = __builtin_cpu_is("intel") == 0;
#else
  const bool narrow_kernels = false;
#endif
  const bool usable = at::globalContext().userEnabledMkldnn() && onednn_linear().has_value();
  return narrow_kernels && usable ? Products::onednn : Products::blas;
}

std::string products_description() { return fastest_products() == Products::onednn ? "oneDNN" : "BLAS"; }

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, Products products) {
  if (products == Products::onednn && takes_onednn(x, weight)) return OneDnnLinear::apply(x, weight);
  return at::linear(x, weight);
}

}  // namespace aurora::trainer
