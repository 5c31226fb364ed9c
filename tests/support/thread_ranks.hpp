#pragma once

#include <barrier>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "aurora/ranks.hpp"

namespace aurora::test {

/// Ranks as threads of one process, for tests of what stands on Collectives: run(3, [](Collectives& ranks) {..})
/// calls the function three times at once and returns when all have returned. Sums are in the order of ranks.
class ThreadRanks final : public Collectives {
 public:
  static void run(int size, const std::function<void(Collectives&)>& work) {
    Shared shared(size);
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r)
      threads.emplace_back([&, r] {
        ThreadRanks ranks(shared, r);
        work(ranks);
      });
    for (auto& thread : threads) thread.join();
  }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(shared_.sent.size()); }
  std::string description() const override { return "threads"; }

 private:
  struct Shared {
    explicit Shared(int size) : meeting(size), sent(static_cast<std::size_t>(size)) {}
    std::barrier<> meeting;
    std::vector<std::vector<ConstMatrixView>> sent;  // by rank, for each rank or for all
  };
  struct Done final : Exchange {
    void wait() override {}
  };
  ThreadRanks(Shared& shared, int rank) : shared_(shared), rank_(rank) {}

  /// Shows the views to all, calls read(what all show) and returns when all have.
  template <class Read>
  void meet(std::vector<ConstMatrixView> views, const Read& read) {
    shared_.sent[static_cast<std::size_t>(rank_)] = std::move(views);
    shared_.meeting.arrive_and_wait();
    read(shared_.sent);
    shared_.meeting.arrive_and_wait();
  }
  static void copy(const ConstMatrixView& from, const MatrixView& to) {
    if (to.cols > 0)
      std::memmove(to.data, from.data, static_cast<std::size_t>(to.cols * byte_size(to.dtype)));
  }
  template <class T>
  static std::vector<T> reduced(const std::vector<std::vector<ConstMatrixView>>& sent, std::size_t part,
                                Reduction reduction) {
    const auto count = static_cast<std::size_t>(sent[0][part].cols);
    std::vector<T> result(count);
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t r = 0; r < sent.size(); ++r) {
        const T value = static_cast<const T*>(sent[r][part].data)[i];
        result[i] = r == 0                        ? value
                    : reduction == Reduction::sum ? result[i] + value
                                                  : std::min(result[i], value);
      }
    }
    return result;
  }
  template <class T>
  void reduce(std::vector<ConstMatrixView> views, std::size_t part, const MatrixView& to,
              Reduction reduction) {
    std::vector<T> result;
    meet(std::move(views), [&](const auto& sent) { result = reduced<T>(sent, part, reduction); });
    copy(packed(result.data(), std::ssize(result)), to);
  }

  void do_all_reduce(MatrixView values, Reduction reduction) override {
    if (values.dtype == DType::f64) {
      reduce<double>({values}, 0, values, reduction);
    } else {
      reduce<float>({values}, 0, values, reduction);
    }
  }
  void do_reduce_scatter(std::span<const ConstMatrixView> parts, MatrixView own) override {
    reduce<float>({parts.begin(), parts.end()}, static_cast<std::size_t>(rank_), own, Reduction::sum);
  }
  void do_all_gather(ConstMatrixView own, std::span<const MatrixView> parts) override {
    meet({own}, [&](const auto& sent) {
      for (std::size_t r = 0; r < parts.size(); ++r) copy(sent[r][0], parts[r]);
    });
  }
  std::unique_ptr<Exchange> do_start_all_to_all(std::span<const ConstMatrixView> sends,
                                                std::span<const MatrixView> receives) override {
    meet({sends.begin(), sends.end()}, [&](const auto& sent) {
      for (std::size_t r = 0; r < receives.size(); ++r)
        copy(sent[r][static_cast<std::size_t>(rank_)], receives[r]);
    });
    return std::make_unique<Done>();
  }
  void do_broadcast(MatrixView values, int root) override {
    meet({values}, [&](const auto& sent) {
      if (root != rank_) copy(sent[static_cast<std::size_t>(root)][0], values);
    });
  }
  void do_barrier() override { shared_.meeting.arrive_and_wait(); }

  Shared& shared_;
  int rank_;
};

}  // namespace aurora::test
