#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <thread>

#include "aurora/aurora.h"
#include "support/group.hpp"
#include "support/matchers.hpp"

namespace aurora::test {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

using CBackend = std::unique_ptr<aurora_backend, decltype(&aurora_backend_destroy)>;
using CRule = std::unique_ptr<aurora_rule, decltype(&aurora_rule_destroy)>;

CBackend c_backend(int threads = 1) {
  aurora_backend* backend = nullptr;
  EXPECT_EQ(aurora_backend_create_cpu(threads, &backend), AURORA_OK) << aurora_last_error();
  return {backend, aurora_backend_destroy};
}

CRule c_rule(const std::string& variant) {
  aurora_rule* rule = nullptr;
  EXPECT_EQ(aurora_rule_create(variant.c_str(), &rule), AURORA_OK) << aurora_last_error();
  return {rule, aurora_rule_destroy};
}

aurora_matrix c_matrix(Stored& stored) {
  const MatrixView view = stored.view();
  return {view.data,
          view.rows,
          view.cols,
          view.row_stride,
          view.col_stride,
          view.dtype == DType::f64    ? AURORA_FLOAT64
          : view.dtype == DType::bf16 ? AURORA_BFLOAT16
                                      : AURORA_FLOAT32};
}

std::vector<aurora_matrix> c_matrices(std::vector<Stored>& stored) {
  std::vector<aurora_matrix> list;
  for (Stored& matrix : stored) list.push_back(c_matrix(matrix));
  return list;
}

/// The step of a group of weights through the C interface.
aurora_status c_step(aurora_backend* backend, const aurora_rule* rule, Group& group, bool adamw = false,
                     Placement placement = {}) {
  const auto g = c_matrices(group.gradients), m = c_matrices(group.momentum), v = c_matrices(group.squares),
             w = c_matrices(group.weights);
  if (adamw) {
    return aurora_adamw_step(backend, rule, group.steps + 1, w.size(), g.data(), m.data(), v.data(),
                             w.data());
  }
  for (std::size_t i = 0; i < w.size(); ++i) {
    const std::int64_t size = aurora_rule_row_state_size(rule, w[i].rows, w[i].cols);
    if (size > 0 && group.row_states[i].view().rows != size) {
      group.row_states[i] = Stored(Matrix{size, 1}, group.momentum[i].view().dtype, placement);
    }
  }
  const auto r = c_matrices(group.row_states);
  const bool remembers = aurora_rule_row_state_size(rule, 2, 2) > 0;
  return aurora_step(backend, rule, w.size(), g.data(), m.data(), remembers ? r.data() : nullptr, w.data());
}

void expect_same(const std::vector<Stored>& actual, const std::vector<Stored>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_TRUE(same_bytes(actual[i], expected[i]));
}

TEST(CInterface, StepsToTheBitsOfTheCppInterface) {
  std::vector<std::string> variants = rule_names();
  for (const char* more :
       {"aurora:balance=carried+sides=longer", "aurora:lr=0.1+pp_iterations=3",
        "muon:polar=keller-jordan-5+nesterov=false", "adamw:betas=0.8,0.9+weight_decay=0.1"}) {
    variants.emplace_back(more);
  }
  for (const std::string& variant : variants) {
    for (const Types& types : {kDouble, kSingle, kHalf}) {
      for (const Placement& placement :
           {Placement{}, Placement{.column_major = true, .gap = 3, .offset = 1}}) {
        const Rule rule = parse_variant(variant);
        const CRule c = c_rule(variant);
        const auto backend = make_cpu_backend();
        const CBackend c_on = c_backend(2);
        Random random(1);
        const std::vector<Matrix> start = {gaussian(random, 24, 9), gaussian(random, 9, 24),
                                           gaussian(random, 12, 12)};
        Group ours(start, types, placement), theirs(start, types, placement);
        for (int t = 0; t < 3; ++t) {
          std::vector<Stored> gradients;
          for (const Matrix& weight : start) {
            gradients.emplace_back(gaussian(random, weight.rows, weight.cols), types.gradient, placement);
          }
          ours.gradients = theirs.gradients = gradients;
          ASSERT_TRUE(theirs.step(*backend, rule).applied);
          ASSERT_EQ(c_step(c_on.get(), c.get(), ours, name(rule) == "adamw", placement), AURORA_OK)
              << aurora_last_error();
          ours.steps++;
          EXPECT_STREQ(aurora_last_error(), "");
          expect_same(ours.gradients, gradients);
        }
        SCOPED_TRACE(variant);
        expect_same(ours.weights, theirs.weights);
        expect_same(ours.momentum, theirs.momentum);
        expect_same(ours.squares, theirs.squares);
        if (!row_state_name(rule).empty()) expect_same(ours.row_states, theirs.row_states);
      }
    }
  }
}

TEST(CInterface, DirectionsAreThoseOfTheCppInterfaceFromARowStateOfZeros) {
  const auto backend = make_cpu_backend();
  const CBackend c_on = c_backend(2);
  Random random(2);
  for (const char* variant :
       {"muon", "normuon", "u-normuon", "aurora", "riemannian-aurora", "aurora:balance=carried"}) {
    for (const DType type : {DType::f32, DType::f64}) {
      std::vector<Stored> gradients, expected, actual;
      for (const auto& [rows, cols] : {std::pair<Index, Index>{20, 7}, {7, 20}, {20, 7}}) {
        gradients.emplace_back(gaussian(random, rows, cols), type);
        expected.emplace_back(Matrix{rows, cols}, type);
        actual.emplace_back(Matrix{rows, cols}, type);
        const Rule rule = parse_variant(variant);
        Stored state(Matrix{std::max<Index>(1, row_state_size(rule, rows, cols)), 1}, type);
        direction(*backend, rule, gradients.back().cview(), expected.back().view(), state.view());
      }
      const auto g = c_matrices(gradients), u = c_matrices(actual);
      ASSERT_EQ(aurora_direction(c_on.get(), c_rule(variant).get(), 3, g.data(), u.data()), AURORA_OK)
          << aurora_last_error();
      expect_same(actual, expected);
    }
  }
}

/// Everything that three weights of normuon need, and the call whose arguments a test spoils.
struct Call {
  CBackend backend = c_backend();
  CRule rule = c_rule("normuon"), adamw = c_rule("adamw");
  Group group{{Matrix{4, 3}, Matrix{4, 3}, Matrix{4, 3}}, kSingle};
  std::vector<aurora_matrix> g, m, r, v, w;

