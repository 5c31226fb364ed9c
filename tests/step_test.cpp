#include "aurora/step.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "support/group.hpp"
#include "support/matchers.hpp"

namespace aurora::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

/// The step of a group with the blended gradients themselves as directions: SGD with momentum.
StepReport sgd_step(Backend& backend, const MuonOptions& options, Group& group) {
  const ScratchFrame frame(backend);
  const auto gradients = const_views(group.gradients);
  const auto momentum = views(group.momentum), weights = views(group.weights);
  const Gate gate = look(backend, options, {gradients, momentum, weights});
  const ConstMatrixView like = weights.front();
  const MatrixView blended = backend.scratch(like.rows, like.cols, static_cast<Index>(weights.size()),
                                             momentum.front().dtype, layout_of(like));
  blend(backend, gate, options, gradients, momentum, blended);
  apply(backend, gate, options, blended, {}, weights, {});
  return {.applied = gate.open};
}

void set_gradients(Group& group, const std::vector<Matrix>& values, DType dtype) {
  group.gradients.clear();
  for (const Matrix& gradient : values) group.gradients.emplace_back(gradient, dtype);
}

StepTensors tensors_of(const std::vector<ConstMatrixView>& gradients, const std::vector<MatrixView>& momentum,
                       const std::vector<MatrixView>& weights) {
  return {.gradients = gradients, .momentum_buffers = momentum, .weights = weights};
}

TEST(UpdateScale, OfEachNameAndShapeIsInThisTable) {
  struct Row {
    Index rows, cols;
    double aspect_ratio, rms_to_rms, match_rms_adamw;
  };
  const double root2 = std::sqrt(2.0);
  for (const auto& [rows, cols, aspect_ratio, rms_to_rms, match_rms_adamw] :
       {Row{64, 128, 1, 1 / root2, 0.2 * 8 * root2}, Row{128, 64, root2, root2, 0.2 * 8 * root2},
        Row{100, 100, 1, 1, 2}, Row{400, 100, 2, 2, 4}, Row{100, 400, 1, 0.5, 4}}) {
    EXPECT_DOUBLE_EQ(update_scale(UpdateScale::aspect_ratio, rows, cols), aspect_ratio);
    EXPECT_DOUBLE_EQ(update_scale(UpdateScale::rms_to_rms, rows, cols), rms_to_rms);
    EXPECT_DOUBLE_EQ(update_scale(UpdateScale::match_rms_adamw, rows, cols), match_rms_adamw);
    EXPECT_EQ(update_scale(UpdateScale::none, rows, cols), 1);
    EXPECT_THROW(update_scale(UpdateScale::published, rows, cols), std::invalid_argument);
  }
}

TEST(Step, WithTheIdentityForItsDirectionIsSgdWithMomentumExactly) {
  // Integers times powers of two: nothing rounds, in any of the types.
  for (const Types& types : {kDouble, kSingle, Types{DType::bf16, DType::f32, DType::f32}}) {
    for (const bool nesterov : {false, true}) {
      for (const auto& [rows, cols] : {std::pair<Index, Index>{6, 4}, {4, 6}, {33, 2}}) {
        Random random(1);
        const auto backend = make_cpu_backend();
        const MuonOptions options{.lr = 0.5,
                                  .momentum = 0.75,
                                  .nesterov = nesterov,
                                  .weight_decay = 0.25,
                                  .scale = UpdateScale::none};
        Matrix w = scaled(0x1p6, integers(random, rows, cols, -4, 4)), m{rows, cols};
        Group group({w}, types);
        for (int t = 0; t < 3; ++t) {
          const Matrix g = scaled(0x1p4, integers(random, rows, cols, -7, 7));
          m = sum(0.75, m, 0.25, g);
          const Matrix u = nesterov ? sum(0.75, m, 0.25, g) : m;
          w = sum(1 - 0.5 * 0.25, w, -0.5, u);
          set_gradients(group, {g}, types.gradient);
          ASSERT_TRUE(sgd_step(*backend, options, group).applied);
          EXPECT_TRUE(equal(group.momentum.front().values(), m));
          EXPECT_TRUE(equal(group.weights.front().values(), w));
        }
      }
    }
  }
}

