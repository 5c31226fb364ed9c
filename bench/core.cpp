// The core against PyTorch's kernels in one process, interleaved, medians of rounds; each result is checked
// before it is timed.
//   gemm     fp32 2048x768x768: our rate / torch::mm's, one thread and all
//   threads  a group of 12 matrices of 1024x384, Aurora step: time on one thread / on two
#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <chrono>
#include <cstdio>
#include <vector>

#include "aurora/diagnostics.hpp"
#include "aurora/step.hpp"

namespace {

using namespace aurora;

constexpr int kRounds = 15;

double median(const std::vector<double>& values) { return quantile(values, 0.5); }

template <class Work>
double milliseconds(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

ConstMatrixView view(const torch::Tensor& x) {
  return row_major(x.const_data_ptr<float>(), x.size(0), x.size(1));
}
MatrixView writable(torch::Tensor& x) { return row_major(x.data_ptr<float>(), x.size(0), x.size(1)); }

bool gemm(int threads) {
  at::set_num_threads(threads);
  const auto backend = make_cpu_backend({.threads = threads});
  const auto a = torch::randn({2048, 768}), b = torch::randn({768, 768});
  auto ours = torch::empty({2048, 768}), theirs = torch::empty({2048, 768});
  std::vector<double> our_ms, their_ms, ratios;
  for (int round = 0; round <= kRounds; ++round) {
    const double t = milliseconds([&] { torch::mm_out(theirs, a, b); });
    const double o = milliseconds([&] { backend->multiply(1.0, view(a), view(b), 0.0, writable(ours)); });
    if (round == 0) continue;  // warm-up
    our_ms.push_back(o), their_ms.push_back(t), ratios.push_back(t / o);
  }
  const double error = (ours - theirs).abs().max().item<double>();
  if (!(error < 1e-2)) return std::printf("gemm: results differ by %g\n", error), false;
  const double gflop = 2.0 * 2048 * 768 * 768 / 1e6;
  std::printf("gemm 2048x768x768  threads %d  ours %7.1f GFLOP/s  torch::mm %7.1f GFLOP/s  ratio %.2f\n",
              threads, gflop / median(our_ms), gflop / median(their_ms), median(ratios));
  return true;
}

bool group() {
  constexpr int kCount = 12;
  constexpr Index kRows = 1024, kCols = 384;
  const auto gradients = torch::randn({kCount, kRows, kCols});
  auto momentum = torch::zeros({2, kCount, kRows, kCols}), weights = torch::zeros({2, kCount, kRows, kCols});
  std::vector<std::unique_ptr<Backend>> backends;
  for (const int threads : {1, 2}) backends.push_back(make_cpu_backend({.threads = threads}));
  std::vector<double> times[2], ratios;
  for (int round = 0; round <= kRounds; ++round) {
    double now[2];
    for (int which : {0, 1}) {
      std::vector<ConstMatrixView> g;
      std::vector<MatrixView> m, w;
      for (int i = 0; i < kCount; ++i) {
        auto buffer = momentum[which][i], weight = weights[which][i];
        g.push_back(view(gradients[i])), m.push_back(writable(buffer)), w.push_back(writable(weight));
      }
      now[which] = milliseconds([&] {
        aurora_step(*backends[static_cast<std::size_t>(which)], {},
                    {.gradients = g, .momentum_buffers = m, .row_states = {}, .weights = w});
      });
    }
    if (round == 0) continue;
    times[0].push_back(now[0]), times[1].push_back(now[1]), ratios.push_back(now[0] / now[1]);
  }
  const double error = (weights[0] - weights[1]).abs().max().item<double>();
  if (!(error < 1e-4)) return std::printf("threads: results differ by %g\n", error), false;
  std::printf("Aurora step, 12 of 1024x384  one thread %.1f ms  two %.1f ms  ratio %.2f\n", median(times[0]),
              median(times[1]), median(ratios));
  return true;
}

}  // namespace

int main() {
  const torch::NoGradGuard no_grad;
  std::printf("%s, torch %s\n", blas_description().c_str(), TORCH_VERSION);
  const bool good = gemm(1) && gemm(2) && group();
  return good ? 0 : 1;
}
