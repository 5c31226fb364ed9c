#include "blas.hpp"

#ifdef AURORA_BLAS_MKL
#include <mkl.h>
#else
#include <cblas.h>
#include <lapacke.h>
#endif

#include <limits>
#include <string_view>
#include <type_traits>

#include "../error.hpp"

namespace aurora::blas {
namespace {

Int narrow(Index value) {
  if (value > std::numeric_limits<Int>::max()) fail("blas", "A dimension exceeds 2^31 - 1: ", value);
  return static_cast<Int>(value);
}

CBLAS_ORDER cblas(Order order) { return order == Order::row ? CblasRowMajor : CblasColMajor; }
CBLAS_TRANSPOSE cblas(Op op) { return op == Op::none ? CblasNoTrans : CblasTrans; }

/// The routine for T of a pair.
template <class T, class Single, class Double>
constexpr auto routine(Single single, Double twice) {
  if constexpr (std::is_same_v<T, float>) {
    return single;
  } else {
    return twice;
  }
}

}  // namespace

template <class T>
void gemm(Order order, Op op_a, Op op_b, Index m, Index n, Index k, T alpha, const T* a, Index lda,
          const T* b, Index ldb, T beta, T* c, Index ldc) {
  routine<T>(cblas_sgemm, cblas_dgemm)(cblas(order), cblas(op_a), cblas(op_b), narrow(m), narrow(n),
                                       narrow(k), alpha, a, narrow(lda), b, narrow(ldb), beta, c,
                                       narrow(ldc));
}

template <class T>
void syrk(Order order, Op op, Index n, Index k, const T* a, Index lda, T* c, Index ldc) {
  routine<T>(cblas_ssyrk, cblas_dsyrk)(cblas(order), CblasUpper, cblas(op), narrow(n), narrow(k), T{1}, a,
                                       narrow(lda), T{0}, c, narrow(ldc));
}

// Row-major x is x' by columns: x r^-1 is then r'^-1 x' from the left.
template <class T>
void trsm(Order order, Op op, Index m, Index n, const T* r, Index ldr, T* x, Index ldx) {
  const bool columns = order == Order::column;
  routine<T>(cblas_strsm, cblas_dtrsm)(CblasColMajor, columns ? CblasRight : CblasLeft, CblasUpper,
                                       columns == (op == Op::none) ? CblasNoTrans : CblasTrans, CblasNonUnit,
                                       narrow(columns ? m : n), narrow(columns ? n : m), T{1}, r, narrow(ldr),
                                       x, narrow(ldx));
}

template <class T>
void trmm(Order order, Index m, Index n, const T* r, Index ldr, T* x, Index ldx) {
  const bool columns = order == Order::column;
  routine<T>(cblas_strmm, cblas_dtrmm)(
      CblasColMajor, columns ? CblasRight : CblasLeft, CblasUpper, columns ? CblasNoTrans : CblasTrans,
      CblasNonUnit, narrow(columns ? m : n), narrow(columns ? n : m), T{1}, r, narrow(ldr), x, narrow(ldx));
}

// LAPACKE's names may be macros with arguments, which have no address: one call for each type.
#ifdef AURORA_BLAS_MKL
#define AURORA_LAPACK(name) name##_
#else
#define AURORA_LAPACK(name) LAPACK_##name
#endif

template <class T>
Int potrf(Index n, T* a, Index lda) {
  const Int order = narrow(n), ld = narrow(lda);
  Int info = 0;
  if constexpr (std::is_same_v<T, float>) {
    AURORA_LAPACK(spotrf)("L", &order, a, &ld, &info);
  } else {
    AURORA_LAPACK(dpotrf)("L", &order, a, &ld, &info);
  }
  return info;
}

template <class T>
Int lauum(Index n, T* r, Index ldr) {
  const Int order = narrow(n), ld = narrow(ldr);
  Int info = 0;
  if constexpr (std::is_same_v<T, float>) {
    AURORA_LAPACK(slauum)("U", &order, r, &ld, &info);
  } else {
    AURORA_LAPACK(dlauum)("U", &order, r, &ld, &info);
  }
  return info;
}

template <class T>
Int syevd(Index n, T* a, T* w, T* work, Index work_size, Int* iwork, Index iwork_size) {
  const Int order = narrow(n), size = narrow(work_size), isize = narrow(iwork_size);
  Int info = 0;
  if constexpr (std::is_same_v<T, float>) {
    AURORA_LAPACK(ssyevd)("V", "U", &order, a, &order, w, work, &size, iwork, &isize, &info);
  } else {
    AURORA_LAPACK(dsyevd)("V", "U", &order, a, &order, w, work, &size, iwork, &isize, &info);
  }
  return info;
}

template <class T>
Int gesdd(Index m, Index n, T* a, Index lda, T* s, T* u, Index ldu, T* vt, Index ldvt, T* work,
          Index work_size, Int* iwork) {
  const Int rows = narrow(m), cols = narrow(n), a_ld = narrow(lda), u_ld = narrow(ldu), v_ld = narrow(ldvt),
            size = narrow(work_size);
  Int info = 0;
  if constexpr (std::is_same_v<T, float>) {
    AURORA_LAPACK(sgesdd)("S", &rows, &cols, a, &a_ld, s, u, &u_ld, vt, &v_ld, work, &size, iwork, &info);
  } else {
    AURORA_LAPACK(dgesdd)("S", &rows, &cols, a, &a_ld, s, u, &u_ld, vt, &v_ld, work, &size, iwork, &info);
  }
  return info;
}

template void gemm(Order, Op, Op, Index, Index, Index, float, const float*, Index, const float*, Index, float,
                   float*, Index);
template void syrk(Order, Op, Index, Index, const float*, Index, float*, Index);
template void trsm(Order, Op, Index, Index, const float*, Index, float*, Index);
template void trmm(Order, Index, Index, const float*, Index, float*, Index);
template Int potrf(Index, float*, Index);
template Int lauum(Index, float*, Index);
template Int syevd(Index, float*, float*, float*, Index, Int*, Index);
template Int gesdd(Index, Index, float*, Index, float*, float*, Index, float*, Index, float*, Index, Int*);
template void gemm(Order, Op, Op, Index, Index, Index, double, const double*, Index, const double*, Index,
                   double, double*, Index);
template void syrk(Order, Op, Index, Index, const double*, Index, double*, Index);
template void trsm(Order, Op, Index, Index, const double*, Index, double*, Index);
template void trmm(Order, Index, Index, const double*, Index, double*, Index);
template Int potrf(Index, double*, Index);
template Int lauum(Index, double*, Index);
template Int syevd(Index, double*, double*, double*, Index, Int*, Index);
template Int gesdd(Index, Index, double*, Index, double*, double*, Index, double*, Index, double*, Index,
                   Int*);

#ifdef AURORA_BLAS_MKL

// MKL asks this before it looks at what instructions the CPU has, and gives other makers' CPUs kernels of
// half the width. Answering yes lets CPUID alone decide: docs/decisions/0002-mkl-on-other-cpus.md.
// Hidden: the question that another MKL of the process asks is not ours to answer.
extern "C" __attribute__((visibility("hidden"))) int mkl_serv_intel_cpu_true();
int mkl_serv_intel_cpu_true() { return 1; }

void set_threads(int threads) {
  mkl_set_dynamic(0);
  mkl_set_num_threads_local(threads);
}

#else

void set_threads(int threads) { openblas_set_num_threads(threads); }

#endif

}  // namespace aurora::blas

namespace aurora {

#ifdef AURORA_BLAS_MKL

namespace {
std::string_view kernel() {
  switch (mkl_cbwr_get_auto_branch()) {
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
}  // namespace

std::string blas_description() {
  MKLVersion version;
  mkl_get_version(&version);
  return "oneMKL " + std::to_string(version.MajorVersion) + "." + std::to_string(version.UpdateVersion) +
         " (" + std::string(kernel()) + ")";
}

std::string blas_warning() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2") && kernel() == "SSE") {
    return "oneMKL uses its " + std::string(kernel()) + " kernels on a CPU that has AVX2.";
  }
#endif
  return {};
}

#else

std::string blas_description() {
  std::string config = openblas_get_config();  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..."
  const auto second_space = config.find(' ', config.find(' ') + 1);
  return config.substr(0, second_space) + " (" + openblas_get_corename() + ")";
}

std::string blas_warning() {
#ifdef __x86_64__
  const std::string_view core = openblas_get_corename();
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

#endif

}  // namespace aurora
