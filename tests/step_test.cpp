#include "aurora/step.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/group.hpp"
#include "support/matchers.hpp"

namespace aurora::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

struct IdentityDirection {
  void operator()(Backend& backend, ConstMatrixView blended, std::span<const MatrixView>,
                  MatrixView direction) const {
    backend.axpby(1.0, blended, 0.0, direction);
  }
};
static_assert(Direction<IdentityDirection>);

/// Writes k in every element of matrix k's row state and the state's old value in the direction.
struct CountingDirection {
  void operator()(Backend& backend, ConstMatrixView, std::span<const MatrixView> row_states,
                  MatrixView direction) const {
    for (Index b = 0; b < direction.batch; ++b) {
      const MatrixView state = row_states[static_cast<std::size_t>(b)];
      backend.fill(backend.largest(state), matrix_of(direction, b));
      backend.fill(backend.largest(state) + 1, state);
    }
  }
};

template <class D>
StepReport step(Backend& backend, const StepOptions& options, const D& direction, Group& group,
                bool row_states = false) {
  const auto gradients = const_views(group.gradients);
  const auto momentum = views(group.momentum), weights = views(group.weights),
             directions = views(group.directions);
  const auto states = row_states ? views(group.row_states) : std::vector<MatrixView>{};
  return spectral_step(backend, options, direction, {gradients, momentum, states, weights, directions});
}

