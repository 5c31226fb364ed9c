#include "openblas.hpp"

#include <string_view>

namespace aurora::blas {
namespace {

std::string warning([[maybe_unused]] std::string_view core) {
#ifdef __x86_64__
  const bool old_kernel = core == "Prescott" || core == "Core2" || core == "Penryn" || core == "Nehalem" ||
                          core == "Barcelona" || core == "Bobcat" || core == "Atom" || core == "Generic";
  if (__builtin_cpu_supports("avx2") && old_kernel) {
    const std::string better = __builtin_cpu_supports("avx512f") ? "SkylakeX" : "Haswell";
    return "OpenBLAS does not know this CPU and uses its " + std::string(core) +
           " kernels, several times slower than it can; set OPENBLAS_CORETYPE=" + better + ".";
  }
#endif
  return {};
}

Library described(const OpenBlas& openblas) {
  openblas.set_num_threads(1);
  const std::string_view config = openblas.config(), core = openblas.core_name();
  const std::string_view after_name = config.substr(config.find(' ') + 1);
  return {"OpenBLAS",
          std::string(after_name.substr(0, after_name.find(' '))),
          std::string(core) + " kernels",
          "BSD-3-Clause",
          warning(core),
          openblas.singles,
          openblas.doubles};
}

}  // namespace

const Library& openblas() {
  static const Library library = described(open_openblas());
  return library;
}

}  // namespace aurora::blas
