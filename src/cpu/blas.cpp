#include "blas.hpp"

#include <limits>
#include <utility>

#include "../error.hpp"

namespace aurora::blas {
namespace {

Int narrow(Index value) {
  if (value > std::numeric_limits<Int>::max()) fail("blas", "A dimension exceeds 2^31 - 1: ", value);
  return static_cast<Int>(value);
}

const char* flag(Op op) { return op == Op::none ? "N" : "T"; }
Op flipped(Op op) { return op == Op::none ? Op::transpose : Op::none; }

}  // namespace

std::string Library::description() const {
  return name + " " + version + " (" + kernel + ", " + licence + ")";
}

// A matrix by rows is its transpose by columns: c' = b' a'.
template <class T>
void Library::gemm(Order order, Op op_a, Op op_b, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                   const T* b, Index ldb, T beta, T* c, Index ldc) const {
  if (order == Order::row) {
    std::swap(op_a, op_b);
    std::swap(m, n);
    std::swap(a, b);
    std::swap(lda, ldb);
  }
  const Int rows = narrow(m), cols = narrow(n), inner = narrow(k), a_ld = narrow(lda), b_ld = narrow(ldb),
            c_ld = narrow(ldc);
  routines<T>().gemm(flag(op_a), flag(op_b), &rows, &cols, &inner, &alpha, a, &a_ld, b, &b_ld, &beta, c,
                     &c_ld, 1, 1);
}

template <class T>
void Library::syrk(Order order, Op op, Index n, Index k, const T* a, Index lda, T* c, Index ldc) const {
  const bool columns = order == Order::column;
  const Int size = narrow(n), inner = narrow(k), a_ld = narrow(lda), c_ld = narrow(ldc);
  const T one = 1, zero = 0;
  routines<T>().syrk(columns ? "U" : "L", flag(columns ? op : flipped(op)), &size, &inner, &one, a, &a_ld,
                     &zero, c, &c_ld, 1, 1);
}

// In halves, so that most of the work is a product: OpenBLAS solves at a third of the rate of its products. With
// r = [a b; 0 c] and x = [x1 x2], x r^-1 is x1 <- x1 a^-1, x2 <- (x2 - x1 b) c^-1, and x r'^-1 the same from
// the other end.
template <class T>
void Library::trsm(Order order, Op op, Index m, Index n, const T* r, Index ldr, T* x, Index ldx) const {
  constexpr Index kWhole = 48;
  if (m == 1) return solve_row(op, n, r, ldr, x, order == Order::row ? 1 : ldx);
  if (n <= kWhole) return solve(order, op, m, n, r, ldr, x, ldx);
  const Index half = (n / 2 + 15) / 16 * 16, rest = n - half;
  const bool columns = order == Order::column;
  const T *b = r + half * ldr, *c = b + half;
  T* second = x + half * (columns ? ldx : 1);
  const Op turned = columns == (op == Op::none) ? Op::none : Op::transpose;  // of b, in the order of x
  if (op == Op::none) {
    trsm(order, op, m, half, r, ldr, x, ldx);
    gemm(order, Op::none, turned, m, rest, half, T{-1}, x, ldx, b, ldr, T{1}, second, ldx);
    trsm(order, op, m, rest, c, ldr, second, ldx);
  } else {
    trsm(order, op, m, rest, c, ldr, second, ldx);
    gemm(order, Op::none, turned, m, half, rest, T{-1}, second, ldx, b, ldr, T{1}, x, ldx);
    trsm(order, op, m, half, r, ldr, x, ldx);
  }
}

// x r^-1 = (r'^-1 x')'. A row through trsm would pack the whole triangle.
template <class T>
void Library::solve_row(Op op, Index n, const T* r, Index ldr, T* x, Index step) const {
  const Int size = narrow(n), r_ld = narrow(ldr), increment = narrow(step);
  routines<T>().trsv("U", flag(flipped(op)), "N", &size, r, &r_ld, x, &increment, 1, 1, 1);
}

// Row-major x is x' by columns: x r^-1 is then r'^-1 x' from the left.
template <class T>
void Library::solve(Order order, Op op, Index m, Index n, const T* r, Index ldr, T* x, Index ldx) const {
  const bool columns = order == Order::column;
  const Int rows = narrow(columns ? m : n), cols = narrow(columns ? n : m), r_ld = narrow(ldr),
            x_ld = narrow(ldx);
  const T one = 1;
  routines<T>().trsm(columns ? "R" : "L", "U", flag(columns ? op : flipped(op)), "N", &rows, &cols, &one, r,
                     &r_ld, x, &x_ld, 1, 1, 1, 1);
}

template <class T>
void Library::trmm(Order order, Index m, Index n, const T* r, Index ldr, T* x, Index ldx) const {
  const bool columns = order == Order::column;
  const Int rows = narrow(columns ? m : n), cols = narrow(columns ? n : m), r_ld = narrow(ldr),
            x_ld = narrow(ldx);
  const T one = 1;
  routines<T>().trmm(columns ? "R" : "L", "U", flag(columns ? Op::none : Op::transpose), "N", &rows, &cols,
                     &one, r, &r_ld, x, &x_ld, 1, 1, 1, 1);
}

template <class T>
Int Library::potrf(Index n, T* a, Index lda) const {
  const Int order = narrow(n), ld = narrow(lda);
  Int info = 0;
  routines<T>().potrf("L", &order, a, &ld, &info, 1);
  return info;
}

template <class T>
Int Library::lauum(Index n, T* r, Index ldr) const {
  const Int order = narrow(n), ld = narrow(ldr);
  Int info = 0;
  routines<T>().lauum("U", &order, r, &ld, &info, 1);
  return info;
}

template <class T>
Int Library::syevd(Index n, T* a, T* w, T* work, Index work_size, Int* iwork, Index iwork_size) const {
  const Int order = narrow(n), size = narrow(work_size), isize = narrow(iwork_size);
  Int info = 0;
  routines<T>().syevd("V", "U", &order, a, &order, w, work, &size, iwork, &isize, &info, 1, 1);
  return info;
}

template <class T>
Int Library::gesdd(Index m, Index n, T* a, Index lda, T* s, T* u, Index ldu, T* vt, Index ldvt, T* work,
                   Index work_size, Int* iwork) const {
  const Int rows = narrow(m), cols = narrow(n), a_ld = narrow(lda), u_ld = narrow(ldu), v_ld = narrow(ldvt),
            size = narrow(work_size);
  Int info = 0;
  routines<T>().gesdd("S", &rows, &cols, a, &a_ld, s, u, &u_ld, vt, &v_ld, work, &size, iwork, &info, 1);
  return info;
}

#define AURORA_INSTANTIATE(T)                                                                             \
  template void Library::gemm(Order, Op, Op, Index, Index, Index, T, const T*, Index, const T*, Index, T, \
                              T*, Index) const;                                                           \
  template void Library::syrk(Order, Op, Index, Index, const T*, Index, T*, Index) const;                 \
  template void Library::trsm(Order, Op, Index, Index, const T*, Index, T*, Index) const;                 \
  template void Library::trmm(Order, Index, Index, const T*, Index, T*, Index) const;                     \
  template Int Library::potrf(Index, T*, Index) const;                                                    \
  template Int Library::lauum(Index, T*, Index) const;                                                    \
  template Int Library::syevd(Index, T*, T*, T*, Index, Int*, Index) const;                               \
  template Int Library::gesdd(Index, Index, T*, Index, T*, T*, Index, T*, Index, T*, Index, Int*) const
AURORA_INSTANTIATE(float);
AURORA_INSTANTIATE(double);

// The places that know which libraries were built in.
namespace {

const Library* built_in_mkl() {
#ifdef AURORA_BLAS_MKL
  return &mkl();
#else
  return nullptr;
#endif
}

const Library* built_in_openblas() {
#ifdef AURORA_BLAS_OPENBLAS
  return &openblas();
#else
  return nullptr;
#endif
}

bool made_by_intel() {
#ifdef __x86_64__
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

}  // namespace

const Library& library(CpuOptions::Blas choice) {
  if (choice == CpuOptions::Blas::automatic) {
    const bool mkl_first = made_by_intel();
    const Library* first = mkl_first ? built_in_mkl() : built_in_openblas();
    return first != nullptr ? *first
                            : library(mkl_first ? CpuOptions::Blas::openblas : CpuOptions::Blas::mkl);
  }
  const bool wants_mkl = choice == CpuOptions::Blas::mkl;
  const Library* chosen = wants_mkl ? built_in_mkl() : built_in_openblas();
  if (chosen == nullptr) fail("blas", "Not built in (AURORA_BLAS): ", wants_mkl ? "oneMKL" : "OpenBLAS");
  return *chosen;
}

}  // namespace aurora::blas
