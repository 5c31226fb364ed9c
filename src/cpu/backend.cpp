#include "aurora/backend.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "../operands.hpp"
#include "blas.hpp"
#include "elementwise.hpp"

// libgomp's entry point for `#pragma omp parallel`. Called by name so that every compiler shares the one
// thread pool that libtorch uses too; a second pool would fight them for the cores.
extern "C" {
void GOMP_parallel(void (*function)(void*), void* data, unsigned thread_count, unsigned flags);
int omp_get_thread_num(void);
}

namespace aurora {
namespace {

/// Memory that grows by blocks and is never given back to the system.
class Arena final : public ScratchMemory {
 public:
  static constexpr Index kAlignment = 64;

  Arena() { marks_.reserve(64); }  // deeper than frames nest

  void* take(Index bytes) override {
    const Index size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    while (now_.block < blocks_.size() && now_.used + size > blocks_[now_.block].size)
      ++now_.block, now_.used = 0;
    if (now_.block == blocks_.size()) blocks_.emplace_back(std::max(size, 2 * own_bytes()));
    std::byte* start = blocks_[now_.block].data.get() + now_.used;
    now_.used += size;
    now_.in_use += size;
    peak_ = std::max(peak_, now_.in_use);
    return start;
  }

  Index mark() override {
    // Whoever takes the first mark has the backend until that is released.
    std::thread::id nobody;
    if (user_ != std::this_thread::get_id() &&
        !user_.compare_exchange_strong(nobody, std::this_thread::get_id())) {
      throw std::logic_error(
          "[aurora::Backend] A second thread uses this backend; each needs one of its own");
    }
    marks_.push_back(now_);
    return static_cast<Index>(marks_.size()) - 1;
  }
  void release(Index mark) noexcept override {
    now_ = marks_[static_cast<std::size_t>(mark)];
    marks_.resize(static_cast<std::size_t>(mark));
    if (marks_.empty()) user_ = std::thread::id();
  }

  /// The most bytes that were ever in use together.
  Index peak() const { return peak_; }
  /// Makes room for a use of `size` bytes that another arena has seen.
  void expect(Index size) {
    if (peak_ >= size) return;
    const bool fits =
        std::any_of(blocks_.begin(), blocks_.end(), [&](const Block& block) { return block.size >= size; });
    if (!fits) blocks_.emplace_back(size);
  }

  Index own_bytes() const {
    Index sum = 0;
    for (const auto& block : blocks_) sum += block.size;
    return sum;
  }
  Index bytes() const override {
    Index sum = own_bytes();
    for (const Arena* worker : workers_) sum += worker->bytes();
    return sum;
  }
  void count_too(const Arena& worker) { workers_.push_back(&worker); }

