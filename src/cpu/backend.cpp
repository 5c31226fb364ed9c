#include "aurora/backend.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

#include "blas.hpp"
#include "elementwise.hpp"
#include "operands.hpp"

// libgomp's entry point for `#pragma omp parallel`. Called by name so that every compiler shares the one
// thread pool that libtorch uses too; a second pool would fight them for the cores.
extern "C" {
void GOMP_parallel(void (*function)(void*), void* data, unsigned thread_count, unsigned flags);
int omp_get_thread_num(void);
}

namespace aurora {
namespace {

/// Memory that grows by blocks and is given back in reverse order, never to the system.
class Arena {
 public:
  static constexpr Index kAlignment = 64;

  Arena() { marks_.reserve(64); }  // deeper than frames nest

  std::byte* take(Index bytes) {
    const Index size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    while (now_.block < blocks_.size() && now_.used + size > blocks_[now_.block].size)
      ++now_.block, now_.used = 0;
    if (now_.block == blocks_.size()) blocks_.emplace_back(std::max(size, 2 * total()));
    std::byte* start = blocks_[now_.block].data.get() + now_.used;
    now_.used += size;
    now_.in_use += size;
    peak_ = std::max(peak_, now_.in_use);
    return start;
  }

  Index mark() {
    marks_.push_back(now_);
    return static_cast<Index>(marks_.size()) - 1;
  }
  void release(Index mark) {
    now_ = marks_[static_cast<std::size_t>(mark)];
    marks_.resize(static_cast<std::size_t>(mark));
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

  Index total() const {
    Index sum = 0;
    for (const auto& block : blocks_) sum += block.size;
    return sum;
  }

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
};

/// A view as BLAS sees it.
struct Operand {
  blas::Order order;
  Index leading;
};

Operand operand(const ConstMatrixView& view) {
  if (layout_of(view) == Layout::row_major) return {blas::Order::row, std::max(view.row_stride, view.cols)};
  return {blas::Order::column, std::max(view.cols == 1 ? view.rows : view.col_stride, view.rows)};
}

blas::Op op_for(const Operand& a, const Operand& result) {
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
  CpuBackend(int threads, const blas::Library& blas) : blas_(blas) { set_threads(threads); }

  std::string description() const override {
    return "cpu: " + blas_.description() + ", " + std::to_string(threads_) +
           (threads_ == 1 ? " thread" : " threads");
  }

  void set_threads(int threads) override {
    if (threads < 1) fail("CpuBackend::set_threads", "At least one thread is needed: ", threads);
    if (threads > 1) {
      while (workers_.size() < static_cast<std::size_t>(threads))
        workers_.push_back(std::make_unique<CpuBackend>(1, blas_));
    }
    threads_ = threads;
  }
  int threads() const override { return threads_; }

  MatrixView scratch(Index rows, Index cols, Index batch, DType dtype, Layout layout) override {
    void* data = arena_.take(rows * cols * batch * byte_size(dtype));
    const bool by_rows = layout == Layout::row_major;
    return {data, rows, cols, by_rows ? cols : 1, by_rows ? 1 : rows, batch, rows * cols, dtype};
  }
  Index scratch_bytes() const override {
    Index sum = arena_.total();
    for (const auto& worker : workers_) sum += worker->scratch_bytes();
    return sum;
  }

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
  void power_scales(ConstMatrixView h, double target, double exponent, double cut, MatrixView d) override {
    require_vector("power_scales", h, h);
    require_vector("power_scales", h, d);
    cpu::power_scales(h, target, exponent, cut, d);
  }
  void odds_step(ConstMatrixView h, MatrixView d) override {
    require_vector("odds_step", h, h);
    require_vector("odds_step", h, d);
    cpu::odds_step(h, d);
  }
  void tyler_step(ConstMatrixView h, MatrixView d) override {
    require_vector("tyler_step", h, h);
    require_vector("tyler_step", h, d);
    cpu::tyler_step(h, d);
  }
  void spread(ConstMatrixView h, ConstMatrixView d, MatrixView s) override {
    require_vector("spread", h, h);
    require_vector("spread", h, d);
    require_scalars("spread", h, s);
    cpu::spread(h, d, s);
  }
  void select_less(ConstMatrixView a, ConstMatrixView b, ConstMatrixView x, MatrixView y) override {
    require_same_shape("select_less", x, y);
    require_scalars("select_less", x, a);
    require_scalars("select_less", x, b);
    cpu::select_less(a, b, x, y);
  }
  void adopt_scales(ConstMatrixView e, MatrixView d) override {
    require_vector("adopt_scales", e, e);
    require_vector("adopt_scales", e, d);
    cpu::adopt_scales(e, d);
  }
  void resolvent_sums(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView p,
                      MatrixView q) override {
    require_resolvent("resolvent_sums", y, s, lam);
    require_vector("resolvent_sums", y, p);
    require_vector("resolvent_sums", y, q);
    cpu::resolvent_sums(y, s, lam, p, q);
  }
  void resolvent(ConstMatrixView y, ConstMatrixView s, ConstMatrixView lam, MatrixView w) override {
    require_resolvent("resolvent", y, s, lam);
    require_same_shape("resolvent", y, w);
    cpu::resolvent(y, s, lam, w);
  }
  void resolvent_newton(ConstMatrixView p, ConstMatrixView q, double target, double floor,
                        MatrixView x) override {
    require_vector("resolvent_newton", p, q);
    require_vector("resolvent_newton", p, x);
    cpu::resolvent_newton(p, q, target, floor, x);
  }
  void blend(std::span<const ConstMatrixView> gradients, double momentum, bool nesterov,
             std::span<const MatrixView> momentum_buffers, MatrixView blended) override {
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const MatrixView result = matrix_of(blended, static_cast<Index>(i));
      require_same_shape("blend", gradients[i], result);
      require_same_shape("blend", momentum_buffers[i], result);
      require(momentum_buffers[i].dtype == result.dtype && is_wide(result.dtype), "blend",
              "Types differ: ", momentum_buffers[i], result);
      cpu::blend(gradients[i], momentum, nesterov, momentum_buffers[i], result);
    }
  }
  void fill(double value, MatrixView y) override { cpu::fill(value, y); }
  void normalize(ConstMatrixView x, MatrixView y) override {
    require_same_shape("normalize", x, y);
    cpu::normalize(x, y);
  }

