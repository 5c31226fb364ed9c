#pragma once

#include <cstdint>
#include <initializer_list>
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

/// Where a backend computes. On an accelerator results come to exist later than calls return.
enum class Device : std::uint8_t { cpu, accelerator };

/// Whether a step may write: decided, or a number on the device that nobody waits for.
struct Gate {
  bool open = true;
  ConstMatrixView flag = {};  // 1 x 1: 1 open, 0 shut; without data: `open` decides
};

/// A formula on numbers, one of the list in src/formulas.hpp.
struct Formula;

/// What a formula reads in one place of its arguments: one view (a batch), or one view per matrix. Along an
/// axis where it has size 1 and others have more, the same element is read everywhere.
class Operand {
 public:
  Operand(const ConstMatrixView& batch) : batch_(batch) {}
  Operand(const MatrixView& batch) : batch_(batch) {}
  Operand(std::span<const ConstMatrixView> matrices) : read_only_(matrices) {}
  Operand(std::span<const MatrixView> matrices) : writable_(matrices) {}

  /// Matrix b of the list or batch.
  ConstMatrixView at(Index b) const {
    const auto i = static_cast<std::size_t>(b);
    if (!read_only_.empty()) return read_only_[i];
    if (!writable_.empty()) return writable_[i];
    return matrix_of(batch_, batch_.batch == 1 ? 0 : b);
  }
  bool is_list() const { return !read_only_.empty() || !writable_.empty(); }
  const ConstMatrixView& batch() const { return batch_; }
  Index size() const {
    return is_list() ? static_cast<Index>(read_only_.size() + writable_.size()) : batch_.batch;
  }

 private:
  ConstMatrixView batch_;
  std::span<const ConstMatrixView> read_only_;
  std::span<const MatrixView> writable_;
};

/// What a formula writes in one place of its results; the same for writing.
class Result {
 public:
  Result(const MatrixView& batch) : batch_(batch) {}
  Result(std::span<const MatrixView> matrices) : matrices_(matrices) {}

  MatrixView at(Index b) const {
    return matrices_.empty() ? matrix_of(batch_, batch_.batch == 1 ? 0 : b)
                             : matrices_[static_cast<std::size_t>(b)];
  }
  bool is_list() const { return !matrices_.empty(); }
  const MatrixView& batch() const { return batch_; }
  Index size() const { return is_list() ? static_cast<Index>(matrices_.size()) : batch_.batch; }

 private:
  MatrixView batch_;
  std::span<const MatrixView> matrices_;
};

/// Memory that algorithms borrow: taken by blocks and given back in reverse order. Blocks begin at multiples
/// of 64 bytes.
class ScratchMemory {
 public:
  ScratchMemory() = default;
  ScratchMemory(const ScratchMemory&) = delete;
  ScratchMemory& operator=(const ScratchMemory&) = delete;
  virtual ~ScratchMemory() = default;
  virtual void* take(Index bytes) = 0;
  virtual Index mark() = 0;
  virtual void release(Index mark) noexcept = 0;
  /// Bytes held now.
  virtual Index bytes() const = 0;
};

