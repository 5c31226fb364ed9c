#pragma once

#include <cstddef>
#include <string>
#include <type_traits>

#include "aurora/backend.hpp"
#include "error.hpp"

// BLAS and LAPACK behind one table of routines, which mkl.cpp and openblas.cpp fill; the rest of the project
// does not know which library that is. Every routine runs on the thread that calls it, and any number of
// threads may call.
namespace aurora::blas {

using Int = int;  // lp64

enum class Order { row, column };
enum class Op { none, transpose };

/// The routines of one number type as Fortran has them: matrices by columns, arguments by address, and after
/// the last one the length of every character argument.
template <class T>
struct Routines {
  using Flag = const char*;
  using Size = const Int*;
  using Length = std::size_t;
  using Gemm = void(Flag, Flag, Size, Size, Size, const T*, const T*, Size, const T*, Size, const T*, T*,
                    Size, Length, Length);
  using Syrk = void(Flag, Flag, Size, Size, const T*, const T*, Size, const T*, T*, Size, Length, Length);
  using Triangular = void(Flag, Flag, Flag, Flag, Size, Size, const T*, const T*, Size, T*, Size, Length,
                          Length, Length, Length);
  using TriangularVector = void(Flag, Flag, Flag, Size, const T*, Size, T*, Size, Length, Length, Length);
  using Factor = void(Flag, Size, T*, Size, Int* info, Length);
  using Syevd = void(Flag, Flag, Size, T*, Size, T*, T*, Size, Int*, Size, Int* info, Length, Length);
  using Gesdd = void(Flag, Size, Size, T*, Size, T*, T*, Size, T*, Size, T*, Size, Int*, Int* info, Length);

  Gemm* gemm;
  Syrk* syrk;
  Triangular *trsm, *trmm;
  TriangularVector* trsv;
  Factor *potrf, *lauum;
  Syevd* syevd;
  Gesdd* gesdd;
};

struct Library {
  std::string name, version, kernel, licence;
  std::string warning;  // empty, or that the kernel is far below what the CPU has
  Routines<float> singles;
  Routines<double> doubles;

  /// "OpenBLAS 0.3.34.481.3 (SkylakeX kernels, BSD-3-Clause)".
  std::string description() const;

  template <class T>
  void gemm(Order order, Op op_a, Op op_b, Index m, Index n, Index k, T alpha, const T* a, Index lda,
            const T* b, Index ldb, T beta, T* c, Index ldc) const;

  /// Upper triangle of c = a'a (op transpose) or a a' (op none); c: n x n, inner dimension k.
  template <class T>
  void syrk(Order order, Op op, Index n, Index k, const T* a, Index lda, T* c, Index ldc) const;

  /// Column-major a = l l', l over the lower triangle (30 % faster in oneMKL than r'r). Returns LAPACK's info.
  template <class T>
  Int potrf(Index n, T* a, Index lda) const;

  /// Column-major r r' over the upper triangle of r. Returns LAPACK's info.
  template <class T>
  Int lauum(Index n, T* r, Index ldr) const;

  /// x <- x r^-1, or x r'^-1 with op transpose (m x n, r upper triangular, column-major).
  template <class T>
  void trsm(Order order, Op op, Index m, Index n, const T* r, Index ldr, T* x, Index ldx) const;

  /// x <- x r (m x n, r upper triangular, column-major).
  template <class T>
  void trmm(Order order, Index m, Index n, const T* r, Index ldr, T* x, Index ldx) const;

  /// Column-major symmetric a (upper triangle) -> eigenvectors in columns, eigenvalues ascending. Returns
  /// LAPACK's info.
  template <class T>
  Int syevd(Index n, T* a, T* w, T* work, Index work_size, Int* iwork, Index iwork_size) const;

  /// Column-major a = u diag(s) vt, thin. Returns LAPACK's info. With work_size -1, only work[0], the size
  /// wanted, is set.
  template <class T>
  Int gesdd(Index m, Index n, T* a, Index lda, T* s, T* u, Index ldu, T* vt, Index ldvt, T* work,
            Index work_size, Int* iwork) const;

 private:
  /// trsm by the library alone.
  template <class T>
  void solve(Order order, Op op, Index m, Index n, const T* r, Index ldr, T* x, Index ldx) const;

  template <class T>
  void solve_row(Op op, Index n, const T* r, Index ldr, T* x, Index step) const;

  template <class T>
  const Routines<T>& routines() const {
    if constexpr (std::is_same_v<T, float>) {
      return singles;
    } else {
      return doubles;
    }
  }
};

/// The library that is chosen; automatic: oneMKL on CPUs made by Intel, OpenBLAS on all others, or the one that
/// was built in. Throws std::invalid_argument for one that was not built in and std::runtime_error for one that
/// cannot be loaded.
const Library& library(CpuOptions::Blas choice);

const Library& mkl();
const Library& openblas();

}  // namespace aurora::blas