  void multiply(double alpha, ConstMatrixView a, ConstMatrixView b, double beta, MatrixView c) override {
    require(a.cols == b.rows && a.batch == b.batch, "multiply", "Inner sizes differ: ", a, b);
    require(c.rows == a.rows && c.cols == b.cols && c.batch == a.batch, "multiply",
            "Result shape differs: ", a, c);
    require(a.dtype == b.dtype && a.dtype == c.dtype && is_wide(a.dtype), "multiply", "Types differ: ", a, c);
    const Operand A = operand(a), B = operand(b), C = operand(c);
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
    const Operand X = operand(x), S = operand(s);
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
      const Index ld = operand(s).leading;
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
    const Operand R = operand(turned ? transposed(r) : r), X = operand(x);
    visit_float(x.dtype, [&]<class T>(T) {
      for (Index i = 0; i < x.batch; ++i) {
        blas_.trsm<T>(X.order, op, x.rows, x.cols, elements<T>(r, i), R.leading, elements<T>(x, i),
                      X.leading);
      }
    });
  }

  void multiply_by_upper(ConstMatrixView r, MatrixView x) override {
    require_triangular("multiply_by_upper", r, x);
    const Operand R = operand(r), X = operand(x);
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
        converged("upper_row_gram", s, blas_.lauum<T>(s.rows, elements<T>(s, i), operand(s).leading));
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
    auto* iwork = reinterpret_cast<blas::Int*>(arena_.take(iwork_size * Index{sizeof(blas::Int)}));
    visit_float(s.dtype, [&]<class T>(T) {
      auto* work = reinterpret_cast<T*>(arena_.take(work_size * Index{sizeof(T)}));
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
    auto* iwork = reinterpret_cast<blas::Int*>(arena_.take(8 * n * Index{sizeof(blas::Int)}));
    visit_float(x.dtype, [&]<class T>(T) {
      const Index ld = operand(x).leading, ldu = operand(u).leading, ldv = std::max(n, v.row_stride);
      T wanted = 0;
      blas_.gesdd<T>(m, n, elements<T>(x, 0), ld, elements<T>(s, 0), elements<T>(u, 0), ldu,
                     elements<T>(v, 0), ldv, &wanted, -1, iwork);
      const auto work_size = static_cast<Index>(wanted);
      auto* work = reinterpret_cast<T*>(arena_.take(work_size * Index{sizeof(T)}));
      for (Index i = 0; i < x.batch; ++i) {
        converged("svd", x,
                  blas_.gesdd<T>(m, n, elements<T>(x, i), ld, elements<T>(s, i), elements<T>(u, i), ldu,
                                 elements<T>(v, i), ldv, work, work_size, iwork));
      }
    });
  }

  void adam(const AdamScalars& scalars, ConstMatrixView gradient, MatrixView exp_avg, MatrixView exp_avg_sq,
            MatrixView weight) override {
    require_adam(gradient, exp_avg, exp_avg_sq, weight);
    cpu::adam(scalars, gradient, exp_avg, exp_avg_sq, weight);
  }
  bool all_finite(ConstMatrixView x) override {
    constexpr Index kElements = Index{1} << 18;  // worth a thread
    // Parts are ranges of rows, of columns where those lie side by side, or of the elements of a vector.
    if ((layout_of(x) == Layout::column_major) != (std::min(x.rows, x.cols) == 1)) x = transposed(x);
    const Index count = std::min<Index>(threads_, x.rows * x.cols * x.batch / kElements);
    if (count < 2) return cpu::all_finite(x);
    std::atomic<bool> finite = true;
    for_each_part(count, [&](Backend&, Index begin, Index end) {
      const Index first = begin * x.rows / count;
      ConstMatrixView part = x;
      part.data = static_cast<const std::byte*>(x.data) + first * x.row_stride * byte_size(x.dtype);
      part.rows = end * x.rows / count - first;
      if (!cpu::all_finite(part)) finite = false;
    });
    return finite;
  }
  double largest(ConstMatrixView x) override { return cpu::largest(x); }
  double smallest(ConstMatrixView x) override { return cpu::smallest(x); }
  void download(ConstMatrixView x, std::span<double> values) override {
    if (static_cast<Index>(values.size()) != x.rows * x.cols * x.batch) {
      fail("download", "Sizes differ: ", shape_text(x), " vs ", values.size());
    }
    cpu::download(x, values);
  }

 protected:
  void run_parts(Index count, void* work, PartFunction function) override {
    if (threads_ == 1 || count < threads_) {
      for (Index i = 0; i < count; ++i) function(work, *this, i, i + 1);
      return;
    }
    refuse_threads_of_a_parent();
    struct Team {
      CpuBackend* self;
      void* work;
      PartFunction function;
      Index count;
      std::atomic<Index> next = 0;
      std::mutex mutex = {};
      std::exception_ptr error = {};
    } team{this, work, function, count};
    const auto member = [](void* data) {
      auto& shared = *static_cast<Team*>(data);
      CpuBackend& worker = *shared.self->workers_[static_cast<std::size_t>(omp_get_thread_num())];
      for (Index i = shared.next++; i < shared.count; i = shared.next++) {
        try {
          shared.function(shared.work, worker, i, i + 1);
        } catch (...) {
          const std::lock_guard lock(shared.mutex);
          if (!shared.error) shared.error = std::current_exception();
        }
      }
    };
    GOMP_parallel(member, &team, static_cast<unsigned>(threads_), 0);
    // A thread that came too late for a matrix this time may come in time the next: it gets its memory now.
    Index most = 0;
    for (const auto& worker : workers_) most = std::max(most, worker->arena_.peak());
    for (const auto& worker : workers_) worker->arena_.expect(most);
    if (team.error) std::rethrow_exception(team.error);
  }
  Index scratch_mark() override { return arena_.mark(); }
  void scratch_release(Index mark) override { arena_.release(mark); }

 private:
  static void converged(std::string_view where, const ConstMatrixView& x, blas::Int info) {
    if (info == 0) return;
    throw std::runtime_error("[aurora::" + std::string(where) + "] LAPACK did not converge: " +
                             shape_text(x) + ", info " + std::to_string(info));
  }

  const blas::Library& blas_;
  int threads_ = 1;
  Arena arena_;
  std::vector<std::unique_ptr<CpuBackend>> workers_;  // one per thread, each on one thread
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
  return std::make_unique<CpuBackend>(options.threads, blas::library(options.blas));
}

std::string blas_description(CpuOptions::Blas blas) { return blas::library(blas).description(); }

std::string blas_warning() { return blas::library(CpuOptions::Blas::automatic).warning; }

}  // namespace aurora