/// Linear algebra on views: what every algorithm is written on. Each function acts on every matrix of a
/// batch; inputs come first and are read only, the last argument is written. Inputs and output may share
/// memory only where it says "in place". Arithmetic is in the output's type unless stated; sums along rows
/// are in double. Operands were checked by whoever took them from outside: here only shapes and types are.
///
/// A backend knows no optimizer. It owns scratch memory and nothing else, and serves one thread at a time: a
/// second one that comes while the first computes gets a std::logic_error.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  // What it is: its name for people ("cpu: oneMKL 2026.2 (AVX-512 kernels, ...), 2 threads"), where it computes, its
  // memory, and how it takes many matrices at once.
  virtual std::string description() const = 0;
  virtual Device device() const = 0;
  virtual ScratchMemory& memory() = 0;

  /// Calls work(part, group, begin, end) for ranges that together are all of 0 <= group < sizes.size(),
  /// 0 <= i < sizes[group]; each range once, each with a backend for that range alone. A CPU backend gives
  /// its threads one index after another, in order; others take a group at once. An exception of `work` is
  /// rethrown here after all ranges ended.
  template <class Work>
  void for_each_part(std::span<const Index> sizes, Work&& work) {
    using W = std::remove_reference_t<Work>;
    run_parts(sizes, &work, [](void* w, Backend& part, std::size_t group, Index begin, Index end) {
      (*static_cast<W*>(w))(part, group, begin, end);
    });
  }

  /// An uninitialised matrix (or batch) that lives until the enclosing ScratchFrame ends.
  MatrixView scratch(Index rows, Index cols, Index batch, DType dtype, Layout layout = Layout::row_major) {
    const bool by_rows = layout == Layout::row_major;
    return {memory().take(rows * cols * batch * byte_size(dtype)),
            rows,
            cols,
            by_rows ? cols : 1,
            by_rows ? 1 : rows,
            batch,
            rows * cols,
            dtype};
  }

  /// y = alpha x + beta y, converting between types; with beta = 0, y is not read. In place.
  virtual void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y) = 0;
  /// Every element of y = value.
  virtual void fill(double value, MatrixView y) = 0;
  /// d_i = sum_j x_ij y_ij, d: rows x 1.
  virtual void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d) = 0;
  /// y = diag(d) x, d: rows x 1. In place. Where d_i = 0 the row is zero whatever x holds.
  virtual void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y) = 0;
  /// y = x / |x|_F, without overflow or underflow for any finite x; zero stays zero. In place.
  virtual void normalize(ConstMatrixView x, MatrixView y) = 0;
  /// outputs = formula(inputs), element by element or summed along rows, as the formula says; nothing where
  /// the gate is shut. Every output holds as many matrices as the others. In place, element for element.
  virtual void apply(const Formula& formula, std::span<const Operand> inputs, std::span<const Result> outputs,
                     const Gate& gate) = 0;
  void apply(const Formula& formula, std::initializer_list<Operand> inputs,
             std::initializer_list<Result> outputs, const Gate& gate = {}) {
    apply(formula, std::span(inputs.begin(), inputs.size()), std::span(outputs.begin(), outputs.size()),
          gate);
  }

  /// c = alpha a b + beta c; with beta = 0, c is not read. All of one type.
  virtual void multiply(double alpha, ConstMatrixView a, ConstMatrixView b, double beta, MatrixView c) = 0;
  /// s = x'x, both triangles: cols x cols. All of one type.
  virtual void gram(ConstMatrixView x, MatrixView s) = 0;
  /// s = r r', both triangles, with r upper triangular; both column-major. r's other triangle may hold
  /// anything. A third of the work of gram.
  virtual void upper_row_gram(ConstMatrixView r, MatrixView s) = 0;
  /// s = r'r with r upper triangular, written over s (symmetric, column-major; the lower triangle becomes
  /// zero). One matrix. Returns the smallest diagonal element over the largest, or 0 where s is not positive
  /// definite to working precision; s is then undefined. Waits for the device.
  virtual double cholesky(MatrixView s) = 0;
  /// x <- x r^-1 with r upper triangular (column-major), or the transpose of such a view. The other triangle
  /// is not read.
  virtual void divide_by_upper(ConstMatrixView r, MatrixView x) = 0;
  /// x <- x r with r upper triangular (column-major). The other triangle is not read.
  virtual void multiply_by_upper(ConstMatrixView r, MatrixView x) = 0;
  /// s = V diag(w) V' with V orthogonal, w ascending (n x 1). `s` is symmetric and column-major on entry and
  /// holds V, an eigenvector per column, on return. Throws std::runtime_error when the iteration does not
  /// converge.
  virtual void symmetric_eigen(MatrixView s, MatrixView w) = 0;
  /// x = u diag(s) v' (thin, rows >= cols, s descending: cols x 1). x and u are column-major, v is row-major;
  /// x is destroyed. Throws std::runtime_error when the iteration does not converge.
  virtual void svd(MatrixView x, MatrixView u, MatrixView s, MatrixView v) = 0;

  /// flag <- 0 where an element of one of the matrices is not finite in the type `as`; else it stays. flag: 1
  /// x 1.
  virtual void all_finite(std::span<const ConstMatrixView> matrices, DType as, MatrixView flag) = 0;
  /// The elements in row-major order, matrix after matrix. Waits for the device, and nothing else does where
  /// it does not say so.
  virtual void download(ConstMatrixView x, std::span<double> values) = 0;

 protected:
  using PartFunction = void (*)(void* work, Backend& part, std::size_t group, Index begin, Index end);
  virtual void run_parts(std::span<const Index> sizes, void* work, PartFunction function) = 0;
};

/// Scratch matrices asked for while a frame lives end with it; frames nest.
class ScratchFrame {
 public:
  explicit ScratchFrame(Backend& backend) : memory_(backend.memory()), mark_(memory_.mark()) {}
  ScratchFrame(const ScratchFrame&) = delete;
  ScratchFrame& operator=(const ScratchFrame&) = delete;
  ~ScratchFrame() { memory_.release(mark_); }

 private:
  ScratchMemory& memory_;
  Index mark_;
};

/// The number in a 1 x 1 view. Waits for the device.
double number_in(Backend& backend, ConstMatrixView x);
/// The largest and the smallest element of one matrix. Wait for the device.
double largest(Backend& backend, ConstMatrixView x);
double smallest(Backend& backend, ConstMatrixView x);
/// Whether no element is Inf or NaN. Waits for the device.
bool all_finite(Backend& backend, ConstMatrixView x);

struct CpuOptions {
  /// automatic: oneMKL on CPUs made by Intel, OpenBLAS on all others, or the one that was built in.
  enum class Blas { automatic, openblas, mkl };

  int threads = 1;  // from 1 to 4096
  Blas blas = Blas::automatic;
};

/// BLAS and LAPACK on the CPU. Each matrix is computed by one thread with sequential BLAS, and threads share
/// the matrices: a matrix gets the same bits alone, in any group, and with any number of threads.
/// Throws std::invalid_argument for a BLAS that was not built in, std::runtime_error for one that cannot be
/// loaded.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options = {});

/// Name, version, chosen kernel and licence of the BLAS: "OpenBLAS 0.3.34.481.3 (SkylakeX kernels,
/// BSD-3-Clause)". Throws as make_cpu_backend does.
std::string blas_description(CpuOptions::Blas blas = CpuOptions::Blas::automatic);
/// Empty, or a sentence that says the BLAS picked a kernel far below what the CPU has. Throws as
/// make_cpu_backend does.
std::string blas_warning();

}  // namespace aurora
