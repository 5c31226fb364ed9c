// Counts every allocation of the process: a step asks for memory the first time only.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "support/group.hpp"

namespace {

std::atomic<long> allocations = 0;

void* counted(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) {
  ++allocations;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace aurora::test {
namespace {

/// A step with its views made beforehand, so that only the library allocates.
struct PreparedStep {
  Backend& backend;
  std::vector<ConstMatrixView> gradients;
  std::vector<MatrixView> momentum, row_states, squares, weights;
  std::int64_t step_number = 0;

  PreparedStep(Backend& backend_in, Group& group)
      : backend(backend_in),
        gradients(const_views(group.gradients)),
        momentum(views(group.momentum)),
        row_states(views(group.row_states)),
        squares(views(group.squares)),
        weights(views(group.weights)) {}

  void operator()(const Rule& rule) {
    if (const auto* adamw = std::get_if<AdamWOptions>(&rule)) {
      adamw_step(backend, *adamw, ++step_number, {gradients, momentum, squares, weights});
    } else {
      const bool stateful = !row_state_name(rule).empty();
      step(backend, rule,
           {gradients, momentum, weights,
            stateful ? std::span<const MatrixView>(row_states) : std::span<const MatrixView>()});
    }
  }
};

TEST(Step, AllocatesNothingAfterTheFirstOfItsKind) {
  for (const std::string& optimizer : rule_names()) {
    for (const std::string schedule : {"exact", "polar-express-5"}) {
      for (const Types& types : {kSingle, kHalf}) {
        for (const int threads : {1, 2}) {
          Rule options = rule_of(optimizer);
          if (optimizer != "adamw") set_hyperparameter(options, "polar", schedule);
          const auto backend = make_cpu_backend({.threads = threads});
          Random random(1);
          std::vector<std::vector<Matrix>> start;
          for (const auto& [rows, cols] : {std::pair<Index, Index>{32, 12}, {12, 32}, {20, 20}}) {
            start.push_back(
                {gaussian(random, rows, cols), gaussian(random, rows, cols), gaussian(random, rows, cols)});
          }
          std::vector<Group> groups;
          std::vector<PreparedStep> steps;
          for (const auto& matrices : start) groups.emplace_back(matrices, types);
          for (std::size_t g = 0; g < groups.size(); ++g) {
            for (std::size_t i = 0; i < 3; ++i) groups[g].gradients[i] = Stored(start[g][i], types.gradient);
            steps.emplace_back(*backend, groups[g]);
          }
          const auto step_all = [&] {
            for (PreparedStep& one : steps) one(options);
          };
          const long before = allocations;
          step_all();
          if (optimizer != "adamw") {
            EXPECT_GT(allocations, before) << "the counter does not see the library";
          }
          const long after = allocations;
          const Index held = backend->memory().bytes();
          for (int t = 0; t < 4; ++t) step_all();
          EXPECT_EQ(allocations, after) << optimizer << ", " << schedule << ", " << threads << " threads";
          EXPECT_EQ(backend->memory().bytes(), held)
              << optimizer << ", " << schedule << ", " << threads << " threads";
        }
      }
    }
  }
}

}  // namespace
}  // namespace aurora::test
