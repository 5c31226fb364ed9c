#pragma once

#include <memory>

#include "aurora/backend.hpp"

namespace aurora::test {

/// The backend that the suites of primitives and rules run on: the CPU's, but in an executable that defines
/// this function itself.
std::unique_ptr<Backend> make_tested_backend();

}  // namespace aurora::test
