// What holds for every optimizer: one suite over the list of names, so that none can be forgotten.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "support/group.hpp"
#include "support/matchers.hpp"
#include "support/tested_backend.hpp"

namespace aurora::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

struct Shape {
  Index rows, cols;
};
const std::vector<Shape> kShapes = {{24, 8}, {8, 24}, {12, 12}, {33, 7}};

class EveryOptimizer : public ::testing::TestWithParam<std::string> {
 protected:
  Rule options(std::string_view changes = "") const {
    std::string variant(GetParam());
    if (!changes.empty()) variant.append(":").append(changes);
    return parse_variant(variant);
  }
  bool is_adamw() const { return GetParam() == "adamw"; }
  /// Weights after three steps of a group; the same numbers for the same seed.
  Group stepped(Backend& backend, const Rule& options, const Shape& shape, std::size_t count, Types types,
                Placement placement = {}, std::uint64_t seed = 1) const {
    Random random(seed);
    std::vector<Matrix> start;
    for (std::size_t i = 0; i < count; ++i)
      start.push_back(scaled(0.1, gaussian(random, shape.rows, shape.cols)));
    Group group(start, types, placement);
    for (int t = 0; t < 3; ++t) {
      std::vector<Matrix> gradients;
      for (std::size_t i = 0; i < count; ++i)
        gradients.push_back(uneven_rows(random, shape.rows, shape.cols, 0.5));
      EXPECT_TRUE(group.step(backend, options, gradients).applied);
    }
    return group;
  }
  std::unique_ptr<Backend> backend_ = make_tested_backend();
};
INSTANTIATE_TEST_SUITE_P(All, EveryOptimizer, ::testing::ValuesIn(rule_names()), [](const auto& optimizer) {
  std::string text(optimizer.param);
  std::replace(text.begin(), text.end(), '-', '_');
  return text;
});

TEST_P(EveryOptimizer, DescendsOnAQuadratic) {
  for (const auto& [rows, cols] : kShapes) {
    for (const Types& types : {kDouble, kSingle}) {
      Random random(7);
      const Matrix target = gaussian(random, rows, cols);
      Rule o = options("lr=0.02+weight_decay=0");
      Group group({Matrix{rows, cols}}, types);
      for (int t = 0; t < 400; ++t) {
        group.step(*backend_, o, {sum(1, group.weights.front().values(), -1, target)});
      }
      const double left = frobenius(sum(1, group.weights.front().values(), -1, target));
      EXPECT_LT(left, 0.1 * frobenius(target)) << rows << "x" << cols;
    }
  }
}

TEST_P(EveryOptimizer, LeavesTheGradientUnchangedToTheByte) {
  for (const std::string nesterov : {"true", "false"}) {
    for (const Types& types : {kDouble, kSingle, kHalf, Types{DType::bf16, DType::f32, DType::f32}}) {
      for (const auto& [rows, cols] : kShapes) {
        Random random(2);
        const Matrix g = uneven_rows(random, rows, cols, 0.5);
        Group group({g, g}, types);
        group.step(*backend_, options(is_adamw() ? "" : "nesterov=" + nesterov), {g, g});
        for (const Stored& gradient : group.gradients)
          EXPECT_TRUE(same_bytes(gradient, Stored(g, types.gradient)));
      }
    }
  }
}

TEST_P(EveryOptimizer, WritesMomentumAsItsAverageAndNothingElse) {
  if (is_adamw()) GTEST_SKIP() << "no momentum buffer; its moments are in the golden trajectories";
  for (const std::string nesterov : {"true", "false"}) {
    for (const Types& types : {kDouble, kSingle, kHalf}) {
      Random random(3);
      const Matrix start = gaussian(random, 24, 8);
      Group group({start}, types);
      Stored momentum(Matrix{24, 8}, types.state), blended(Matrix{24, 8}, types.state);
      for (int t = 0; t < 3; ++t) {
        const Matrix g = uneven_rows(random, 24, 8, 1);
        group.step(*backend_, options("nesterov=" + nesterov), {g});
        const Stored stored(g, types.gradient);
        const ConstMatrixView gradient[] = {stored.cview()};
        const MatrixView buffer[] = {momentum.view()};
        blend(*backend_, Gate{}, options("nesterov=" + nesterov), gradient, buffer, blended.view());
        EXPECT_TRUE(same_bytes(group.momentum.front(), momentum));
      }
    }
  }
}