TEST(Step, IsItsFourFunctionsInARow) {
  Random random(2);
  for (const std::string variant : {"muon", "normuon", "aurora", "aurora:balance=carried"}) {
    const Rule rule = parse_variant(variant);
    const auto backend = make_cpu_backend();
    const std::vector<Matrix> start(3, gaussian(random, 24, 10));
    Group whole(start, kSingle), parts(start, kSingle);
    for (int t = 0; t < 2; ++t) {
      std::vector<Matrix> gradients;
      for (int i = 0; i < 3; ++i) gradients.push_back(uneven_rows(random, 24, 10, 0.5));
      ASSERT_TRUE(whole.step(*backend, rule, gradients).applied);
      set_gradients(parts, gradients, DType::f32);
      const ScratchFrame frame(*backend);
      const auto g = const_views(parts.gradients);
      const auto m = views(parts.momentum), w = views(parts.weights);
      const auto s = row_state_name(rule).empty() ? std::vector<MatrixView>{} : views(parts.row_states);
      const Gate gate = look(*backend, rule, {g, m, w, s});
      ASSERT_TRUE(gate.open);
      const MatrixView B = backend->scratch(24, 10, 3, DType::f32),
                       U = backend->scratch(24, 10, 3, DType::f32);
      MatrixView memory = {};
      if (!s.empty()) {
        memory = backend->scratch(24, 1, 3, DType::f32);
        for (Index i = 0; i < 3; ++i) {
          backend->axpby(1.0, s[static_cast<std::size_t>(i)], 0.0, matrix_of(memory, i));
        }
      }
      blend(*backend, gate, rule, g, m, B);
      directions(*backend, rule, B, memory, U);
      apply(*backend, gate, rule, U, memory, w, s);
    }
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(same_bytes(whole.weights[i], parts.weights[i])) << variant;
      EXPECT_TRUE(same_bytes(whole.momentum[i], parts.momentum[i])) << variant;
      EXPECT_TRUE(same_bytes(whole.row_states[i], parts.row_states[i])) << variant;
    }
  }
}

TEST(Step, ScalesTheDirectionByTheShapeOfTheWeight) {
  Random random(2);
  const auto backend = make_cpu_backend();
  for (const auto& [rows, cols] : {std::pair<Index, Index>{64, 16}, {16, 64}}) {
    for (const UpdateScale scale :
         {UpdateScale::aspect_ratio, UpdateScale::rms_to_rms, UpdateScale::match_rms_adamw}) {
      const Matrix g = gaussian(random, rows, cols);
      Group group({Matrix{rows, cols}}, kDouble);
      set_gradients(group, {g}, DType::f64);
      sgd_step(*backend, {.lr = 1, .momentum = 0, .nesterov = false, .weight_decay = 0, .scale = scale},
               group);
      EXPECT_TRUE(relatively_close(group.weights.front().values(),
                                   scaled(-update_scale(scale, rows, cols), g), 1e-15));
    }
  }
}

TEST(Step, GivesTheDirectionBeforeScalingWhereItIsAskedFor) {
  Random random(4);
  const auto backend = make_cpu_backend();
  const Matrix g = gaussian(random, 12, 3);
  Group group({gaussian(random, 12, 3)}, kSingle);
  group.keep_directions();
  group.step(*backend, MuonOptions{.lr = 0.1, .scale = UpdateScale::match_rms_adamw}, {g});
  EXPECT_TRUE(close(group.directions.front().values(), reference_polar(g), 1e-6));
}