  Call() {
    Random random(3);
    for (Stored& gradient : group.gradients) gradient = Stored(gaussian(random, 4, 3), DType::f32);
    g = c_matrices(group.gradients), m = c_matrices(group.momentum), r = c_matrices(group.row_states);
    v = c_matrices(group.squares), w = c_matrices(group.weights);
  }
  aurora_status step() {
    return aurora_step(backend.get(), rule.get(), 3, g.data(), m.data(), r.data(), w.data());
  }
  aurora_status adamw_step() {
    return aurora_adamw_step(backend.get(), adamw.get(), 1, 3, g.data(), m.data(), v.data(), w.data());
  }
  aurora_status direction() { return aurora_direction(backend.get(), rule.get(), 3, g.data(), w.data()); }
  void expect_nothing_written() {
    const Group fresh{{Matrix{4, 3}, Matrix{4, 3}, Matrix{4, 3}}, kSingle};
    expect_same(group.weights, fresh.weights);
    expect_same(group.momentum, fresh.momentum);
    expect_same(group.row_states, fresh.row_states);
    expect_same(group.squares, fresh.squares);
  }
};

TEST(CInterface, RefusesAMatrixThatIsNoneAndWritesNothing) {
  struct Misuse {
    const char* what;
    std::function<void(aurora_matrix&)> harm;
    const char* named;
  };
  const std::vector<Misuse> misuses = {
      {"no data", [](aurora_matrix& x) { x.data = nullptr; }, "no data"},
      {"no rows", [](aurora_matrix& x) { x.rows = 0; }, "0x3"},
      {"negative columns", [](aurora_matrix& x) { x.cols = -3; }, "4x-3"},
      {"more rows than there are",
       [](aurora_matrix& x) { x.rows = std::numeric_limits<std::int64_t>::max(); }, "9223372036854775807"},
      {"no stride of 1", [](aurora_matrix& x) { x.col_stride = 2; }, "stride"},
      {"a stride shorter than a row", [](aurora_matrix& x) { x.row_stride = 2; }, "row stride 2"},
      {"a stride beyond memory", [](aurora_matrix& x) { x.row_stride = std::int64_t{1} << 62; }, "memory"},
      {"an unknown type",
       [](aurora_matrix& x) {
         const int n = 3;
         std::memcpy(&x.dtype, &n, sizeof n);
       },
       "3"},
      {"a type whose low byte is known",
       [](aurora_matrix& x) {
         const int n = 256;
         std::memcpy(&x.dtype, &n, sizeof n);
       },
       "256"},
      {"another shape", [](aurora_matrix& x) { x.rows = 3; }, "3x3"},
  };
  for (const auto& [what, harm, named] : misuses) {
    SCOPED_TRACE(what);
    const bool one_stride =
        std::string(what) == "no stride of 1" || std::string(what) == "a stride shorter than a row";
    using Arguments = std::vector<aurora_matrix> Call::*;
    for (const Arguments argument : {&Call::g, &Call::m, &Call::r, &Call::w}) {
      Call call;
      if (argument == &Call::r && one_stride) continue;  // of a single column
      continue;                                          // of one column
      harm((call.*argument)[1]);
      EXPECT_EQ(call.step(), AURORA_INVALID);
      EXPECT_THAT(aurora_last_error(), HasSubstr("[aurora::step]"));
      EXPECT_THAT(aurora_last_error(), ContainsRegex(argument == &Call::r ? "row.state" : named));
      call.expect_nothing_written();
    }
    for (const Arguments argument : {&Call::g, &Call::m, &Call::v, &Call::w}) {
      Call call;
      harm((call.*argument)[2]);
      EXPECT_EQ(call.adamw_step(), AURORA_INVALID);
      EXPECT_THAT(aurora_last_error(), AllOf(HasSubstr("[aurora::adamw_step]"), HasSubstr(named)));
      call.expect_nothing_written();
    }
    for (const Arguments argument : {&Call::g, &Call::w}) {
      Call call;
      harm((call.*argument)[2]);
      EXPECT_EQ(call.direction(), AURORA_INVALID);
      EXPECT_THAT(aurora_last_error(), AllOf(HasSubstr("[aurora::direction]"), HasSubstr(named)));
      call.expect_nothing_written();
    }
  }
}

TEST(CInterface, RefusesNullWhereSomethingIsNeeded) {
  Call call;
  aurora_backend* const b = call.backend.get();
  const aurora_rule *const rule = call.rule.get(), *const adamw = call.adamw.get();
  const aurora_matrix *const g = call.g.data(), *const m = call.m.data(), *const r = call.r.data(),
                             *const v = call.v.data(), *const w = call.w.data();
  std::int64_t count = 7;
  aurora_rule* made = nullptr;
  const std::vector<std::pair<const char*, aurora_status>> calls = {
      {"backend", aurora_backend_create_cpu(1, nullptr)},
      {"backend", aurora_backend_create_cuda(0, nullptr, nullptr)},
      {"backend", aurora_backend_skipped_steps(nullptr, &count)},
      {"count", aurora_backend_skipped_steps(b, nullptr)},
      {"variant", aurora_rule_create(nullptr, &made)},
      {"rule", aurora_rule_create("muon", nullptr)},
      {"rule", aurora_rule_set(nullptr, "lr", 1)},
      {"name", aurora_rule_set(call.rule.get(), nullptr, 1)},
      {"backend", aurora_step(nullptr, rule, 3, g, m, r, w)},
      {"rule", aurora_step(b, nullptr, 3, g, m, r, w)},
      {"gradients", aurora_step(b, rule, 3, nullptr, m, r, w)},
      {"momentum_buffers", aurora_step(b, rule, 3, g, nullptr, r, w)},
      {"row_states", aurora_step(b, rule, 3, g, m, nullptr, w)},
      {"weights", aurora_step(b, rule, 3, g, m, r, nullptr)},
      {"backend", aurora_adamw_step(nullptr, adamw, 1, 3, g, m, v, w)},
      {"rule", aurora_adamw_step(b, nullptr, 1, 3, g, m, v, w)},
      {"gradients", aurora_adamw_step(b, adamw, 1, 3, nullptr, m, v, w)},
      {"exp_avgs", aurora_adamw_step(b, adamw, 1, 3, g, nullptr, v, w)},
      {"exp_avg_sqs", aurora_adamw_step(b, adamw, 1, 3, g, m, nullptr, w)},
      {"weights", aurora_adamw_step(b, adamw, 1, 3, g, m, v, nullptr)},
      {"backend", aurora_direction(nullptr, rule, 3, g, w)},
      {"rule", aurora_direction(b, nullptr, 3, g, w)},
      {"gradients", aurora_direction(b, rule, 3, nullptr, w)},
      {"directions", aurora_direction(b, rule, 3, g, nullptr)},
  };
  for (std::size_t i = 0; i < calls.size(); ++i)
    EXPECT_EQ(calls[i].second, AURORA_INVALID) << i << calls[i].first;
  EXPECT_EQ(aurora_step(b, rule, 3, g, m, r, nullptr), AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), AllOf(HasSubstr("NULL"), HasSubstr("weights")));
  EXPECT_EQ(aurora_rule_row_state_size(nullptr, 4, 3), -1);
  EXPECT_THAT(aurora_last_error(), HasSubstr("rule"));
  EXPECT_STREQ(aurora_backend_description(nullptr), "");
  aurora_backend_destroy(nullptr);
  aurora_rule_destroy(nullptr);
  call.expect_nothing_written();
  EXPECT_EQ(made, nullptr);
  EXPECT_EQ(count, 7);
}