TEST_P(EveryOptimizer, MovesWithEachOfItsHyperparameters) {
  // Every other value of a list, and another number, must change the weights by far more than any tolerance
  // here.
  const auto weights = [&](const Rule& o) {
    std::vector<double> all;
    for (const auto& [rows, cols] : kShapes) {
      Random random(4);
      std::vector<Matrix> gradients;
      for (int t = 0; t < 3; ++t) {
        Matrix g = conditioned(random, rows, cols, 3000);  // so that schedules differ too
        for (Index i = 0; i < rows; ++i) {
          for (Index j = 0; j < cols; ++j) g(i, j) *= static_cast<double>(1 + i % 5) / (t == 1 ? 1000 : 1);
        }
        gradients.push_back(g);
      }
      const Matrix w = trajectory(*backend_, o, gaussian(random, rows, cols), gradients);
      all.insert(all.end(), w.values.begin(), w.values.end());
    }
    return all;
  };
  const auto distance = [](const std::vector<double>& a, const std::vector<double>& b) {
    double worst = 0;
    for (std::size_t k = 0; k < a.size(); ++k) worst = std::max(worst, std::abs(a[k] - b[k]));
    return worst;
  };
  for (const Hyperparameter& h : hyperparameters(options())) {
    std::vector<std::string> others;
    if (h.rule.starts_with("one of ")) {
      std::string rest = h.rule.substr(7) + ", ";
      for (std::size_t comma = rest.find(", "); !rest.empty(); comma = rest.find(", ")) {
        others.push_back(rest.substr(0, comma));
        rest = rest.substr(comma + 2);
      }
      ASSERT_THAT(others, ::testing::Contains(h.value));
    } else {
      others = {h.value};
      double number = 0;
      std::from_chars(h.value.data(), h.value.data() + h.value.size(), number);
      others.push_back(h.rule.starts_with("an integer") ? std::to_string(static_cast<int>(number) + 1)
                                                        : std::to_string(number / 2 + 0.001));
    }
    std::vector<std::vector<double>> results;
    for (const std::string& value : others) {
      // Equal to others by definition, or without products on this backend.
      if (value == "published" || value == "auto" || value.ends_with("float16")) continue;
      Rule o = options();
      if (h.name == "pp_beta") set_hyperparameter(o, "balance", "release");  // it belongs to that one
      set_hyperparameter(o, h.name, value);
      results.push_back(weights(o));
      for (std::size_t k = 0; k + 1 < results.size(); ++k) {
        EXPECT_GT(distance(results[k], results.back()), 1e-6)
            << h.name << " = " << value << " changes nothing";
      }
    }
  }
}

TEST_P(EveryOptimizer, WithANonFiniteGradientAnywhereChangesNothingAndReportsIt) {
  for (const Types& types : {kDouble, kSingle, kHalf}) {
    for (const auto& [rows, cols] : kShapes) {
      for (const double bad : {kNaN, kInf, -kInf}) {
        for (std::size_t which = 0; which < 3; ++which) {
          Group group = stepped(*backend_, options(), {rows, cols}, 3, types);
          Random random(5);
          std::vector<Matrix> gradients(3, gaussian(random, rows, cols));
          gradients[which].values[static_cast<std::size_t>(random.integer(0, rows * cols - 1))] = bad;
          const Group before = group;
          EXPECT_FALSE(group.step(*backend_, options(), gradients).applied);
          EXPECT_EQ(group.steps, before.steps);
          for (std::size_t i = 0; i < 3; ++i) {
            EXPECT_TRUE(same_bytes(group.weights[i], before.weights[i]));
            EXPECT_TRUE(same_bytes(group.momentum[i], before.momentum[i]));
            EXPECT_TRUE(same_bytes(group.row_states[i], before.row_states[i]));
            EXPECT_TRUE(same_bytes(group.squares[i], before.squares[i]));
          }
        }
      }
    }
  }
}

TEST_P(EveryOptimizer, StaysFiniteOnHostileGradients) {
  Random random(6);
  for (const auto& [rows, cols] : {Shape{12, 4}, {4, 12}, {6, 6}}) {
    const Matrix base = integers(random, rows, cols, 1, 9),
                 rank_one = product(integers(random, rows, 1, -9, 9), integers(random, 1, cols, 1, 9));
    Matrix zero_row = base, one_row{rows, cols};
    for (Index j = 0; j < cols; ++j) {
      zero_row(1, j) = 0;
      one_row(2, j) = static_cast<double>(j + 1);
    }
    // 1e19 is the largest power of ten whose square is finite in float32, which AdamW's second moment needs.
    const double large = is_adamw() ? 1e18 : 1e30;
    for (const Types& types : {kDouble, kSingle, kHalf}) {
      for (const Matrix& g : {Matrix{rows, cols}, zero_row, one_row, rank_one, scaled(1e-30, base),
                              scaled(large, base), scaled(1e-38, base)}) {
        Group group({scaled(0.1, base)}, types);
        for (int t = 0; t < 3; ++t) group.step(*backend_, options(), {g});
        group.step(*backend_, options(), {base});
        for (const double value : group.weights.front().values().values) {
          ASSERT_TRUE(std::isfinite(value));
          // Each of four steps moves an element by at most lr (and the shape's scale), rules that even out
          // rows more.
          ASSERT_LT(std::abs(value), 0.9 + 4 * 0.02 * 12);
        }
      }
    }
  }
}

