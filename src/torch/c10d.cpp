#include "aurora/torch/c10d.hpp"

#include "../error.hpp"

#if __has_include(<torch/csrc/distributed/c10d/GroupRegistry.hpp>)
#include <ATen/ATen.h>
#include <torch/version.h>

#include <algorithm>
#include <numeric>
#include <sstream>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <type_traits>
#include <utility>
#include <vector>

namespace aurora {
namespace {

using at::Tensor;
using WorkPointer = c10::intrusive_ptr<c10d::Work>;

Index bytes_of(const ConstMatrixView& values) { return values.cols * byte_size(values.dtype); }

/// `count` elements of memory that somebody else owns.
Tensor tensor_at(const void* data, Index count, at::ScalarType type, at::Device device) {
  const auto options = at::TensorOptions(device).dtype(type);
  if (count == 0) return at::empty({0}, options);
  return at::from_blob(const_cast<void*>(data), {count}, options);
}

at::ScalarType scalar_type(DType dtype) {
  return dtype == DType::f64    ? at::kDouble
         : dtype == DType::f32  ? at::kFloat
         : dtype == DType::bf16 ? at::kBFloat16
                                : at::kHalf;
}

/// Whether each part begins where the one before ends.
template <class View>
bool are_adjacent(std::span<const View> parts) {
  const std::byte* end = nullptr;
  for (const auto& part : parts) {
    if (part.cols == 0) continue;
    const auto* begin = static_cast<const std::byte*>(part.data);
    if (end != nullptr && begin != end) return false;
    end = begin + bytes_of(part);
  }
  return true;
}

/// The bytes of all parts in a row, as they lie or as new memory.
template <class View>
Tensor bytes_in_a_row(std::span<const View> parts, at::Device device, bool& is_new) {
  Index sum = 0;
  const void* begin = nullptr;
  for (const auto& part : parts) {
    if (sum == 0) begin = part.data;
    sum += bytes_of(part);
  }
  is_new = !are_adjacent(parts);
  if (!is_new) return tensor_at(begin, sum, at::kByte, device);
  return at::empty({sum}, at::TensorOptions(device).dtype(at::kByte));
}

template <class View>
std::vector<std::int64_t> byte_counts(std::span<const View> parts) {
  std::vector<std::int64_t> counts;
  for (const auto& part : parts) counts.push_back(bytes_of(part));
  return counts;
}

WorkPointer start_uneven(c10d::ProcessGroup& group, Tensor& received, Tensor& sent,
                         std::vector<std::int64_t> received_counts, std::vector<std::int64_t> sent_counts,
                         const c10d::AllToAllOptions& options) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
  return group.all_to_all_single(received, sent, received_counts, sent_counts, options);
#else
  return group.alltoall_base(received, sent, received_counts, sent_counts, options);
#endif
}

/// Without the calls that led there.
std::string reason_of(const std::exception& error) {
  const auto* with_calls = dynamic_cast<const c10::Error*>(&error);
  return with_calls == nullptr ? error.what() : with_calls->what_without_backtrace();
}

class C10dCollectives final : public Collectives {
 public:
  C10dCollectives(const std::string& group, at::Device device, std::chrono::milliseconds limit)
      : group_(c10d::resolve_process_group(group)), device_(device), limit_(limit) {
    if (limit_.count() == 0) limit_ = group_->getBackend(device.type())->getBackendOptions()->timeout;
  }

  int rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }
  std::string description() const override {
    return group_->getBackend(device_.type())->getBackendName() + ", rank " + std::to_string(rank()) +
           " of " + std::to_string(size());
  }

 private:
  /// An exchange in which parts may lie apart: what arrives in one row is dealt out at the end.
  struct AllToAll final : Exchange {
    AllToAll(const C10dCollectives& of, std::span<const ConstMatrixView> sends,
             std::span<const MatrixView> receives)
        : ranks(of) {
      bool is_new = false;
      sent = bytes_in_a_row(sends, ranks.device_, is_new);
      if (is_new) {
        std::vector<Tensor> parts;
        for (const auto& part : sends)
          parts.push_back(tensor_at(part.data, bytes_of(part), at::kByte, ranks.device_));
        at::cat_out(sent, parts);
      }
      received = bytes_in_a_row(receives, ranks.device_, is_new);
      if (is_new) apart.assign(receives.begin(), receives.end());
      work = ranks.guarded("all_to_all", [&] {
        c10d::AllToAllOptions options;
        options.timeout = ranks.limit_;
        return start_uneven(*ranks.group_, received, sent, byte_counts(receives), byte_counts(sends),
                            options);
      });
    }
    AllToAll(const AllToAll&) = delete;
    AllToAll& operator=(const AllToAll&) = delete;
    /// The engine may still read and write our memory where an error came before wait().
    ~AllToAll() override {
      try {
        if (work) work->wait();
      } catch (const std::exception&) {  // somebody is on the way out with an error already
      }
    }
    void wait() override {
      ranks.finish("all_to_all", std::exchange(work, {}));
      Index at = 0;
      for (const MatrixView& part : apart) {
        const Index bytes = bytes_of(part);
        tensor_at(part.data, bytes, at::kByte, ranks.device_).copy_(received.narrow(0, at, bytes));
        at += bytes;
      }
    }
    const C10dCollectives& ranks;
    Tensor sent, received;
    std::vector<MatrixView> apart;
    WorkPointer work;
  };

