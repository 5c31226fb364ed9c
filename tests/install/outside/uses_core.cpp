#include <aurora/polar.hpp>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

namespace {

bool is_right(aurora::CpuOptions::Blas blas) {
  const std::vector<double> gradient = {3, 0, 0, -2, 0, 0};
  std::vector<double> direction(6);
  const auto backend = aurora::make_cpu_backend({.threads = 1, .blas = blas});
  aurora::polar(*backend, aurora::row_major(gradient.data(), 3, 2), aurora::Polar::exact,
                aurora::row_major(direction.data(), 3, 2));
  std::printf("%s: %g %g\n", aurora::blas_description(blas).c_str(), direction[0], direction[3]);
  return std::abs(direction[0] - 1) < 1e-12 && std::abs(direction[3] + 1) < 1e-12;
}

}  // namespace

int main() {
  using Blas = aurora::CpuOptions::Blas;
  bool right = is_right(Blas::automatic);
  for (const Blas blas : {Blas::openblas, Blas::mkl}) {
    try {
      right = is_right(blas) && right;
    } catch (const std::invalid_argument& not_built_in) {
      std::puts(not_built_in.what());
    }
  }
  return right ? 0 : 1;
}
