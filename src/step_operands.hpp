#pragma once

#include <vector>

#include "aurora/step.hpp"

namespace aurora {

/// Some memory that a call reads or writes.
struct Extent {
  ConstMatrixView view;
  bool written;
  std::string_view what;
  std::size_t index;
};

/// Throws std::invalid_argument where memory that is written overlaps other memory of the call. Sorts the
/// extents.
void require_apart(std::string_view where, std::vector<Extent>& extents);

/// The tensors of a step, checked, missing strides filled in, in the order in which they are stepped: by type
/// of state, then those that cost most first, so that weights of one shape and type stand together. Kept from
/// step to step for its memory alone.
class StepOperands {
 public:
  /// Throws std::invalid_argument as step says.
  void assign(const Rule& rule, const StepTensors& tensors);

  /// Weights [begin, end) of group `group`.
  StepTensors part(std::size_t group, Index begin, Index end) const;
  /// How many weights each group has.
  std::span<const Index> sizes() const { return sizes_; }
  /// Calls visit(gradients, momenta, type) for the weights of each type of state.
  template <class Visit>
  void for_each_type(Visit&& visit) const {
    for (std::size_t begin = 0, end = 0; begin < weights_.size(); begin = end) {
      const DType type = momentum_buffers_[begin].dtype;
      while (end < weights_.size() && momentum_buffers_[end].dtype == type) ++end;
      visit(std::span(gradients_).subspan(begin, end - begin),
            std::span(momenta_).subspan(begin, end - begin), type);
    }
  }
  /// The place, in the caller's order, of the first momentum that is not finite; -1: none.
  std::ptrdiff_t bad_momentum(Backend& backend) const;

 private:
  std::vector<std::size_t> order_;
  std::vector<ConstMatrixView> gradients_, momenta_;  // momenta_: momentum_buffers_ as they are read
  std::vector<MatrixView> momentum_buffers_, weights_, row_states_, directions_;
  std::vector<Index> sizes_;
  std::vector<std::size_t> firsts_;  // of each group
  std::vector<Extent> extents_;
};

/// The same for AdamW, in the caller's order; parameters may be vectors.
class AdamWOperands {
 public:
  void assign(const AdamWOptions& options, std::int64_t step, const AdamWTensors& tensors);
  AdamWTensors tensors() const { return {gradients_, exp_avgs_, exp_avg_sqs_, weights_}; }

  std::vector<Index> sizes;  // how the caller cuts each

 private:
  std::vector<ConstMatrixView> gradients_;
  std::vector<MatrixView> exp_avgs_, exp_avg_sqs_, weights_;
  std::vector<Extent> extents_;
};

}  // namespace aurora
