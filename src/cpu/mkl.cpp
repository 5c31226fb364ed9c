// oneMKL as its maker ships it: static, the sequential layer, nothing of it replaced or switched.
#include <mkl_service.h>

#include "blas.hpp"
#include "linked_routines.hpp"

namespace aurora::blas {

namespace {

std::string kernel() {
  if (__builtin_cpu_is("intel") == 0) return "other makers'";  // MKL does not say which these are
  switch (mkl_cbwr_get_auto_branch()) {
    case MKL_CBWR_AVX10:
      return "AVX10";
    case MKL_CBWR_AVX512:
      return "AVX-512";
    case MKL_CBWR_AVX512_E1:
      return "AVX-512 with DL Boost";
    case MKL_CBWR_AVX2:
      return "AVX2";
    default:
      return "SSE";
  }
}

std::string warning() {
  if (__builtin_cpu_is("intel") != 0) return {};
  return "oneMKL has slow kernels for CPUs that Intel did not make; OpenBLAS is up to 2.6 times as fast here "
         "(AURORA_BLAS=auto builds both in).";
}

std::string version() {
  MKLVersion version;
  mkl_get_version(&version);
  return std::to_string(version.MajorVersion) + "." + std::to_string(version.UpdateVersion);
}

}  // namespace

const Library& mkl() {
  static const Library library{
      "oneMKL",  version(),     kernel() + " kernels", "Intel Simplified Software License",
      warning(), kLinkedSingle, kLinkedDouble};
  return library;
}

}  // namespace aurora::blas
