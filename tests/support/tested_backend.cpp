#include "tested_backend.hpp"

namespace aurora::test {

std::unique_ptr<Backend> make_tested_backend() { return make_cpu_backend(); }

}  // namespace aurora::test
