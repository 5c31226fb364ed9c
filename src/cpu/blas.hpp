#pragma once

#include <string>

#include "aurora/backend.hpp"

// Typed calls into BLAS and LAPACK; the only part of the project that knows which library that is.
namespace aurora::blas {

using Int = int;  // lp64

enum class Order { row, column };
enum class Op { none, transpose };

template <class T>
void gemm(Order order, Op op_a, Op op_b, Index m, Index n, Index k, T alpha, const T* a, Index lda,
          const T* b, Index ldb, T beta, T* c, Index ldc);

/// Upper triangle of c = a'a (op transpose) or a a' (op none); c: n x n, inner dimension k.
template <class T>
void syrk(Order order, Op op, Index n, Index k, const T* a, Index lda, T* c, Index ldc);

/// Column-major a = l l', l over the lower triangle (30 % faster in oneMKL than r'r). Returns LAPACK's info.
template <class T>
Int potrf(Index n, T* a, Index lda);

/// Column-major r r' over the upper triangle of r. Returns LAPACK's info.
template <class T>
Int lauum(Index n, T* r, Index ldr);

/// x <- x r^-1, or x r'^-1 with op transpose (m x n, r upper triangular, column-major).
template <class T>
void trsm(Order order, Op op, Index m, Index n, const T* r, Index ldr, T* x, Index ldx);

/// x <- x r (m x n, r upper triangular, column-major).
template <class T>
void trmm(Order order, Index m, Index n, const T* r, Index ldr, T* x, Index ldx);

/// Column-major symmetric a (upper triangle) -> eigenvectors in columns, eigenvalues ascending. Returns
/// LAPACK's info.
template <class T>
Int syevd(Index n, T* a, T* w, T* work, Index work_size, Int* iwork, Index iwork_size);

/// Column-major a = u diag(s) vt, thin. Returns LAPACK's info. With work_size -1, only work[0], the size
/// wanted, is set.
template <class T>
Int gesdd(Index m, Index n, T* a, Index lda, T* s, T* u, Index ldu, T* vt, Index ldvt, T* work,
          Index work_size, Int* iwork);

/// Threads of the calls from this thread (MKL) or of all calls (OpenBLAS).
void set_threads(int threads);

}  // namespace aurora::blas