TEST(Step, TakesWeightsOfAnyShapesAndTypesInOneCallWithTheBitsOfEachAlone) {
  Random random(5);
  struct One {
    Index rows, cols;
    Types types;
  };
  for (const int threads : {1, 2, 3}) {
    const auto backend = make_cpu_backend({.threads = threads});
    const Rule rule = NorMuonOptions{};
    std::vector<Group> together, alone;
    for (const auto& [rows, cols, types] :
         {One{24, 10, kSingle}, {10, 24, kDouble}, {16, 16, kSingle}, {24, 10, kHalf}, {24, 10, kDouble}}) {
      const Matrix start = gaussian(random, rows, cols), g = gaussian(random, rows, cols);
      together.emplace_back(std::vector<Matrix>{start}, types);
      alone.emplace_back(std::vector<Matrix>{start}, types);
      set_gradients(together.back(), {g}, types.gradient);
      alone.back().step(*backend, rule, {g});
    }
    std::vector<ConstMatrixView> gradients;
    std::vector<MatrixView> momentum, weights, rows;
    for (Group& group : together) {
      gradients.push_back(group.gradients.front().cview());
      momentum.push_back(group.momentum.front().view());
      weights.push_back(group.weights.front().view());
      rows.push_back(group.row_states.front().view());
    }
    ASSERT_TRUE(step(*backend, rule, {gradients, momentum, weights, rows}).applied);
    for (std::size_t i = 0; i < together.size(); ++i) {
      EXPECT_TRUE(same_bytes(together[i].weights.front(), alone[i].weights.front())) << i;
      EXPECT_TRUE(same_bytes(together[i].row_states.front(), alone[i].row_states.front())) << i;
    }
  }
}

TEST(Step, OfOneWeightNeedsNoLists) {
  Random random(6);
  const auto backend = make_cpu_backend();
  const Matrix start = gaussian(random, 9, 4), g = gaussian(random, 9, 4);
  Group listed({start}, kSingle), single({start}, kSingle);
  listed.step(*backend, NorMuonOptions{}, {g});
  set_gradients(single, {g}, DType::f32);
  ASSERT_TRUE(step(*backend, NorMuonOptions{}, single.gradients.front().cview(),
                   single.momentum.front().view(), single.weights.front().view(),
                   single.row_states.front().view())
                  .applied);
  EXPECT_TRUE(same_bytes(listed.weights.front(), single.weights.front()));
}

TEST(Step, BehindAShutGateWritesNothingWhetherABoolOrAFlagShutsIt) {
  Random random(7);
  const auto backend = make_cpu_backend();
  float shut = 0, open = 1;
  for (const std::string variant : {"normuon", "aurora:balance=carried"}) {
    const Rule rule = parse_variant(variant);
    Group group({gaussian(random, 12, 5)}, kSingle);
    group.step(*backend, rule, {gaussian(random, 12, 5)});
    set_gradients(group, {gaussian(random, 12, 5)}, DType::f32);
    const auto g = const_views(group.gradients);
    const auto m = views(group.momentum), w = views(group.weights), s = views(group.row_states);
    const Group before = group;
    for (const Gate& gate : {Gate{.open = false}, Gate{.flag = row_major(&shut, 1, 1)}}) {
      step(*backend, gate, rule, {g, m, w, s});
      EXPECT_TRUE(same_bytes(group.weights.front(), before.weights.front()));
      EXPECT_TRUE(same_bytes(group.momentum.front(), before.momentum.front()));
      EXPECT_TRUE(same_bytes(group.row_states.front(), before.row_states.front()));
    }
    step(*backend, Gate{.flag = row_major(&open, 1, 1)}, rule, {g, m, w, s});
    EXPECT_FALSE(same_bytes(group.weights.front(), before.weights.front()));
    EXPECT_FALSE(same_bytes(group.row_states.front(), before.row_states.front()));
  }
}

TEST(Look, SeesEveryGradientAndWhatOverflowsInItsMomentum) {
  const auto backend = make_cpu_backend({.threads = 2});
  for (const double bad : {kNaN, kInf, 1e40}) {
    Group group(std::vector<Matrix>(4, Matrix{3, 2}), {DType::f64, DType::f32, DType::f32});
    for (std::size_t which = 0; which < 4; ++which) {
      std::vector<Matrix> gradients(4, identity(3));
      for (Matrix& gradient : gradients) gradient = {3, 2, 1, {1, 2, 3, 4, 5, 7}};
      gradients[which](2, 1) = bad;
      const Group before = group;
      EXPECT_FALSE(group.step(*backend, MuonOptions{}, gradients).applied) << bad;
      for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_TRUE(same_bytes(group.weights[i], before.weights[i]));
        EXPECT_TRUE(same_bytes(group.momentum[i], before.momentum[i]));
      }
    }
  }
}