void set_gradients(Group& group, const std::vector<Matrix>& values, DType dtype) {
  group.gradients.clear();
  for (const Matrix& gradient : values) group.gradients.emplace_back(gradient, dtype);
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

TEST(SpectralStep, WithTheIdentityDirectionIsSgdWithMomentumExactly) {
  // Integers times powers of two: nothing rounds, in any of the types.
  for (const Types& types : {kDouble, kSingle, Types{DType::bf16, DType::f32, DType::f32}}) {
    for (const bool nesterov : {false, true}) {
      for (const auto& [rows, cols] : {std::pair<Index, Index>{6, 4}, {4, 6}, {33, 2}}) {
        Random random(1);
        const auto backend = make_cpu_backend();
        const StepOptions options{.lr = 0.5,
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
          ASSERT_TRUE(step(*backend, options, IdentityDirection{}, group).applied);
          EXPECT_TRUE(equal(group.momentum.front().values(), m));
          EXPECT_TRUE(equal(group.weights.front().values(), w));
        }
      }
    }
  }
}

TEST(SpectralStep, ScalesTheDirectionByTheShapeOfTheWeight) {
  Random random(2);
  const auto backend = make_cpu_backend();
  for (const auto& [rows, cols] : {std::pair<Index, Index>{64, 16}, {16, 64}}) {
    for (const UpdateScale scale :
         {UpdateScale::aspect_ratio, UpdateScale::rms_to_rms, UpdateScale::match_rms_adamw}) {
      const Matrix g = gaussian(random, rows, cols);
      Group group({Matrix{rows, cols}}, kDouble);
      set_gradients(group, {g}, DType::f64);
      step(*backend, {.lr = 1, .momentum = 0, .nesterov = false, .weight_decay = 0, .scale = scale},
           IdentityDirection{}, group);
      EXPECT_TRUE(relatively_close(group.weights.front().values(),
                                   scaled(-update_scale(scale, rows, cols), g), 1e-15));
    }
  }
}

TEST(SpectralStep, WithLearningRateMinusOneOnAZeroWeightReturnsTheDirection) {
  Random random(3);
  const auto backend = make_cpu_backend();
  const Matrix g = gaussian(random, 12, 5);
  const StepOptions options{
      .lr = -1, .momentum = 0.5, .nesterov = true, .weight_decay = 0.5, .scale = UpdateScale::none};
  const auto exposed = [&](const auto& direction) {
    Group group({Matrix{12, 5}}, kDouble);
    group.keep_directions();
    set_gradients(group, {g}, DType::f64);
    step(*backend, options, direction, group, true);
    EXPECT_TRUE(equal(group.directions.front().values(), group.weights.front().values()));
    return group.weights.front().values();
  };
  // From a zero buffer M = G / 2 and the blended gradient is 3/4 G.
  const Matrix blended = scaled(0.75, g);
  EXPECT_TRUE(relatively_close(exposed(IdentityDirection{}), blended, 1e-15));
  EXPECT_TRUE(close(exposed(MuonDirection{kExact}), reference_polar(blended), 1e-13));
  const double row = std::sqrt(5.0 / 12);
  const Matrix even = exposed(UNorMuonDirection{kExact});
  for (Index i = 0; i < 12; ++i) {
    double squares = 0;
    for (Index j = 0; j < 5; ++j) squares += even(i, j) * even(i, j);
    EXPECT_NEAR(std::sqrt(squares), row, 1e-14);
  }
}

TEST(SpectralStep, GivesTheDirectionBeforeScalingWhereItIsAskedFor) {
  Random random(4);
  const auto backend = make_cpu_backend();
  const Matrix g = gaussian(random, 12, 3);
  Group group({gaussian(random, 12, 3)}, kSingle);
  group.keep_directions();
  set_gradients(group, {g}, DType::f32);
  step(*backend,
       {.lr = 0.1,
        .momentum = 0.9,
        .nesterov = true,
        .weight_decay = 0.1,
        .scale = UpdateScale::match_rms_adamw},
       MuonDirection{kExact}, group);
  EXPECT_TRUE(close(group.directions.front().values(), reference_polar(g), 1e-6));
}

TEST(SpectralStep, HandsEachMatrixItsOwnRowState) {
  for (const int threads : {1, 2, 3}) {
    const auto backend = make_cpu_backend({.threads = threads});
    Group group(std::vector<Matrix>(7, Matrix{4, 3}), kDouble);
    for (std::size_t i = 0; i < 7; ++i) {
      group.row_states[i] = Stored(scaled(static_cast<double>(10 * i), {4, 1, 1, {1, 1, 1, 1}}), DType::f64);
    }
    const StepOptions options{
        .lr = 1, .momentum = 0, .nesterov = false, .weight_decay = 0, .scale = UpdateScale::none};
    step(*backend, options, CountingDirection{}, group, true);
    step(*backend, options, CountingDirection{}, group, true);
    for (std::size_t i = 0; i < 7; ++i) {
      EXPECT_EQ(group.row_states[i].values()(3, 0), static_cast<double>(10 * i + 2));
      EXPECT_EQ(group.weights[i].values()(0, 0), -static_cast<double>(20 * i + 1));
    }
  }
}

TEST(SpectralStep, WithANonFiniteGradientAnywhereChangesNothingAndReportsIt) {
  Random random(5);
  const auto backend = make_cpu_backend();
  const StepOptions options{
      .lr = 1, .momentum = 0.5, .nesterov = true, .weight_decay = 0.1, .scale = UpdateScale::none};
  for (const double bad : {kNaN, kInf, -kInf}) {
    for (std::size_t which = 0; which < 3; ++which) {
      std::vector<Matrix> gradients(3, Matrix{4, 3});
      for (Matrix& gradient : gradients) gradient = gaussian(random, 4, 3);
      Group group(gradients, kSingle);
      set_gradients(group, gradients, DType::f32);
      EXPECT_TRUE(step(*backend, options, CountingDirection{}, group, true).applied);
      gradients[which](3, 2) = bad;
      set_gradients(group, gradients, DType::f32);
      const Group before = group;
      EXPECT_FALSE(step(*backend, options, CountingDirection{}, group, true).applied);
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_TRUE(same_bytes(group.weights[i], before.weights[i]));
        EXPECT_TRUE(same_bytes(group.momentum[i], before.momentum[i]));
        EXPECT_TRUE(same_bytes(group.row_states[i], before.row_states[i]));
      }
    }
  }
}

TEST(SpectralStep, OfAVectorNamesAdamW) {
  const auto backend = make_cpu_backend();
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 8}, {8, 1}, {1, 1}}) {
    Group group({Matrix{rows, cols}}, kSingle);
    const std::string message = message_of([&] { step(*backend, {}, IdentityDirection{}, group); });
    EXPECT_THAT(message, ::testing::HasSubstr("AdamW"));
    EXPECT_THAT(message, ::testing::HasSubstr(std::to_string(rows) + "x" + std::to_string(cols)));
  }
}

