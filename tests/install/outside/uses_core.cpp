#include <aurora/polar.hpp>
#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  const std::vector<double> gradient = {3, 0, 0, -2, 0, 0};
  std::vector<double> direction(6);
  const auto backend = aurora::make_cpu_backend();
  aurora::polar(*backend, aurora::row_major(gradient.data(), 3, 2), aurora::kExact,
                aurora::row_major(direction.data(), 3, 2));
  std::printf("%s: %g %g\n", aurora::blas_description().c_str(), direction[0], direction[3]);
  return std::abs(direction[0] - 1) < 1e-12 && std::abs(direction[3] + 1) < 1e-12 ? 0 : 1;
}