 private:
  struct AlignedDelete {
    void operator()(std::byte* data) const { ::operator delete[](data, std::align_val_t{kAlignment}); }
  };
  struct Block {
    explicit Block(Index bytes)
        : data(static_cast<std::byte*>(
              ::operator new[](static_cast<std::size_t>(bytes), std::align_val_t{kAlignment}))),
          size(bytes) {}
    std::unique_ptr<std::byte[], AlignedDelete> data;
    Index size;
  };
  struct Position {
    std::size_t block = 0;
    Index used = 0;    // of that block
    Index in_use = 0;  // of all
  };
  std::vector<Block> blocks_;
  std::vector<Position> marks_;
  Position now_;
  Index peak_ = 0;
  std::vector<const Arena*> workers_;  // whose bytes are counted here
  std::atomic<std::thread::id> user_;
};

/// A view as BLAS sees it.
struct BlasView {
  blas::Order order;
  Index leading;
};

BlasView blas_view(const ConstMatrixView& view) {
  if (layout_of(view) == Layout::row_major) return {blas::Order::row, std::max(view.row_stride, view.cols)};
  return {blas::Order::column, std::max(view.cols == 1 ? view.rows : view.col_stride, view.rows)};
}

blas::Op op_for(const BlasView& a, const BlasView& result) {
  return a.order == result.order ? blas::Op::none : blas::Op::transpose;
}

/// The threads of libgomp stay with the process that started them: in a child of it, a parallel region would
/// wait for them for ever.
void refuse_threads_of_a_parent() {
  static std::atomic<pid_t> owner = 0;
  pid_t expected = 0;
  const pid_t self = getpid();
  if (owner.compare_exchange_strong(expected, self) || expected == self) return;
  throw std::runtime_error(
      "[aurora::CpuBackend] The threads of a parent process do not survive a fork; one thread works, or a "
      "fork "
      "before the first step: child " +
      std::to_string(self) + " of " + std::to_string(expected));
}

template <class Work>
void visit_float(DType dtype, Work&& work) {
  dtype == DType::f64 ? work(double{}) : work(float{});
}

template <class T>
const T* elements(const ConstMatrixView& view, Index b) {
  return static_cast<const T*>(view.data) + b * view.batch_stride;
}
template <class T>
T* elements(const MatrixView& view, Index b) {
  return static_cast<T*>(view.data) + b * view.batch_stride;
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(int threads, const blas::Library& blas) : blas_(blas), threads_(threads) {
    if (threads < 1 || threads > 4096)
      fail("make_cpu_backend", "From 1 to 4096 threads can be had: ", threads);
    for (int i = 0; threads > 1 && i < threads; ++i)
      workers_.push_back(std::make_unique<CpuBackend>(1, blas));
    for (const auto& worker : workers_) memory_.count_too(worker->memory_);
  }

  std::string description() const override {
    return "cpu: " + blas_.description() + ", " + std::to_string(threads_) +
           (threads_ == 1 ? " thread" : " threads");
  }
  Device device() const override { return Device::cpu; }
  ScratchMemory& memory() override { return memory_; }

  void axpby(double alpha, ConstMatrixView x, double beta, MatrixView y) override {
    require_same_shape("axpby", x, y);
    cpu::axpby(alpha, x, beta, y);
  }
  void scale_rows(ConstMatrixView d, ConstMatrixView x, MatrixView y) override {
    require_same_shape("scale_rows", x, y);
    require_vector("scale_rows", x, d);
    cpu::scale_rows(d, x, y);
  }
  void row_dots(ConstMatrixView x, ConstMatrixView y, MatrixView d) override {
    require_same_shape("row_dots", x, y);
    require_vector("row_dots", x, d);
    cpu::row_dots(x, y, d);
  }
  void fill(double value, MatrixView y) override { cpu::fill(value, y); }
  void normalize(ConstMatrixView x, MatrixView y) override {
    require_same_shape("normalize", x, y);
    cpu::normalize(x, y);
  }
  using Backend::apply;
  void apply(const Formula& formula, std::span<const Operand> inputs, std::span<const Result> outputs,
             const Gate& gate) override {
    if (gate.flag.data != nullptr ? number_in(*this, gate.flag) != 0 : gate.open) {
      cpu::apply(formula, inputs, outputs);
    }
  }

  void multiply(double alpha, ConstMatrixView a, ConstMatrixView b, double beta, MatrixView c) override {
    require(a.cols == b.rows && a.batch == b.batch, "multiply", "Inner sizes differ: ", a, b);
    require(c.rows == a.rows && c.cols == b.cols && c.batch == a.batch, "multiply",
            "Result shape differs: ", a, c);
    require(a.dtype == b.dtype && a.dtype == c.dtype && is_wide(a.dtype), "multiply", "Types differ: ", a, c);
    const BlasView A = blas_view(a), B = blas_view(b), C = blas_view(c);
    visit_float(c.dtype, [&]<class T>(T) {
      for (Index i = 0; i < c.batch; ++i) {
        blas_.gemm<T>(C.order, op_for(A, C), op_for(B, C), c.rows, c.cols, a.cols, static_cast<T>(alpha),
                      elements<T>(a, i), A.leading, elements<T>(b, i), B.leading, static_cast<T>(beta),
                      elements<T>(c, i), C.leading);
      }
    });
  }

  void gram(ConstMatrixView x, MatrixView s) override {
    require(s.rows == x.cols && s.cols == x.cols && s.batch == x.batch, "gram", "Shapes do not fit: ", x, s);
    require(s.dtype == x.dtype && is_wide(s.dtype), "gram", "Types differ: ", x, s);
    const BlasView X = blas_view(x), S = blas_view(s);
    const blas::Op op = X.order == S.order ? blas::Op::transpose : blas::Op::none;
    visit_float(s.dtype, [&]<class T>(T) {
      for (Index i = 0; i < s.batch; ++i) {
        blas_.syrk<T>(S.order, op, s.rows, x.rows, elements<T>(x, i), X.leading, elements<T>(s, i),
                      S.leading);
      }
    });
    cpu::mirror_upper(s);
  }

  double cholesky(MatrixView s) override {
    require(s.rows == s.cols && s.batch == 1 && is_wide(s.dtype), "cholesky",
            "One square matrix is needed: ", s, s);
    require_column_major("cholesky", s);
    double ratio = 0;
    visit_float(s.dtype, [&]<class T>(T) {
      const Index ld = blas_view(s).leading;
      T* r = elements<T>(s, 0);
      if (blas_.potrf<T>(s.rows, r, ld) != 0) return;
      T smallest = r[0], largest_value = r[0];
      for (Index i = 1; i < s.rows; ++i) {
        smallest = std::min(smallest, r[i * ld + i]);
        largest_value = std::max(largest_value, r[i * ld + i]);
      }
      cpu::mirror_upper(transposed(s));  // r = l'
      for (Index j = 0; j < s.rows; ++j) std::fill(r + j * ld + j + 1, r + j * ld + s.rows, T{0});
      ratio = static_cast<double>(smallest) / static_cast<double>(largest_value);
    });
    return ratio;
  }

  void divide_by_upper(ConstMatrixView r, MatrixView x) override {
    const bool turned = r.row_stride != 1;
    require_triangular("divide_by_upper", turned ? transposed(r) : r, x);
    const blas::Op op = turned ? blas::Op::transpose : blas::Op::none;
    const BlasView R = blas_view(turned ? transposed(r) : r), X = blas_view(x);
    visit_float(x.dtype, [&]<class T>(T) {
      for (Index i = 0; i < x.batch; ++i) {
        blas_.trsm<T>(X.order, op, x.rows, x.cols, elements<T>(r, i), R.leading, elements<T>(x, i),
                      X.leading);
      }
    });
  }

  void multiply_by_upper(ConstMatrixView r, MatrixView x) override {
    require_triangular("multiply_by_upper", r, x);
    const BlasView R = blas_view(r), X = blas_view(x);
    visit_float(x.dtype, [&]<class T>(T) {
      for (Index i = 0; i < x.batch; ++i) {
        blas_.trmm<T>(X.order, x.rows, x.cols, elements<T>(r, i), R.leading, elements<T>(x, i), X.leading);
      }
    });
  }

  void upper_row_gram(ConstMatrixView r, MatrixView s) override {
    require_triangular("upper_row_gram", r, s);
    require_column_major("upper_row_gram", s);
    cpu::axpby(1.0, r, 0.0, s);
    visit_float(s.dtype, [&]<class T>(T) {
      for (Index i = 0; i < s.batch; ++i) {
        converged("upper_row_gram", s, blas_.lauum<T>(s.rows, elements<T>(s, i), blas_view(s).leading));
      }
    });
    cpu::mirror_upper(s);
  }

  void symmetric_eigen(MatrixView s, MatrixView w) override {
    require_vector("symmetric_eigen", s, w);
    require(s.rows == s.cols && s.dtype == w.dtype, "symmetric_eigen", "A square matrix is needed: ", s, w);
    require_column_major("symmetric_eigen", s);
    const ScratchFrame frame(*this);
    const Index n = s.rows, work_size = 1 + 6 * n + 2 * n * n, iwork_size = 3 + 5 * n;
    auto* iwork = reinterpret_cast<blas::Int*>(memory_.take(iwork_size * Index{sizeof(blas::Int)}));
    visit_float(s.dtype, [&]<class T>(T) {
      auto* work = reinterpret_cast<T*>(memory_.take(work_size * Index{sizeof(T)}));
      for (Index i = 0; i < s.batch; ++i) {
        converged(
            "symmetric_eigen", s,
            blas_.syevd<T>(n, elements<T>(s, i), elements<T>(w, i), work, work_size, iwork, iwork_size));
      }
    });
  }

  void svd(MatrixView x, MatrixView u, MatrixView s, MatrixView v) override {
    const Index m = x.rows, n = x.cols;
    require(m >= n && same_shape(x, u), "svd", "A tall matrix and its like are needed: ", x, u);
    require(v.rows == n && v.cols == n && layout_of(v) == Layout::row_major, "svd", "V is n x n by rows: ", x,
            v);
    require(s.rows == n && s.cols == 1 && s.dtype == x.dtype, "svd", "One number per column is needed: ", x,
            s);
    require_column_major("svd", x);
    require_column_major("svd", u);
    const ScratchFrame frame(*this);
    auto* iwork = reinterpret_cast<blas::Int*>(memory_.take(8 * n * Index{sizeof(blas::Int)}));
    visit_float(x.dtype, [&]<class T>(T) {
      const Index ld = blas_view(x).leading, ldu = blas_view(u).leading, ldv = std::max(n, v.row_stride);
      T wanted = 0;
      blas_.gesdd<T>(m, n, elements<T>(x, 0), ld, elements<T>(s, 0), elements<T>(u, 0), ldu,
                     elements<T>(v, 0), ldv, &wanted, -1, iwork);
      const auto work_size = static_cast<Index>(wanted);
      auto* work = reinterpret_cast<T*>(memory_.take(work_size * Index{sizeof(T)}));
      for (Index i = 0; i < x.batch; ++i) {
        converged("svd", x,
                  blas_.gesdd<T>(m, n, elements<T>(x, i), ld, elements<T>(s, i), elements<T>(u, i), ldu,
                                 elements<T>(v, i), ldv, work, work_size, iwork));
      }
    });
  }

  void all_finite(std::span<const ConstMatrixView> matrices, DType as, MatrixView flag) override {
    std::atomic<bool> finite = true;
    const auto count = static_cast<Index>(matrices.size());
    for_each_part({&count, 1}, [&](Backend&, std::size_t, Index begin, Index end) {
      for (Index i = begin; i < end && finite; ++i) {
        if (!cpu::all_finite(matrices[static_cast<std::size_t>(i)], as)) finite = false;
      }
    });
    if (!finite) cpu::fill(0.0, flag);
  }
  void download(ConstMatrixView x, std::span<double> values) override {
    if (static_cast<Index>(values.size()) != x.rows * x.cols * x.batch) {
      fail("download", "Sizes differ: ", shape_text(x), " vs ", values.size());
    }
    cpu::download(x, values);
  }

 protected:
  void run_parts(std::span<const Index> sizes, void* work, PartFunction function) override {
    struct Team {
      CpuBackend* self;
      std::span<const Index> sizes;
      void* work;
      PartFunction function;
      std::mutex mutex = {};
      std::size_t group = 0;  // of the next part
      Index index = 0;
      std::exception_ptr error = {};

      /// Takes the next part; false when there is none.
      bool next(std::size_t& of_group, Index& i) {
        const std::lock_guard lock(mutex);
        while (group < sizes.size() && index == sizes[group]) ++group, index = 0;
        if (group == sizes.size()) return false;
        of_group = group, i = index++;
        return true;
      }
      void run(CpuBackend& worker) {
        std::size_t of_group = 0;
        for (Index i = 0; next(of_group, i);) {
          try {
            function(work, worker, of_group, i, i + 1);
          } catch (...) {
            const std::lock_guard lock(mutex);
            if (!error) error = std::current_exception();
          }
        }
      }
    } team{this, sizes, work, function};
    Index count = 0;
    for (const Index size : sizes) count += size;
    if (workers_.empty() || count < 2) {
      team.run(*this);
    } else {
      refuse_threads_of_a_parent();
      const auto member = [](void* data) {
        auto& shared = *static_cast<Team*>(data);
        shared.run(*shared.self->workers_[static_cast<std::size_t>(omp_get_thread_num())]);
      };
      GOMP_parallel(member, &team, static_cast<unsigned>(std::min<Index>(threads_, count)), 0);
      // A thread that came too late for a matrix this time may come in time the next: it gets its memory now.
      Index most = 0;
      for (const auto& worker : workers_) most = std::max(most, worker->memory_.peak());
      for (const auto& worker : workers_) worker->memory_.expect(most);
    }
    if (team.error) std::rethrow_exception(team.error);
  }

 private:
  static void converged(std::string_view where, const ConstMatrixView& x, blas::Int info) {
    if (info == 0) return;
    throw std::runtime_error("[aurora::" + std::string(where) + "] LAPACK did not converge: " +
                             shape_text(x) + ", info " + std::to_string(info));
  }

  const blas::Library& blas_;
  int threads_;
  Arena memory_;
  std::vector<std::unique_ptr<CpuBackend>> workers_;  // one per thread, each on one thread
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
  return std::make_unique<CpuBackend>(options.threads, blas::library(options.blas));
}

std::string blas_description(CpuOptions::Blas blas) { return blas::library(blas).description(); }

std::string blas_warning() { return blas::library(CpuOptions::Blas::automatic).warning; }

}  // namespace aurora