TEST(Look, NamesAMomentumThatIsNotFiniteAndNothingIsWritten) {
  Random random(8);
  const auto backend = make_cpu_backend({.threads = 2});
  std::vector<Matrix> start = {gaussian(random, 8, 3), gaussian(random, 3, 8), gaussian(random, 8, 3)};
  std::vector<Stored> g, m, w;
  for (const Matrix& matrix : start) {
    g.emplace_back(matrix, DType::f32);
    m.emplace_back(Matrix{matrix.rows, matrix.cols}, DType::f32);
    w.emplace_back(matrix, DType::f32);
  }
  Matrix poisoned{3, 8};
  poisoned(1, 4) = kNaN;
  m[1] = Stored(poisoned, DType::f32);
  const auto before = w;
  EXPECT_THAT(
      message_of([&] { step(*backend, AuroraOptions{}, tensors_of(const_views(g), views(m), views(w))); }),
      AllOf(HasSubstr("momentum"), HasSubstr("weight 1")));
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bytes(w[i], before[i]));
}

TEST(Step, OfAVectorNamesAdamW) {
  const auto backend = make_cpu_backend();
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 8}, {8, 1}, {1, 1}}) {
    Group group({Matrix{rows, cols}}, kSingle);
    const std::string message = message_of([&] { group.step(*backend, MuonOptions{}); });
    EXPECT_THAT(message, HasSubstr("AdamW"));
    EXPECT_THAT(message, HasSubstr(std::to_string(rows) + "x" + std::to_string(cols)));
  }
}

TEST(Step, RefusesTensorsThatDoNotFitAndWritesNothing) {
  Random random(6);
  const auto backend = make_cpu_backend();
  const auto fresh = [&] {
    Group group(std::vector<Matrix>(3, gaussian(random, 4, 3)), kSingle);
    set_gradients(group, std::vector<Matrix>(3, gaussian(random, 4, 3)), DType::f32);
    return group;
  };
  const auto refused = [&](Group group) {
    const Group before = group;
    const std::string message = message_of([&] {
      const auto g = const_views(group.gradients);
      const auto m = views(group.momentum), w = views(group.weights), s = views(group.row_states),
                 u = views(group.directions);
      step(*backend, NorMuonOptions{}, {g, m, w, s, u});
    });
    for (std::size_t i = 0; i < group.weights.size(); ++i) {
      EXPECT_TRUE(same_bytes(group.weights[i], before.weights[i]));
    }
    for (std::size_t i = 0; i < group.momentum.size(); ++i) {
      EXPECT_TRUE(same_bytes(group.momentum[i], before.momentum[i]));
    }
    return message;
  };
  const Stored other_shape(Matrix{3, 4}, DType::f32), half(Matrix{4, 3}, DType::bf16);
  for (auto member : {&Group::gradients, &Group::weights, &Group::momentum}) {
    Group group = fresh();
    (group.*member)[1] = other_shape;
    EXPECT_THAT(refused(group), AllOf(HasSubstr("3x4"), HasSubstr("4x3")));
    group = fresh();
    (group.*member).pop_back();
    EXPECT_THAT(refused(group), AllOf(HasSubstr("2"), HasSubstr("3")));
  }
  Group group = fresh();
  group.row_states[2] = Stored(Matrix{3, 1}, DType::f32);
  EXPECT_THAT(refused(group), HasSubstr("3x1"));
  group = fresh();
  group.row_states.pop_back();
  EXPECT_THAT(refused(group), HasSubstr("second_momentum_buffer"));
  group = fresh();
  group.momentum[0] = half;
  EXPECT_THAT(refused(group), HasSubstr("bfloat16"));
  group = fresh();
  group.keep_directions();
  group.directions[1] = other_shape;
  EXPECT_THAT(refused(group), HasSubstr("3x4"));
}

