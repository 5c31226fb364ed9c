#include "support/tested_backend.hpp"

#include "aurora/torch/backend.hpp"

namespace aurora::test {

std::unique_ptr<Backend> make_tested_backend(int) { return make_aten_backend(c10::Device(c10::kCPU)); }

}  // namespace aurora::test
