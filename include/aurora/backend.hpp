#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

#include "aurora/matrix.hpp"

namespace aurora {

/// How the elements of a scratch matrix lie in memory.
enum class Layout : std::uint8_t { row_major, column_major };

/// The layout that lets `view` and a scratch matrix be walked together.
inline Layout layout_of(const ConstMatrixView& view) {
  return view.col_stride == 1 && (view.row_stride != 1 || view.rows == 1) ? Layout::row_major
                                                                          : Layout::column_major;
}

/// beta1, beta2 and the two bias corrections of one Adam step; see adamw_step.
struct AdamScalars {
  double lr, beta1, beta2, eps, weight_decay;
  double bias_correction1;  // 1 - beta1^t
  double bias_correction2;  // 1 - beta2^t
};

/// The primitives that every algorithm is written on. Each acts on every matrix of a batch; inputs come first
/// and are read only, the last argument is written. Inputs and output may share memory only where it says "in
/// place". Arithmetic is in the output's type unless stated; sums along rows are in double.
///
/// A backend owns scratch memory and nothing else. It may be used by one thread at a time.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  /// What computes, for people: "cpu: oneMKL 2026.2 (AVX-512 kernels, ...), 2 threads".
  virtual std::string description() const = 0;

  /// Whether results come to exist later than calls return, as on a GPU. The default algorithms then keep to
  /// products and selections, which never wait.
  virtual bool asynchronous() const { return false; }
  /// In which type products of float32 matrices are best done where a relative error of 1e-3 will do; sums
  /// stay in float32.
  virtual DType product_type() const { return DType::f32; }

  /// How many threads the following calls may use; at least 1.
  virtual void set_threads(int threads) = 0;
  virtual int threads() const = 0;

  /// Calls work(backend, begin, end) for consecutive ranges that together are [0, count), each range at most
  /// once, each with a backend for that range alone. A CPU backend gives each thread one index after another;
  /// a GPU would take all at once. An exception of `work` is rethrown here after all ranges ended.
  template <class Work>
  void for_each_part(Index count, Work&& work) {
    using W = std::remove_reference_t<Work>;
    run_parts(count, &work, [](void* w, Backend& part, Index begin, Index end) {
      (*static_cast<W*>(w))(part, begin, end);
    });
  }

  /// An uninitialised matrix (or batch) that lives until the enclosing ScratchFrame ends. Starts at a
  /// multiple of 64 bytes. After the first step of a kind no more memory is asked of the system.
  virtual MatrixView scratch(Index rows, Index cols, Index batch, DType dtype,
                             Layout layout = Layout::row_major) = 0;
  /// Bytes of scratch memory held now.
  virtual Index scratch_bytes() const = 0;

