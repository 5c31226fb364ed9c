#include "session.hpp"

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <cstdlib>

#include "products.hpp"
#include "train.hpp"

namespace aurora::trainer {

void set_up_torch(int threads) {
  // cuBLAS repeats its bits only with a workspace of fixed size, and torch refuses to call it without.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  if (threads > 0) at::set_num_threads(threads);
  auto& context = at::globalContext();
  context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  context.setDeterministicFillUninitializedMemory(false);  // a guard for debugging that costs time
}

std::string first_line(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, text.find('\n'));
}

std::string torch_description() {
  std::string text = "torch " TORCH_VERSION ", CPU capability " + at::get_cpu_capability() + ", " +
                     std::to_string(at::get_num_threads()) + " threads, model's products by its " +
                     products_description();
  return text + "\n" + at::show_config();
}

}  // namespace aurora::trainer
