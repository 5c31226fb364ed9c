#pragma once

#include <memory>

#include "aurora/backend.hpp"

namespace aurora::test {

/// The backend that the suites of primitives and rules run on: the CPU's with the BLAS that AURORA_TEST_BLAS
/// names (mkl, openblas, or the choice of the library where it is not set), but in an executable that defines
/// this function itself.
std::unique_ptr<Backend> make_tested_backend(int threads = 1);

}  // namespace aurora::test