  /// y = alpha x + beta y, converting between types; with beta = 0, y is not read. In place.
  virtual void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y) = 0;
  /// y = diag(d) x, d: rows x 1. In place. Where d_i = 0 the row is zero whatever x holds.
  virtual void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y) = 0;
  /// d_i = sum_j x_ij y_ij, d: rows x 1.
  virtual void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d) = 0;
  /// d_i = (target / h_i)^exponent where h_i > cut * max_i h_i and h_i > 0, else 0. h, d: rows x 1. In place.
  virtual void power_scales(ConstMatrixView h, double target, double exponent, double cut, MatrixView d) = 0;
  /// One step towards equal leverage h of the rows of diag(d) X, in place on d; h, d: rows x 1. Rows take
  /// part where d_i > 0 and h_i < 1 - 1e-6 (a row alone on its direction keeps leverage 1 whatever its
  /// scale); r is their mean leverage.
  ///   odds   d_i <- d_i max(1/100, sqrt(r / (1 - r) (1 - h_i) / h_i)), exact for each row as if the others
  ///   stood still tyler  d_i <- d_i sqrt(r / h_i)
  /// Then d is divided by its norm.
  virtual void odds_step(ConstMatrixView h, MatrixView d) = 0;
  virtual void tyler_step(ConstMatrixView h, MatrixView d) = 0;
  /// s = standard deviation / mean of sqrt(h_i) over the rows that take part, 0 where there are none; s: 1
  /// x 1.
  virtual void spread(ConstMatrixView h, ConstMatrixView d, MatrixView s) = 0;
  /// y <- x in those matrices of a batch where a < b; a, b: 1 x 1.
  virtual void select_less(ConstMatrixView a, ConstMatrixView b, ConstMatrixView x, MatrixView y) = 0;
  /// Takes carried scales d over to new rows with inverse norms e_i = 1 / |x_i| (0 for a row of zeros): with
  /// g the geometric mean of d_i / e_i over the rows where both are positive (1 if there are none), d_i <- g
  /// e_i where d_i is 0 or d_i / e_i is further from g than a factor of 1000, and d_i <- 0 where e_i is 0. In
  /// place on d.
  virtual void adopt_scales(ConstMatrixView e, MatrixView d) = 0;
  /// p_i = sum_j y_ij^2 / (s_j + lam_i)^2, q_i = sum_j y_ij^2 / (s_j + lam_i)^3; s: cols x 1, the rest rows
  /// x 1.
  virtual void resolvent_sums(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView p,
                              MatrixView q) = 0;
  /// w_ij = y_ij / (s_j + lam_i).
  virtual void resolvent(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView w) = 0;
  /// x_i <- max(floor, x_i + p_i / q_i (sqrt(p_i / target) - 1)): Newton on sum y^2 / (x + c)^2 = target.
  virtual void resolvent_newton(ConstMatrixView p, ConstMatrixView q, double target, double floor,
                                MatrixView x) = 0;
  // The ends of a step, on lists of matrices of one shape: all that writes to what outlives it. The defaults
  // go through them one by one.

  /// blend_momentum for every matrix, the blended gradients as a batch; see step.hpp.
  virtual void blend(std::span<const ConstMatrixView> gradients, double momentum, bool nesterov,
                     std::span<const MatrixView> momentum_buffers, MatrixView blended);
  /// to_i = matrix i of the batch.
  virtual void keep(ConstMatrixView batch, std::span<const MatrixView> to);
  /// apply_update for every weight, from a batch of directions; see step.hpp.
  virtual void apply(ConstMatrixView directions, double lr, double weight_decay, double scale,
                     std::span<const MatrixView> weights);

  /// Every element of y = value.
  virtual void fill(double value, MatrixView y) = 0;
  /// y = x / |x|_F, without overflow or underflow for any finite x; zero stays zero. In place.
  virtual void normalize(ConstMatrixView x, MatrixView y) = 0;
  /// c = alpha a b + beta c; with beta = 0, c is not read. All of one type.
  virtual void multiply(double alpha, ConstMatrixView a, ConstMatrixView b, double beta, MatrixView c) = 0;
  /// s = x'x, both triangles: cols x cols. All of one type.
  virtual void gram(ConstMatrixView x, MatrixView s) = 0;
  /// s = r'r with r upper triangular, written over s (symmetric, column-major; the lower triangle becomes
  /// zero). One matrix. Returns the smallest diagonal element over the largest, or 0 where s is not positive
  /// definite to working precision; s is then undefined. Waits for the device.
  virtual double cholesky(MatrixView s) = 0;
  /// x <- x r^-1 with r upper triangular (column-major), or the transpose of such a view. The other triangle
  /// is not read.
  virtual void divide_by_upper(ConstMatrixView r, MatrixView x) = 0;
  /// x <- x r with r upper triangular (column-major). The other triangle is not read.
  virtual void multiply_by_upper(ConstMatrixView r, MatrixView x) = 0;
  /// s = r r', both triangles, with r upper triangular; both column-major. r's other triangle may hold
  /// anything. A third of the work of gram.
  virtual void upper_row_gram(ConstMatrixView r, MatrixView s) = 0;
  /// s = V diag(w) V' with V orthogonal, w ascending (n x 1). `s` is symmetric and column-major on entry and
  /// holds V, an eigenvector per column, on return. Throws std::runtime_error when the iteration does not
  /// converge.
  virtual void symmetric_eigen(MatrixView s, MatrixView w) = 0;
  /// x = u diag(s) v' (thin, rows >= cols, s descending: cols x 1). x and u are column-major, v is row-major;
  /// x is destroyed. Throws std::runtime_error when the iteration does not converge.
  virtual void svd(MatrixView x, MatrixView u, MatrixView s, MatrixView v) = 0;
  /// One step of Adam with decoupled decay on every element, all matrices of one shape:
  /// m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; w = (1 - lr wd) w - lr (m / c1) / (sqrt(v / c2) + eps).
  virtual void adam(const AdamScalars& scalars, ConstMatrixView gradient, MatrixView exp_avg,
                    MatrixView exp_avg_sq, MatrixView weight) = 0;
  /// Whether no element is Inf or NaN. Waits for the device.
  virtual bool all_finite(ConstMatrixView x) = 0;
  /// The elements in row-major order, matrix after matrix. Waits for the device.
  virtual void download(ConstMatrixView x, std::span<double> values) = 0;
  /// The largest element. Waits for the device.
  virtual double largest(ConstMatrixView x) = 0;
  /// The smallest element. Waits for the device.
  virtual double smallest(ConstMatrixView x) = 0;

 protected:
  friend class ScratchFrame;
  using PartFunction = void (*)(void* work, Backend& part, Index begin, Index end);
  virtual void run_parts(Index count, void* work, PartFunction function) = 0;
  virtual Index scratch_mark() = 0;
  virtual void scratch_release(Index mark) = 0;
};

/// Scratch matrices asked for while a frame lives end with it; frames nest.
class ScratchFrame {
 public:
  explicit ScratchFrame(Backend& backend) : backend_(backend), mark_(backend.scratch_mark()) {}
  ScratchFrame(const ScratchFrame&) = delete;
  ScratchFrame& operator=(const ScratchFrame&) = delete;
  ~ScratchFrame() { backend_.scratch_release(mark_); }

 private:
  Backend& backend_;
  Index mark_;
};

struct CpuOptions {
  /// automatic: oneMKL on CPUs made by Intel, OpenBLAS on all others, or the one that was built in.
  enum class Blas { automatic, openblas, mkl };

  int threads = 1;  // >= 1
  Blas blas = Blas::automatic;
};

/// BLAS and LAPACK on the CPU. Bits repeat for equal thread counts on one machine. A group of at least
/// `threads` matrices gives each thread whole matrices; BLAS itself never starts a thread. Throws
/// std::invalid_argument for a BLAS that was not built in, std::runtime_error for one that cannot be loaded.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options = {});

/// Name, version, chosen kernel and licence of the BLAS: "OpenBLAS 0.3.34.481.3 (SkylakeX kernels,
/// BSD-3-Clause)". Throws as make_cpu_backend does.
std::string blas_description(CpuOptions::Blas blas = CpuOptions::Blas::automatic);
/// Empty, or a sentence that says the BLAS picked a kernel far below what the CPU has. Throws as
/// make_cpu_backend does.
std::string blas_warning();

}  // namespace aurora
