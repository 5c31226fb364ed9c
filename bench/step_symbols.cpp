// The library's steps under C names, for bench/peers.py: it calls them on PyTorch's own memory, in PyTorch's
// own process. Every function returns null, or what went wrong; that text stays valid until the thread's next
// call.
#include <exception>
#include <string>
#include <vector>

#include "aurora/step.hpp"

namespace {

using namespace aurora;

template <class Work>
const char* message_of(Work&& work) {
  thread_local std::string message;
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

}  // namespace

extern "C" {

/// A CPU backend; lives as long as the process.
void* bench_backend(int threads) { return make_cpu_backend({.threads = threads}).release(); }

/// One step of `variant` ("muon:polar=keller-jordan-5") for `count` float32 matrices of one shape, packed by
/// rows. row_states: `count` vectors as long as row_state_size says, or null where the rule has none.
const char* bench_step(void* backend, const char* variant, int count, Index rows, Index cols,
                       const float* const* gradients, float* const* momenta, float* const* row_states,
                       float* const* weights) {
  return message_of([&] {
    const Rule options = parse_variant(variant);
    const Index state_size = row_state_size(options, rows, cols);
    std::vector<ConstMatrixView> g;
    std::vector<MatrixView> m, r, w;
    for (int i = 0; i < count; ++i) {
      g.push_back(row_major(gradients[i], rows, cols));
      m.push_back(row_major(momenta[i], rows, cols));
      w.push_back(row_major(weights[i], rows, cols));
      if (state_size > 0) r.push_back(row_major(row_states[i], state_size, 1));
    }
    auto& on = *static_cast<Backend*>(backend);
    std::visit(
        [&](const auto& o) {
          if constexpr (MatrixOptions<std::decay_t<decltype(o)>>) {
            spectral_step(on, step_options(o), direction_of(o),
                          {.gradients = g, .momentum_buffers = m, .row_states = r, .weights = w});
          }
        },
        options);
  });
}

/// The direction of `variant` for one matrix, from an empty state.
const char* bench_direction(void* backend, const char* variant, Index rows, Index cols, const float* gradient,
                            float* direction) {
  return message_of([&] {
    const Rule options = parse_variant(variant);
    std::vector<double> state(static_cast<std::size_t>(row_state_size(options, rows, cols)), 0.0);
    std::vector<MatrixView> states;
    if (!state.empty()) states.push_back(row_major(state.data(), static_cast<Index>(state.size()), 1));
    std::visit(
        [&](const auto& o) {
          if constexpr (MatrixOptions<std::decay_t<decltype(o)>>) {
            direction_of(o)(*static_cast<Backend*>(backend), row_major(gradient, rows, cols), states,
                            row_major(direction, rows, cols));
          }
        },
        options);
  });
}

/// Step number `step` of AdamW for one float32 vector; `look`: whether first at the gradient, as adamw_step
/// does.
const char* bench_adamw(void* backend, const char* variant, int look, std::int64_t step, Index size,
                        const float* gradient, float* exp_avg, float* exp_avg_sq, float* weight) {
  return message_of([&] {
    const ConstMatrixView g[] = {row_major(gradient, 1, size)};
    const MatrixView m[] = {row_major(exp_avg, 1, size)}, v[] = {row_major(exp_avg_sq, 1, size)},
                     w[] = {row_major(weight, 1, size)};
    const auto options = std::get<AdamWOptions>(parse_variant(variant));
    const AdamWTensors tensors{.gradients = g, .exp_avgs = m, .exp_avg_sqs = v, .weights = w};
    auto& on = *static_cast<Backend*>(backend);
    look != 0 ? static_cast<void>(adamw_step(on, options, step, tensors))
              : adamw_update(on, options, step, tensors);
  });
}

/// c = a b, float32 packed by rows: the rate that the machine gives the library.
const char* bench_multiply(void* backend, Index m, Index k, Index n, const float* a, const float* b,
                           float* c) {
  return message_of([&] {
    static_cast<Backend*>(backend)->multiply(1.0, row_major(a, m, k), row_major(b, k, n), 0.0,
                                             row_major(c, m, n));
  });
}

}  // extern "C"
