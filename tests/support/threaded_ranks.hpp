#pragma once

#include <algorithm>
#include <barrier>
#include <cstring>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "aurora/ranks.hpp"

namespace aurora::test {

/// Ranks that are threads of one process, and read each other's memory. Sums are in the order of the ranks, of
/// float32 and float64.
class ThreadedRanks {
 public:
  explicit ThreadedRanks(int size) : barrier_(size), posted_(static_cast<std::size_t>(size)) {}

  /// Calls work(collectives) in one thread for each rank. The first exception of a rank is rethrown, when all
  /// have ended.
  void run(const std::function<void(std::shared_ptr<Collectives>)>& work) {
    std::vector<std::exception_ptr> errors(posted_.size());
    std::vector<std::thread> threads;
    for (std::size_t r = 0; r < posted_.size(); ++r) {
      threads.emplace_back([&, r] {
        try {
          work(std::make_shared<Rank>(*this, static_cast<int>(r)));
        } catch (...) {
          errors[r] = std::current_exception();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    for (const auto& error : errors) {
      if (error != nullptr) std::rethrow_exception(error);
    }
  }

 private:
  using Views = std::vector<ConstMatrixView>;

  static void copy(const ConstMatrixView& from, const MatrixView& to) {
    const auto bytes = static_cast<std::size_t>(to.cols * byte_size(to.dtype));
    if (bytes > 0 && from.data != to.data) std::memcpy(to.data, from.data, bytes);
  }

  class Rank final : public Collectives {
   public:
    Rank(ThreadedRanks& room, int rank) : room_(room), rank_(rank) {}
    int rank() const override { return rank_; }
    int size() const override { return static_cast<int>(room_.posted_.size()); }
    std::string description() const override { return "threads, rank " + std::to_string(rank_); }

   private:
    struct Done final : Exchange {
      void wait() override {}
    };
    /// Shows `own` to all while `take` reads what the others show.
    template <class Take>
    void exchange(Views own, Take&& take) {
      room_.posted_[static_cast<std::size_t>(rank_)] = std::move(own);
      room_.barrier_.arrive_and_wait();
      take(room_.posted_);
      room_.barrier_.arrive_and_wait();
    }
    /// values <- what part `part` of all ranks comes to, in the order of the ranks.
    template <class T>
    void reduce(Views own, std::size_t part, const MatrixView& values, Reduction reduction) {
      std::vector<T> result(static_cast<std::size_t>(values.cols));
      exchange(std::move(own), [&](const std::vector<Views>& posted) {
        for (std::size_t r = 0; r < posted.size(); ++r) {
          const auto* other = static_cast<const T*>(posted[r][part].data);
          for (std::size_t i = 0; i < result.size(); ++i) {
            result[i] = r == 0                        ? other[i]
                        : reduction == Reduction::sum ? result[i] + other[i]
                                                      : std::min(result[i], other[i]);
          }
        }
      });
      std::ranges::copy(result, static_cast<T*>(values.data));
    }
    void reduce(Views own, std::size_t part, const MatrixView& values, Reduction reduction) {
      if (values.dtype == DType::f64) {
        reduce<double>(std::move(own), part, values, reduction);
      } else {
        reduce<float>(std::move(own), part, values, reduction);
      }
    }
    void do_all_reduce(MatrixView values, Reduction reduction) override {
      reduce({values}, 0, values, reduction);
    }
    void do_reduce_scatter(std::span<const ConstMatrixView> parts, MatrixView own) override {
      reduce({parts.begin(), parts.end()}, static_cast<std::size_t>(rank_), own, Reduction::sum);
    }
    void do_all_gather(ConstMatrixView own, std::span<const MatrixView> parts) override {
      exchange({own}, [&](const std::vector<Views>& posted) {
        for (std::size_t r = 0; r < posted.size(); ++r) copy(posted[r].front(), parts[r]);
      });
    }
    std::unique_ptr<Exchange> do_start_all_to_all(std::span<const ConstMatrixView> sends,
                                                  std::span<const MatrixView> receives) override {
      exchange({sends.begin(), sends.end()}, [&](const std::vector<Views>& posted) {
        for (std::size_t r = 0; r < posted.size(); ++r)
          copy(posted[r][static_cast<std::size_t>(rank_)], receives[r]);
      });
      return std::make_unique<Done>();
    }
    void do_broadcast(MatrixView values, int root) override {
      exchange({values}, [&](const std::vector<Views>& posted) {
        copy(posted[static_cast<std::size_t>(root)].front(), values);
      });
    }
    void do_barrier() override { room_.barrier_.arrive_and_wait(); }

    ThreadedRanks& room_;
    int rank_;
  };

  std::barrier<> barrier_;
  std::vector<Views> posted_;
};

}  // namespace aurora::test
