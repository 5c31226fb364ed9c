#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "aurora/ranks.hpp"

namespace aurora {

/// What another rank ended with: its exchanges and ours are over.
class RankFailed : public std::runtime_error {
 public:
  RankFailed(int exit_code, const std::string& message) : std::runtime_error(message), code(exit_code) {}
  int code;
};

/// The processes that an MPI launcher started together. One object for the life of the process: MPI begins
/// with it and ends with finish() or abort(). Every wait looks meanwhile whether another rank has failed, and
/// ends at the time limit. Sums are of float32 and float64; other types can be moved.
///
/// Beside what Collectives throws, an exchange throws RankFailed where another rank has called fail().
class MpiRanks final : public Collectives {
 public:
  /// Throws std::runtime_error where MPI sees other than `expected` processes: the launcher is another MPI's.
  MpiRanks(int expected, double limit_seconds);
  ~MpiRanks() override;
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;

  int rank() const override;
  int size() const override;
  std::string description() const override;
  /// Ranks on this machine.
  int neighbours() const;
  /// What messages say of the place: "step 17".
  void set_place(std::string place);

  /// Tells all others, whose present or next exchange throws it. To be followed by abort().
  void fail(int code, const std::string& message) noexcept;
  /// Ends all processes of the launcher, with this exit code.
  [[noreturn]] void abort(int code) noexcept;
  /// Returns when every rank has called it; nothing can be exchanged then.
  void finish();

 private:
  void do_all_reduce(MatrixView values, Reduction reduction) override;
  void do_reduce_scatter(std::span<const ConstMatrixView> parts, MatrixView own) override;
  void do_all_gather(ConstMatrixView own, std::span<const MatrixView> parts) override;
  std::unique_ptr<Exchange> do_start_all_to_all(std::span<const ConstMatrixView> sends,
                                                std::span<const MatrixView> receives) override;
  void do_broadcast(MatrixView values, int root) override;
  void do_barrier() override;

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aurora
