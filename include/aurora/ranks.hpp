#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aurora/matrix.hpp"

namespace aurora {

// Processes ("ranks") that step one model together. A direction needs the whole matrix, so every matrix has an
// owner: one rank that computes its direction as if it were alone, with the bits of one process. Between the
// look and the application of a step there are three exchanges:
//
//   look -> Gate (all_reduce)  ->  owners gather what they lack  ->  blend, directions  ->  owners spread  ->  apply
//
// No exchange knows a rule and no rule knows a rank.

/// What is done with the values of all ranks.
enum class Reduction : std::uint8_t { sum, minimum };

/// An exchange that has begun: its operands must stay as they are until wait() has returned.
class Exchange {
 public:
  virtual ~Exchange() = default;
  /// Returns when the values received are there (on a device: for what is queued after it). Throws as the
  /// functions of Collectives do.
  virtual void wait() = 0;
};

/// Talk among ranks 0 .. size() - 1, on an existing engine. All of them call the same functions in the same
/// order. Operands are packed vectors (1 x n, any type; n may be 0) in the memory that the engine serves.
///
/// Throws std::invalid_argument where the operands do not fit, before anything is sent, and
/// std::runtime_error that names the operation, the rank and the time limit where another rank does not answer.
class Collectives {
 public:
  virtual ~Collectives() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// "MPI, rank 2 of 4": for people.
  virtual std::string description() const = 0;

  /// values <- the reduction of the values of all ranks: the same bits everywhere.
  void all_reduce(MatrixView values, Reduction reduction);
  /// own <- the sum over the ranks of their parts[rank()]; parts[r] is as long as the own of rank r.
  void reduce_scatter(std::span<const ConstMatrixView> parts, MatrixView own);
  /// parts[r] <- the own of rank r.
  void all_gather(ConstMatrixView own, std::span<const MatrixView> parts);
  /// receives[r] <- the sends[rank()] of rank r.
  void all_to_all(std::span<const ConstMatrixView> sends, std::span<const MatrixView> receives);
  /// The same; other work may be done until the exchange is waited for.
  std::unique_ptr<Exchange> start_all_to_all(std::span<const ConstMatrixView> sends,
                                             std::span<const MatrixView> receives);
  /// values <- the values of rank `root`.
  void broadcast(MatrixView values, int root);
  /// Returns when every rank has called it.
  void barrier() { do_barrier(); }

  /// Bytes that this rank has sent to others so far, by what the operations have to send: all_to_all and
  /// reduce_scatter the parts of the others, all_gather (R - 1) times its own, all_reduce 2 (R - 1) / R of its
  /// values (rounded down), broadcast (R - 1) times its values from the root.
  Index bytes_sent() const { return bytes_sent_; }

 private:
  virtual void do_all_reduce(MatrixView values, Reduction reduction) = 0;
  virtual void do_reduce_scatter(std::span<const ConstMatrixView> parts, MatrixView own) = 0;
  virtual void do_all_gather(ConstMatrixView own, std::span<const MatrixView> parts) = 0;
  virtual std::unique_ptr<Exchange> do_start_all_to_all(std::span<const ConstMatrixView> sends,
                                                        std::span<const MatrixView> receives) = 0;
  virtual void do_broadcast(MatrixView values, int root) = 0;
  virtual void do_barrier() = 0;

  Index bytes_sent_ = 0;
};

/// One packed vector as the operand of an exchange: 1 x count. `data` may be null where count is 0.
template <class T>
auto packed(T* data, Index count) {
  return BasicMatrixView<views::Data<T>>{data, 1, count, count, 1, 1, 0, dtype_of<std::remove_const_t<T>>()};
}

/// The owner of each of several matrices (or groups of matrices that stay together) with these costs: longest
/// processing time first, each to the rank with the least to do so far (ties: the lower index, the lower
/// rank). The same on every rank without talking. Throws std::invalid_argument for ranks < 1 and costs that
/// are negative or not finite.
std::vector<int> assign_owners(std::span<const double> costs, int ranks);

/// The largest cost of a rank over the mean of all: 1 is even. 1 where there is no cost.
double unevenness(std::span<const double> costs, std::span<const int> owners, int ranks);

}  // namespace aurora