TEST(Step, RefusesViewsThatAreNoneAndWritesNothing) {
  const auto backend = make_cpu_backend();
  std::vector<float> g(12, 1), m(12, 0), w(12, 1);
  const ConstMatrixView good = row_major(static_cast<const float*>(g.data()), 4, 3);
  const MatrixView momentum = row_major(m.data(), 4, 3), weight = row_major(w.data(), 4, 3);
  struct Misuse {
    const char* what;
    std::function<void(MatrixView&)> harm;
    const char* named;
  };
  for (const auto& [what, harm, named] : std::vector<Misuse>{
           {"null data", [](MatrixView& view) { view.data = nullptr; }, "no data"},
           {"a stride shorter than a row", [](MatrixView& view) { view.row_stride = 2; }, "row stride 2"},
           {"a huge stride", [](MatrixView& view) { view.row_stride = Index{1} << 62; }, "memory"},
           {"a negative stride", [](MatrixView& view) { view.row_stride = -3; }, "row stride -3"},
           {"two strides", [](MatrixView& view) { view.col_stride = 2; }, "column stride 2"},
           {"a type that is none", [](MatrixView& view) { view.dtype = static_cast<DType>(77); }, "77"},
           {"very many rows", [](MatrixView& view) { view.rows = Index{1} << 40; }, "1099511627776"},
           {"no rows", [](MatrixView& view) { view.rows = 0; }, "0x3"},
           {"a batch", [](MatrixView& view) { view.batch = 2, view.batch_stride = 12; }, "2 of 4x3"},
       }) {
    MatrixView bad = weight;
    harm(bad);
    EXPECT_THAT(message_of([&] { step(*backend, MuonOptions{}, good, momentum, bad); }),
                AllOf(HasSubstr("[aurora::step]"), HasSubstr("weight"), HasSubstr(named)))
        << what;
    bad = momentum;
    harm(bad);
    EXPECT_THAT(message_of([&] { step(*backend, MuonOptions{}, good, bad, weight); }),
                AllOf(HasSubstr("momentum buffer"), HasSubstr(named)))
        << what;
    EXPECT_THROW(polar(*backend, good, Polar::exact, bad), std::invalid_argument) << what;
    EXPECT_THROW(balanced_polar(*backend, good, {}, bad), std::invalid_argument) << what;
  }
  EXPECT_EQ(w, std::vector<float>(12, 1));
  EXPECT_EQ(m, std::vector<float>(12, 0));
}

TEST(Step, TakesAMissingRowStrideAsPacked) {
  const auto backend = make_cpu_backend();
  std::vector<float> g = {1, 2, 3, 4, 5, 7, 8, 9}, m(8), w(8), other_m(8), other_w(8);
  const auto missing = [](auto* data) { return strided(data, DType::f32, 4, 2); };
  MatrixView without{w.data(), 4, 2};
  step(*backend, MuonOptions{}, missing(static_cast<const void*>(g.data())),
       missing(static_cast<void*>(m.data())), without);
  step(*backend, MuonOptions{}, row_major(static_cast<const float*>(g.data()), 4, 2),
       row_major(other_m.data(), 4, 2), row_major(other_w.data(), 4, 2));
  EXPECT_EQ(w, other_w);
}

