#include "tested_backend.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace aurora::test {
namespace {

CpuOptions::Blas tested_blas() {
  const char* variable = std::getenv("AURORA_TEST_BLAS");
  if (variable == nullptr) return CpuOptions::Blas::automatic;
  const std::string name = variable;
  if (name == "mkl") return CpuOptions::Blas::mkl;
  if (name == "openblas") return CpuOptions::Blas::openblas;
  throw std::invalid_argument("AURORA_TEST_BLAS is neither mkl nor openblas: " + name);
}

}  // namespace

std::unique_ptr<Backend> make_tested_backend(int threads) {
  return make_cpu_backend({.threads = threads, .blas = tested_blas()});
}

}  // namespace aurora::test