TEST(CInterface, RefusesArgumentsThatDoNotGoTogether) {
  Call call;
  EXPECT_EQ(aurora_step(call.backend.get(), call.adamw.get(), 3, call.g.data(), call.m.data(), nullptr,
                        call.w.data()),
            AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), HasSubstr("adamw"));
  EXPECT_EQ(aurora_adamw_step(call.backend.get(), call.rule.get(), 1, 3, call.g.data(), call.m.data(),
                              call.v.data(), call.w.data()),
            AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), HasSubstr("normuon"));
  EXPECT_EQ(aurora_adamw_step(call.backend.get(), call.adamw.get(), 0, 3, call.g.data(), call.m.data(),
                              call.v.data(), call.w.data()),
            AURORA_INVALID);
  EXPECT_EQ(aurora_direction(call.backend.get(), call.adamw.get(), 3, call.g.data(), call.w.data()),
            AURORA_INVALID);
  EXPECT_EQ(aurora_step(call.backend.get(), c_rule("muon").get(), 3, call.g.data(), call.m.data(),
                        call.r.data(), call.w.data()),
            AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), HasSubstr("no row state"));
  EXPECT_EQ(aurora_step(call.backend.get(), call.rule.get(), std::numeric_limits<std::size_t>::max(),
                        call.g.data(), call.m.data(), call.r.data(), call.w.data()),
            AURORA_INVALID);
  EXPECT_EQ(aurora_direction(call.backend.get(), call.rule.get(), 2, call.g.data(), call.g.data() + 1),
            AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), HasSubstr("share memory"));
  std::vector<aurora_matrix> shared = call.w;
  shared[2].data = shared[0].data;
  EXPECT_EQ(aurora_direction(call.backend.get(), call.rule.get(), 3, call.g.data(), shared.data()),
            AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), HasSubstr("share memory"));
  call.expect_nothing_written();
}