TEST(SpectralStep, RefusesTensorsThatDoNotFitAndWritesNothing) {
  Random random(6);
  const auto backend = make_cpu_backend();
  const StepOptions options{
      .lr = 1, .momentum = 0.5, .nesterov = true, .weight_decay = 0, .scale = UpdateScale::none};
  const auto fresh = [&] {
    Group group(std::vector<Matrix>(3, gaussian(random, 4, 3)), kSingle);
    set_gradients(group, std::vector<Matrix>(3, gaussian(random, 4, 3)), DType::f32);
    return group;
  };
  const auto refused = [&](Group group) {
    const Group before = group;
    const std::string message =
        message_of([&] { step(*backend, options, CountingDirection{}, group, true); });
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
    const std::string message = refused(group);
    EXPECT_THAT(message, ::testing::HasSubstr("3x4"));
    EXPECT_THAT(message, ::testing::HasSubstr("4x3"));
    group = fresh();
    (group.*member).pop_back();
    EXPECT_THAT(refused(group), ::testing::AllOf(::testing::HasSubstr("2"), ::testing::HasSubstr("3")));
  }
  Group group = fresh();
  group.row_states[2] = Stored(Matrix{3, 1}, DType::f32);
  EXPECT_THAT(refused(group), ::testing::HasSubstr("3x1"));
  group = fresh();
  group.row_states.pop_back();
  refused(group);
  group = fresh();
  group.momentum[0] = half;
  EXPECT_THAT(refused(group), ::testing::HasSubstr("bfloat16"));
  group = fresh();
  group.keep_directions();
  group.directions[1] = other_shape;
  EXPECT_THAT(refused(group), ::testing::HasSubstr("3x4"));
}

TEST(SpectralStep, OfAnEmptyGroupDoesNothing) {
  const auto backend = make_cpu_backend();
  EXPECT_TRUE(spectral_step(*backend, {}, IdentityDirection{}, {}).applied);
}

TEST(BlendMomentum, IsItsFormulaAndOnlyReadsTheGradient) {
  Random random(7);
  const auto backend = make_cpu_backend();
  for (const DType gradient_type : {DType::f32, DType::bf16, DType::f64}) {
    for (const bool nesterov : {false, true}) {
      const Stored before(gaussian(random, 9, 5), gradient_type, {.gap = 1});
      const Stored gradient = before;
      const Matrix old = rounded(gaussian(random, 9, 5), DType::f32);
      Stored momentum(old, DType::f32), blended(Matrix{9, 5}, DType::f32);
      blend_momentum(*backend, gradient.view(), 0.9, nesterov, momentum.view(), blended.view());
      const Matrix m = sum(0.9, old, 0.1, before.values());
      const Matrix b = nesterov ? sum(0.9, m, 0.1, before.values()) : m;
      EXPECT_TRUE(close(momentum.values(), m, 4 * 0x1p-24 * 4));
      EXPECT_TRUE(close(blended.values(), b, 8 * 0x1p-24 * 4));
      EXPECT_TRUE(same_bytes(gradient, before));
    }
  }
}

TEST(ApplyUpdate, DecaysWithTheUnscaledLearningRate) {
  const auto backend = make_cpu_backend();
  const Matrix w{2, 2, 1, {1, 2, 3, 4}}, u{2, 2, 1, {1, -1, 0, 2}};
  Stored weight(w, DType::f64);
  apply_update(*backend, Stored(u, DType::f64).cview(), 0.1, 0.5, 3, weight.view());
  EXPECT_TRUE(close(weight.values(), sum(0.95, w, -0.3, u), 1e-15));
}

TEST(AllFinite, LooksAtEveryGradient) {
  const auto backend = make_cpu_backend();
  std::vector<Stored> gradients;
  for (int i = 0; i < 4; ++i) gradients.emplace_back(Matrix{3, 2}, i % 2 == 0 ? DType::f32 : DType::bf16);
  EXPECT_TRUE(all_finite(*backend, const_views(gradients)));
  for (std::size_t i = 0; i < 4; ++i) {
    auto with_bad = gradients;
    with_bad[i] = Stored({3, 2, 1, {0, 0, 0, kInf, 0, 0}}, DType::f32);
    EXPECT_FALSE(all_finite(*backend, const_views(with_bad)));
  }
  EXPECT_TRUE(all_finite(*backend, {}));
}

}  // namespace
}  // namespace aurora::test