TEST(Step, RefusesMemoryThatOverlaps) {
  const auto backend = make_cpu_backend();
  std::vector<float> g(24, 1), memory(40, 0), m(24, 0);
  const ConstMatrixView gradient = row_major(static_cast<const float*>(g.data()), 4, 3);
  const MatrixView momentum = row_major(m.data(), 4, 3), weight = row_major(memory.data(), 4, 3);
  const auto refused = [&](ConstMatrixView one, MatrixView two, MatrixView three) -> std::string {
    try {
      step(*backend, MuonOptions{}, one, two, three);
      return "";
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
  };
  EXPECT_THAT(refused(gradient, weight, weight), HasSubstr("share memory"));
  EXPECT_THAT(refused(gradient, row_major(memory.data() + 11, 4, 3), weight), HasSubstr("share memory"));
  EXPECT_THAT(refused(weight, momentum, weight), AllOf(HasSubstr("gradient"), HasSubstr("weight")));
  EXPECT_EQ(refused(gradient, row_major(memory.data() + 12, 4, 3), weight), "");
  // Columns of one larger matrix side by side have nothing in common.
  const MatrixView left = strided(static_cast<void*>(memory.data()), DType::f32, 4, 3, 6),
                   right = strided(static_cast<void*>(memory.data() + 3), DType::f32, 4, 3, 6);
  EXPECT_EQ(refused(gradient, left, right), "");
  EXPECT_THAT(refused(gradient, left, strided(static_cast<void*>(memory.data() + 2), DType::f32, 4, 3, 6)),
              HasSubstr("share memory"));
}

TEST(Step, OfAnEmptyListDoesNothing) {
  const auto backend = make_cpu_backend();
  EXPECT_TRUE(step(*backend, MuonOptions{}, {}).applied);
}

TEST(Step, RefusesARuleThatTakesNoMatrices) {
  const auto backend = make_cpu_backend();
  EXPECT_THAT(message_of([&] { step(*backend, AdamWOptions{}, {}); }), HasSubstr("adamw"));
}

TEST(Backend, InUseByAnotherThreadThrowsThere) {
  const auto backend = make_cpu_backend();
  const ScratchFrame frame(*backend);
  std::string message;
  std::thread([&] {
    try {
      const ScratchFrame second(*backend);
    } catch (const std::logic_error& error) {
      message = error.what();
    }
  }).join();
  EXPECT_THAT(message, HasSubstr("second thread"));
}

TEST(Backend, OfAnotherThreadAfterwardsIsFine) {
  const auto backend = make_cpu_backend();
  { const ScratchFrame frame(*backend); }
  std::thread([&] { const ScratchFrame second(*backend); }).join();
  const ScratchFrame third(*backend);
}

TEST(Blend, IsItsFormulaAndOnlyReadsTheGradient) {
  Random random(7);
  const auto backend = make_cpu_backend();
  for (const DType gradient_type : {DType::f32, DType::bf16, DType::f64}) {
    for (const bool nesterov : {false, true}) {
      const Stored before(gaussian(random, 9, 5), gradient_type, {.gap = 1});
      const Stored gradient = before;
      const Matrix old = rounded(gaussian(random, 9, 5), DType::f32);
      Stored momentum(old, DType::f32), blended(Matrix{9, 5}, DType::f32);
      const ConstMatrixView gradients[] = {gradient.view()};
      const MatrixView buffers[] = {momentum.view()};
      blend(*backend, Gate{}, MuonOptions{.momentum = 0.9, .nesterov = nesterov}, gradients, buffers,
            blended.view());
      const Matrix m = sum(0.9, old, 0.1, before.values());
      const Matrix b = nesterov ? sum(0.9, m, 0.1, before.values()) : m;
      EXPECT_TRUE(close(momentum.values(), m, 4 * 0x1p-24 * 4));
      EXPECT_TRUE(close(blended.values(), b, 8 * 0x1p-24 * 4));
      EXPECT_TRUE(same_bytes(gradient, before));
    }
  }
}

TEST(Apply, DecaysWithTheUnscaledLearningRate) {
  const auto backend = make_cpu_backend();
  const Matrix w{2, 2, 1, {1, 2, 3, 4}}, u{2, 2, 1, {1, -1, 0, 2}};
  Stored weight(w, DType::f64);
  const MatrixView weights[] = {weight.view()};
  const MuonOptions options{.lr = 0.1, .weight_decay = 0.5, .scale = UpdateScale::match_rms_adamw};
  apply(*backend, Gate{}, options, Stored(u, DType::f64).cview(), {}, weights, {});
  const double scale = update_scale(UpdateScale::match_rms_adamw, 2, 2);
  EXPECT_TRUE(close(weight.values(), sum(0.95, w, -0.1 * scale, u), 1e-15));
}

TEST(Look, AtValuesLooksAtEveryMatrix) {
  const auto backend = make_cpu_backend({.threads = 2});
  std::vector<Stored> gradients;
  for (int i = 0; i < 4; ++i) gradients.emplace_back(Matrix{3, 2}, i % 2 == 0 ? DType::f32 : DType::bf16);
  EXPECT_TRUE(look(*backend, const_views(gradients), DType::f32).open);
  for (std::size_t i = 0; i < 4; ++i) {
    auto with_bad = gradients;
    with_bad[i] = Stored({3, 2, 1, {0, 0, 0, kInf, 0, 0}}, DType::f32);
    EXPECT_FALSE(look(*backend, const_views(with_bad), DType::f32).open);
  }
  EXPECT_TRUE(look(*backend, {}, DType::f32).open);
}

}  // namespace
}  // namespace aurora::test