TEST(CInterface, OfNoMatricesDoesNothing) {
  const Call call;
  EXPECT_EQ(aurora_step(call.backend.get(), call.rule.get(), 0, nullptr, nullptr, nullptr, nullptr),
            AURORA_OK);
  EXPECT_EQ(aurora_adamw_step(call.backend.get(), call.adamw.get(), 1, 0, nullptr, nullptr, nullptr, nullptr),
            AURORA_OK);
  EXPECT_EQ(aurora_direction(call.backend.get(), call.rule.get(), 0, nullptr, nullptr), AURORA_OK);
}

TEST(CInterface, AGradientWithAnInfOrNaNChangesNothingAndIsCounted) {
  for (const double bad :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    Call call;
    call.group.gradients[1] = Stored(Matrix{4, 3, 1, {1, 2, 3, 4, 5, bad, 7, 8, 9, 1, 2, 3}}, DType::f32);
    call.g = c_matrices(call.group.gradients);
    EXPECT_EQ(call.step(), AURORA_NOT_FINITE);
    EXPECT_THAT(aurora_last_error(), AllOf(HasSubstr("[aurora::step]"), HasSubstr("gradient 1")));
    EXPECT_EQ(call.adamw_step(), AURORA_NOT_FINITE);
    EXPECT_THAT(aurora_last_error(), AllOf(HasSubstr("[aurora::adamw_step]"), HasSubstr("gradient 1")));
    EXPECT_EQ(call.direction(), AURORA_NOT_FINITE);
    call.expect_nothing_written();
    std::int64_t count = 0;
    EXPECT_EQ(aurora_backend_skipped_steps(call.backend.get(), &count), AURORA_OK);
    EXPECT_EQ(count, 2);
  }
}