TEST_P(EveryOptimizer, OfAZeroGradientOnlyDecaysAndRecoversAtTheNextStep) {
  // A zero-initialised down projection gives the gate exactly zero gradients at the first step.
  Random random(8);
  for (const auto& [rows, cols] : kShapes) {
    const Matrix start = gaussian(random, rows, cols), g = uneven_rows(random, rows, cols, 0.5);
    Rule o = options("lr=0.5+weight_decay=0.5");
    Group group({start}, kDouble);
    EXPECT_TRUE(group.step(*backend_, o, {Matrix{rows, cols}}).applied);
    EXPECT_TRUE(close(group.weights.front().values(), scaled(0.75, start), 1e-15));
    group.step(*backend_, o, {g});
    EXPECT_FALSE(close(group.weights.front().values(), scaled(0.75 * 0.75, start), 1e-3));
    for (const double value : group.weights.front().values().values) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST_P(EveryOptimizer, DoesNotSeeTheScaleOfTheGradient) {
  for (const auto& [rows, cols] : kShapes) {
    Random random(9);
    std::vector<Matrix> gradients, multiples;
    for (int t = 0; t < 3; ++t) {
      gradients.push_back(uneven_rows(random, rows, cols, 0.3));
      multiples.push_back(scaled(0x1p40, gradients.back()));
    }
    Rule o = options("lr=0.1");
    if (is_adamw()) o = options("lr=0.1+eps=1e-30");
    const Matrix start = gaussian(random, rows, cols);
    EXPECT_TRUE(
        close(trajectory(*backend_, o, start, multiples), trajectory(*backend_, o, start, gradients), 1e-12));
  }
}

TEST_P(EveryOptimizer, OfAGroupHasTheBitsOfEachMatrixAlone) {
  for (const int threads : {1, 2, 3}) {
    const auto backend = make_cpu_backend({.threads = threads});
    for (const Types& types : {kDouble, kSingle}) {
      for (const auto& [rows, cols] : kShapes) {
        Random random(10);
        std::vector<Matrix> start, gradients;
        for (int i = 0; i < 5; ++i) {
          start.push_back(gaussian(random, rows, cols));
          gradients.push_back(uneven_rows(random, rows, cols, 0.4));
        }
        Group together(start, types);
        for (int t = 0; t < 2; ++t) together.step(*backend, options(), gradients);
        for (std::size_t i = 0; i < 5; ++i) {
          Group alone({start[i]}, types);
          for (int t = 0; t < 2; ++t) alone.step(*backend, options(), {gradients[i]});
          EXPECT_TRUE(same_bytes(together.weights[i], alone.weights.front()));
          EXPECT_TRUE(same_bytes(together.momentum[i], alone.momentum.front()));
          EXPECT_TRUE(same_bytes(together.row_states[i], alone.row_states.front()));
        }
      }
    }
  }
}

TEST_P(EveryOptimizer, IsTheSameInEveryPlacementWithNaNInTheGaps) {
  for (const Types& types : {kDouble, kSingle, kHalf}) {
    for (const auto& [rows, cols] : kShapes) {
      const Group packed = stepped(*backend_, options(), {rows, cols}, 2, types);
      for (const Placement& placement : {Placement{.gap = 3},
                                         {.offset = 1},
                                         {.gap = 1, .offset = 3},
                                         {.column_major = true},
                                         {.column_major = true, .gap = 2, .offset = 1}}) {
        const Group placed = stepped(*backend_, options(), {rows, cols}, 2, types, placement);
        for (std::size_t i = 0; i < 2; ++i) {
          // Another order of summation; a bf16 weight can then round the other way.
          const double bound =
              200 * unit_roundoff(types.state) + (types.weight == DType::bf16 ? 0x1p-8 : 0.0);
          EXPECT_TRUE(close(placed.weights[i].values(), packed.weights[i].values(), bound));
          EXPECT_TRUE(placed.weights[i].padding_is_untouched());
          EXPECT_TRUE(placed.momentum[i].padding_is_untouched());
          EXPECT_TRUE(placed.squares[i].padding_is_untouched());
          EXPECT_TRUE(placed.row_states[i].padding_is_untouched());
        }
      }
    }
  }
}

TEST_P(EveryOptimizer, RepeatsItsBits) {
  for (const int threads : {1, 2}) {
    for (const Types& types : {kDouble, kSingle}) {
      const auto run = [&] {
        const auto backend = make_cpu_backend({.threads = threads});
        return stepped(*backend, options(), {96, 40}, 4, types);
      };
      const Group first = run();
      for (int repeat = 0; repeat < 2; ++repeat) {
        const std::vector<double> disturbance(static_cast<std::size_t>(1000 * repeat + 13));
        const Group again = run();
        for (std::size_t i = 0; i < 4; ++i) {
          EXPECT_TRUE(same_bytes(again.weights[i], first.weights[i])) << threads << " threads";
          EXPECT_TRUE(same_bytes(again.momentum[i], first.momentum[i]));
        }
      }
    }
  }
}

TEST_P(EveryOptimizer, HasTheSameBitsForAnyNumberOfThreads) {
  const auto one = stepped(*make_cpu_backend(), options(), {96, 40}, 5, kDouble);
  for (const int threads : {2, 3}) {
    const auto backend = make_cpu_backend({.threads = threads});
    const Group many = stepped(*backend, options(), {96, 40}, 5, kDouble);
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_TRUE(same_bytes(many.weights[i], one.weights[i])) << threads << " threads";
    }
  }
}

TEST_P(EveryOptimizer, TakesNoMoreScratchAfterTheFirstStep) {
  for (const int threads : {1, 2}) {
    const auto backend = make_cpu_backend({.threads = threads});
    stepped(*backend, options(), {96, 40}, 4, kSingle);
    const Index held = backend->memory().bytes();
    for (int t = 0; t < 4; ++t) stepped(*backend, options(), {96, 40}, 4, kSingle);
    EXPECT_EQ(backend->memory().bytes(), held) << threads << " threads";
  }
}

TEST_P(EveryOptimizer, RoundsBf16WeightsFromFloat32Arithmetic) {
  for (const auto& [rows, cols] : kShapes) {
    Random random(11);
    const Matrix start = rounded(gaussian(random, rows, cols), DType::bf16);
    const Matrix g = rounded(uneven_rows(random, rows, cols, 0.3), DType::bf16);
    Rule o = options("lr=0.1");
    const Matrix half = trajectory(*backend_, o, start, {g}, kHalf);
    const Matrix exact = trajectory(*backend_, o, start, {g}, kDouble);
    for (std::size_t k = 0; k < half.values.size(); ++k) {
      // Half a unit in the last of eight bits is at most 2^-8 of the value; and the float32 error of the
      // direction.
      const double bound = std::abs(exact.values[k]) * 0x1p-8 + 1e-5;
      EXPECT_NEAR(half.values[k], exact.values[k], bound) << rows << "x" << cols << ", element " << k;
    }
  }
}

TEST_P(EveryOptimizer, RefusesOptionsOutsideTheirBounds) {
  Group group({identity(4)}, kDouble);
  for (const double bad : {-0.1, kNaN, kInf}) {
    Rule o = options();
    std::visit([&](auto& alternative) { alternative.lr = bad; }, o);
    EXPECT_THAT(message_of([&] { validate(o); }), ::testing::HasSubstr("lr"));
    EXPECT_THROW(group.step(*backend_, o, {identity(4)}), std::invalid_argument);
    EXPECT_TRUE(equal(group.weights.front().values(), identity(4)));
  }
}

TEST_P(EveryOptimizer, NamesAdamWForAVectorUnlessItIsAdamW) {
  for (const auto& [rows, cols] : {Shape{1, 8}, {8, 1}}) {
    Group group({Matrix{rows, cols}}, kSingle);
    if (is_adamw()) {
      EXPECT_TRUE(group.step(*backend_, options(), {Matrix{rows, cols}}).applied);
    } else {
      EXPECT_THAT(message_of([&, rows = rows, cols = cols] {
                    group.step(*backend_, options(), {Matrix{rows, cols}});
                  }),
                  ::testing::HasSubstr("AdamW"));
    }
  }
}

TEST_P(EveryOptimizer, RefusesShapesThatDiffer) {
  Group group({Matrix{6, 4}, Matrix{6, 4}}, kSingle);
  group.weights[1] = Stored(Matrix{4, 6}, DType::f32);
  EXPECT_THAT(message_of([&] { group.step(*backend_, options()); }),
              ::testing::AllOf(::testing::HasSubstr("6x4"), ::testing::HasSubstr("4x6")));
}

}  // namespace
}  // namespace aurora::test