  /// An error of the engine as one that says who waited for what.
  template <class Call>
  std::invoke_result_t<Call> guarded(const char* operation, Call&& call) const {
    try {
      return call();
    } catch (const std::exception& error) {
      std::ostringstream text;
      text << "[aurora::ranks] " << operation << " among the ranks failed, or took longer than "
           << static_cast<double>(limit_.count()) / 1e3 << " s: " << description() << ": "
           << reason_of(error);
      throw std::runtime_error(text.str());
    }
  }

  void finish(const char* operation, const WorkPointer& work) const {
    guarded(operation, [&] {
      // A limit makes the host wait for a device, whose watchdog has the same limit.
      return device_.is_cpu() ? work->wait(limit_) : work->wait();
    });
  }

  void do_all_reduce(MatrixView values, Reduction reduction) override {
    std::vector<Tensor> tensors = {tensor_at(values.data, values.cols, scalar_type(values.dtype), device_)};
    c10d::AllreduceOptions options;
    options.reduceOp = reduction == Reduction::sum ? c10d::ReduceOp::SUM : c10d::ReduceOp::MIN;
    options.timeout = limit_;
    finish("all_reduce", guarded("all_reduce", [&] { return group_->allreduce(tensors, options); }));
  }

  void do_reduce_scatter(std::span<const ConstMatrixView> parts, MatrixView own) override {
    const auto type = scalar_type(own.dtype);
    const Tensor all = at::empty({size(), own.cols}, at::TensorOptions(device_).dtype(type));
    std::vector<MatrixView> receives;
    for (Index r = 0; r < size(); ++r) {
      receives.push_back({all.select(0, r).mutable_data_ptr(), 1, own.cols, own.cols, 1, 1, 0, own.dtype});
    }
    AllToAll(*this, parts, receives).wait();
    Tensor sum = tensor_at(own.data, own.cols, type, device_);
    sum.copy_(all.select(0, 0));
    for (Index r = 1; r < size(); ++r) sum.add_(all.select(0, r));
  }

  void do_all_gather(ConstMatrixView own, std::span<const MatrixView> parts) override {
    std::vector<std::pair<WorkPointer, std::vector<Tensor>>> works;
    for (int r = 0; r < size(); ++r) {
      const MatrixView& part = parts[static_cast<std::size_t>(r)];
      if (part.cols == 0) continue;
      std::vector<Tensor> tensors = {tensor_at(part.data, bytes_of(part), at::kByte, device_)};
      if (r == rank() && own.data != part.data) {
        tensors.front().copy_(tensor_at(own.data, bytes_of(own), at::kByte, device_));
      }
      works.emplace_back(guarded("all_gather", [&] { return started_broadcast(tensors, r); }), tensors);
    }
    for (const auto& [work, tensors] : works) finish("all_gather", work);
  }

  std::unique_ptr<Exchange> do_start_all_to_all(std::span<const ConstMatrixView> sends,
                                                std::span<const MatrixView> receives) override {
    return std::make_unique<AllToAll>(*this, sends, receives);
  }

  void do_broadcast(MatrixView values, int root) override {
    std::vector<Tensor> tensors = {tensor_at(values.data, bytes_of(values), at::kByte, device_)};
    finish("broadcast", guarded("broadcast", [&] { return started_broadcast(tensors, root); }));
  }

  void do_barrier() override {
    Tensor one = at::ones({1}, at::TensorOptions(device_).dtype(at::kFloat));
    do_all_reduce({one.mutable_data_ptr(), 1, 1, 1, 1, 1, 0, DType::f32}, Reduction::minimum);
    if (!device_.is_cpu()) one.item<float>();
  }

  WorkPointer started_broadcast(std::vector<Tensor>& tensors, int root) const {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    options.timeout = limit_;
    return group_->broadcast(tensors, options);
  }

  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  at::Device device_;
  std::chrono::milliseconds limit_;
};

}  // namespace

std::unique_ptr<Collectives> make_c10d_collectives(const std::string& group, c10::Device device,
                                                   std::chrono::milliseconds limit) {
  try {
    return std::make_unique<C10dCollectives>(group, device, limit);
  } catch (const std::exception& error) {
    fail("ranks", "There is no process group for these tensors: '", group, "' on ", device.str(), ": ",
         reason_of(error));
  }
}

}  // namespace aurora

#else

namespace aurora {
std::unique_ptr<Collectives> make_c10d_collectives(const std::string& group, c10::Device,
                                                   std::chrono::milliseconds) {
  fail("ranks", "This libtorch was built without torch.distributed: no process group '", group, "'");
}
}  // namespace aurora
#endif
