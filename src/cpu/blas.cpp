#include "blas.hpp"

#ifdef AURORA_BLAS_MKL
#include <mkl.h>
#else
#include <cblas.h>
#include <lapacke.h>
#endif

#include <limits>
#include <string_view>

#include "error.hpp"

namespace aurora::blas {
namespace {

Int narrow(Index value) {
  if (value > std::numeric_limits<Int>::max()) fail("blas", "A dimension exceeds 2^31 - 1: ", value);
  return static_cast<Int>(value);
}

CBLAS_ORDER cblas(Order order) { return order == Order::row ? CblasRowMajor : CblasColMajor; }
CBLAS_TRANSPOSE cblas(Op op) { return op == Op::none ? CblasNoTrans : CblasTrans; }

}  // namespace

template <>
void gemm(Order order, Op op_a, Op op_b, Index m, Index n, Index k, float alpha, const float* a, Index lda,
          const float* b, Index ldb, float beta, float* c, Index ldc) {
  cblas_sgemm(cblas(order), cblas(op_a), cblas(op_b), narrow(m), narrow(n), narrow(k), alpha, a, narrow(lda),
              b, narrow(ldb), beta, c, narrow(ldc));
}
template <>
void gemm(Order order, Op op_a, Op op_b, Index m, Index n, Index k, double alpha, const double* a, Index lda,
          const double* b, Index ldb, double beta, double* c, Index ldc) {
  cblas_dgemm(cblas(order), cblas(op_a), cblas(op_b), narrow(m), narrow(n), narrow(k), alpha, a, narrow(lda),
              b, narrow(ldb), beta, c, narrow(ldc));
}

template <>
void syrk(Order order, Op op, Index n, Index k, const float* a, Index lda, float* c, Index ldc) {
  cblas_ssyrk(cblas(order), CblasUpper, cblas(op), narrow(n), narrow(k), 1.0F, a, narrow(lda), 0.0F, c,
              narrow(ldc));
}
template <>
void syrk(Order order, Op op, Index n, Index k, const double* a, Index lda, double* c, Index ldc) {
  cblas_dsyrk(cblas(order), CblasUpper, cblas(op), narrow(n), narrow(k), 1.0, a, narrow(lda), 0.0, c,
              narrow(ldc));
}

#ifdef AURORA_BLAS_MKL
#define AURORA_LAPACK(name) name##_
#else
#define AURORA_LAPACK(name) LAPACK_##name
#endif

template <>
Int potrf(Index n, float* a, Index lda) {
  const Int order = narrow(n), ld = narrow(lda);
  Int info = 0;
  AURORA_LAPACK(spotrf)("U", &order, a, &ld, &info);
  return info;
}
template <>
Int potrf(Index n, double* a, Index lda) {
  const Int order = narrow(n), ld = narrow(lda);
  Int info = 0;
  AURORA_LAPACK(dpotrf)("U", &order, a, &ld, &info);
  return info;
}

// Row-major x is x' by columns: x r^-1 is then r'^-1 x' from the left.
template <>
void trsm(Order order, Index m, Index n, const float* r, Index ldr, float* x, Index ldx) {
  if (order == Order::column) {
    cblas_strsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, narrow(m), narrow(n), 1.0F,
                r, narrow(ldr), x, narrow(ldx));
  } else {
    cblas_strsm(CblasColMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, narrow(n), narrow(m), 1.0F, r,
                narrow(ldr), x, narrow(ldx));
  }
}
template <>
void trsm(Order order, Index m, Index n, const double* r, Index ldr, double* x, Index ldx) {
  if (order == Order::column) {
    cblas_dtrsm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, narrow(m), narrow(n), 1.0,
                r, narrow(ldr), x, narrow(ldx));
  } else {
    cblas_dtrsm(CblasColMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, narrow(n), narrow(m), 1.0, r,
                narrow(ldr), x, narrow(ldx));
  }
}

template <>
Int syevd(Index n, float* a, float* w, float* work, Index work_size, Int* iwork, Index iwork_size) {
  const Int order = narrow(n), size = narrow(work_size), isize = narrow(iwork_size);
  Int info = 0;
  AURORA_LAPACK(ssyevd)("V", "U", &order, a, &order, w, work, &size, iwork, &isize, &info);
  return info;
}
template <>
Int syevd(Index n, double* a, double* w, double* work, Index work_size, Int* iwork, Index iwork_size) {
  const Int order = narrow(n), size = narrow(work_size), isize = narrow(iwork_size);
  Int info = 0;
  AURORA_LAPACK(dsyevd)("V", "U", &order, a, &order, w, work, &size, iwork, &isize, &info);
  return info;
}

template <>
Int gesdd(Index m, Index n, float* a, Index lda, float* s, float* u, Index ldu, float* vt, Index ldvt,
          float* work, Index work_size, Int* iwork) {
  const Int rows = narrow(m), cols = narrow(n), a_ld = narrow(lda), u_ld = narrow(ldu), v_ld = narrow(ldvt),
            size = narrow(work_size);
  Int info = 0;
  AURORA_LAPACK(sgesdd)("S", &rows, &cols, a, &a_ld, s, u, &u_ld, vt, &v_ld, work, &size, iwork, &info);
  return info;
}
template <>
Int gesdd(Index m, Index n, double* a, Index lda, double* s, double* u, Index ldu, double* vt, Index ldvt,
          double* work, Index work_size, Int* iwork) {
  const Int rows = narrow(m), cols = narrow(n), a_ld = narrow(lda), u_ld = narrow(ldu), v_ld = narrow(ldvt),
            size = narrow(work_size);
  Int info = 0;
  AURORA_LAPACK(dgesdd)("S", &rows, &cols, a, &a_ld, s, u, &u_ld, vt, &v_ld, work, &size, iwork, &info);
  return info;
}

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
