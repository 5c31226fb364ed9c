// Counts every allocation of the process: a step asks for memory the first time only.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>

#include "aurora/aurora.h"
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
          for (const Hyperparameter& field : hyperparameters(options)) {
            if (field.name == "polar") set_hyperparameter(options, "polar", schedule);
          }
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

TEST(CInterface, AllocatesNothingAfterTheFirstStepOfItsKind) {
  for (const std::string variant :
       {"adamw", "muon", "normuon", "aurora", "aurora:balance=carried", "row-normalized"}) {
    aurora_backend* backend = nullptr;
    aurora_rule* rule = nullptr;
    ASSERT_EQ(aurora_backend_create_cpu(2, &backend), AURORA_OK);
    ASSERT_EQ(aurora_rule_create(variant.c_str(), &rule), AURORA_OK);
    Random random(1);
    std::vector<float> memory[4];
    std::vector<aurora_matrix> lists[4];  // gradients, momentum, second state, weights
    for (const auto& [rows, cols] : {std::pair<Index, Index>{32, 12}, {32, 12}, {20, 20}}) {
      for (int i = 0; i < 4; ++i) memory[i].reserve(4096);
      for (int i = 0; i < 4; ++i) {
        const Index state = aurora_rule_row_state_size(rule, rows, cols);
        const bool short_state = i == 2 && variant != "adamw";
        const Index m = short_state ? std::max<Index>(state, 1) : rows, n = short_state ? 1 : cols;
        float* data = memory[i].data() + memory[i].size();
        for (Index k = 0; k < m * n; ++k)
          memory[i].push_back(i == 0 ? static_cast<float>(random.normal()) : 0.0F);
        lists[i].push_back(aurora_row_major(data, m, n, AURORA_FLOAT32));
      }
    }
    const auto &g = lists[0], &m = lists[1], &v = lists[2], &w = lists[3];
    const bool remembers = aurora_rule_row_state_size(rule, 2, 2) > 0;
    std::int64_t step = 0;
    const auto steps = [&] {
      EXPECT_EQ(aurora_rule_set(rule, "lr", 0.01), AURORA_OK);
      if (variant == "adamw") {
        EXPECT_EQ(aurora_adamw_step(backend, rule, ++step, 3, g.data(), m.data(), v.data(), w.data()),
                  AURORA_OK);
      } else {
        EXPECT_EQ(aurora_step(backend, rule, 3, g.data(), m.data(), remembers ? v.data() : nullptr, w.data()),
                  AURORA_OK);
        EXPECT_EQ(aurora_direction(backend, rule, 3, g.data(), w.data()), AURORA_OK);
      }
      memory[0][1] = std::numeric_limits<float>::infinity();  // not even the message of a skipped step
      EXPECT_EQ(
          variant == "adamw"
              ? aurora_adamw_step(backend, rule, 1, 3, g.data(), m.data(), v.data(), w.data())
              : aurora_step(backend, rule, 3, g.data(), m.data(), remembers ? v.data() : nullptr, w.data()),
          AURORA_NOT_FINITE);
      memory[0][1] = 1;
    };
    const long before = allocations;
    steps();
    EXPECT_GT(allocations, before) << "the counter does not see the library";
    const long after = allocations;
    for (int t = 0; t < 4; ++t) steps();
    EXPECT_EQ(allocations, after) << variant;
    aurora_rule_destroy(rule);
    aurora_backend_destroy(backend);
  }
}

}  // namespace
}  // namespace aurora::test