TEST(CInterface, AGradientThatItsStateCannotHoldChangesNothing) {
  Call call;
  Stored gradient(Matrix{4, 3, 1, std::vector<double>(12, 1e300)}, DType::f64);
  call.g[2] = c_matrix(gradient);
  EXPECT_EQ(call.step(), AURORA_NOT_FINITE);
  EXPECT_THAT(aurora_last_error(), HasSubstr("state"));
  call.expect_nothing_written();
}

TEST(CInterface, AMomentumWithANaNUnderFiniteGradientsIsInvalid) {
  Call call;
  Stored momentum(Matrix{4, 3, 1, std::vector<double>(12, std::numeric_limits<double>::quiet_NaN())},
                  DType::f32);
  call.m[2] = c_matrix(momentum);
  EXPECT_EQ(call.step(), AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), HasSubstr("weight 2"));
  call.expect_nothing_written();
}

TEST(CInterface, AVariantThatIsNoneMakesNoRule) {
  for (const char* variant : {"", "auroa", "aurora:", "aurora:lr", "aurora:lr=fast", "aurora:lr=-1",
                              "aurora:beta2=0.9", "adamw:betas=0.9,2"}) {
    aurora_rule* rule = nullptr;
    EXPECT_EQ(aurora_rule_create(variant, &rule), AURORA_INVALID) << variant;
    EXPECT_STRNE(aurora_last_error(), "");
    EXPECT_EQ(rule, nullptr);
  }
  aurora_rule* rule = nullptr;
  EXPECT_EQ(aurora_rule_create(std::string(100'000, 'x').c_str(), &rule), AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), HasSubstr("xxx"));
}

TEST(CInterface, SetsNumbersAndRefusesAllElse) {
  const CRule rule = c_rule("aurora");
  const auto set = [&](const char* name, double value) { return aurora_rule_set(rule.get(), name, value); };
  EXPECT_EQ(set("lr", 0.5), AURORA_OK);
  EXPECT_EQ(set("pp_iterations", 3), AURORA_OK);
  for (const auto& [name, value] :
       std::vector<std::pair<const char*, double>>{{"lr", -1},
                                                   {"lr", std::nan("")},
                                                   {"lr", HUGE_VAL},
                                                   {"momentum", 1},
                                                   {"pp_iterations", 2.5},
                                                   {"pp_iterations", 1e300},
                                                   {"nesterov", 1},
                                                   {"polar", 0},
                                                   {"beta2", 0.5},
                                                   {"pp_beta", 0.25},  // of balance=release
                                                   {"", 1}}) {
    EXPECT_EQ(set(name, value), AURORA_INVALID) << name << " = " << value;
    EXPECT_STRNE(aurora_last_error(), "");
  }
  // What was refused left the rule as it was: its step is that of the two that were taken.
  const auto step_of = [](const CRule& of) {
    Random random(5);
    Group group({gaussian(random, 9, 4)}, kDouble);
    group.gradients[0] = Stored(gaussian(random, 9, 4), DType::f64);
    EXPECT_EQ(c_step(c_backend().get(), of.get(), group), AURORA_OK) << aurora_last_error();
    return group.weights[0];
  };
  EXPECT_TRUE(same_bytes(step_of(rule), step_of(c_rule("aurora:lr=0.5+pp_iterations=3"))));
}

TEST(CInterface, TheRowStateIsAsLongAsTheRuleSays) {
  EXPECT_EQ(aurora_rule_row_state_size(c_rule("normuon").get(), 6, 9), 6);
  EXPECT_EQ(aurora_rule_row_state_size(c_rule("aurora:balance=carried").get(), 6, 9), 9);
  EXPECT_EQ(aurora_rule_row_state_size(c_rule("aurora").get(), 6, 9), 0);
  EXPECT_EQ(aurora_rule_row_state_size(c_rule("adamw").get(), 6, 9), 0);
  EXPECT_EQ(aurora_rule_row_state_size(c_rule("normuon").get(), 0, 9), -1);
}

TEST(CInterface, BackendsThatCannotBeMakeNone) {
  aurora_backend* backend = nullptr;
  for (const int threads : {0, -1, std::numeric_limits<int>::max()}) {
    EXPECT_EQ(aurora_backend_create_cpu(threads, &backend), AURORA_INVALID);
    EXPECT_THAT(aurora_last_error(), HasSubstr(std::to_string(threads)));
  }
  EXPECT_EQ(aurora_backend_create_cuda(0, nullptr, &backend), AURORA_INVALID);
  EXPECT_THAT(aurora_last_error(), HasSubstr("CUDA"));
  EXPECT_EQ(backend, nullptr);
  EXPECT_EQ(aurora_backend_description(c_backend(2).get()), make_cpu_backend({.threads = 2})->description());
}

TEST(CInterface, ErrorsBelongToTheThread) {
  aurora_rule* rule = nullptr;
  ASSERT_EQ(aurora_rule_create("here", &rule), AURORA_INVALID);
  std::thread([&] {
    EXPECT_STREQ(aurora_last_error(), "");
    EXPECT_EQ(aurora_rule_create("there", &rule), AURORA_INVALID);
    EXPECT_THAT(aurora_last_error(), HasSubstr("there"));
  }).join();
  EXPECT_THAT(aurora_last_error(), HasSubstr("here"));
  EXPECT_EQ(aurora_rule_create("muon", &rule), AURORA_OK);
  EXPECT_STREQ(aurora_last_error(), "");
  aurora_rule_destroy(rule);
}

TEST(CInterface, ThreadsWithBackendsOfTheirOwnShareARule) {
  const CRule rule = c_rule("aurora");
  Random random(6);
  const Matrix start = gaussian(random, 30, 12), gradient = gaussian(random, 30, 12);
  std::vector<Group> groups(4, Group({start}, kSingle));
  std::vector<std::thread> threads;
  for (Group& group : groups) {
    group.gradients[0] = Stored(gradient, DType::f32);
    threads.emplace_back([&] {
      const CBackend backend = c_backend();
      for (int t = 0; t < 5; ++t) EXPECT_EQ(c_step(backend.get(), rule.get(), group), AURORA_OK);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Group& group : groups) EXPECT_TRUE(same_bytes(group.weights[0], groups[0].weights[0]));
}

TEST(CInterface, SaysWhichAbiItHas) { EXPECT_EQ(aurora_abi_version(), AURORA_ABI_VERSION); }

}  // namespace
}  // namespace aurora::test
