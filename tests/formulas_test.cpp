// Every formula on rows and elements, applied by a backend, against the same formula written out in the test.

#include "../src/formulas.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support/matchers.hpp"
#include "support/matrices.hpp"
#include "support/tested_backend.hpp"

namespace aurora::test {
namespace {

// A formula of at most eight operations in double, each rounded by 2^-53; ATen may divide by multiplying with
// a reciprocal, one rounding more.
constexpr double kDoubleBound = 32 * 0x1p-53;

Matrix column(const std::vector<double>& values) { return {static_cast<Index>(values.size()), 1, 1, values}; }

/// One formula on vectors of float64; `expected` for every row.
void expect_rows(const Formula& formula, std::vector<Matrix> arguments, const std::vector<Matrix>& expected) {
  const auto backend = make_tested_backend();
  for (const Placement& placement : {Placement{}, {.offset = 3}}) {
    std::vector<Stored> stored, results;
    std::vector<Operand> inputs;
    std::vector<Result> outputs;
    for (const Matrix& argument : arguments) stored.emplace_back(argument, DType::f64, placement);
    for (const Matrix& result : expected) {
      results.emplace_back(Matrix{result.rows, result.cols}, DType::f64, placement);
    }
    for (const Stored& argument : stored) inputs.emplace_back(argument.cview());
    for (Stored& result : results) outputs.emplace_back(result.view());
    backend->apply(formula, inputs, outputs, Gate{});
    for (std::size_t k = 0; k < expected.size(); ++k) {
      EXPECT_TRUE(
          close(results[k].values(), expected[k], kDoubleBound * std::max(1.0, largest(expected[k]))));
      EXPECT_TRUE(results[k].padding_is_untouched());
    }
  }
}

Matrix number(double value) { return {1, 1, 1, {value}}; }

// Leverages and scales with every kind of row that takes no part: a scale of 0, a leverage of 0, and one of 1.
const std::vector<double> kLeverage = {0.25, 0.5, 1.0, 0.0, 0.125, 0.75, 1 - 1e-7};
const std::vector<double> kScale = {2.0, 0.5, 3.0, 1.0, 0.0, 4.0, 5.0};
constexpr double kCount = 3, kTotal = 0.25 + 0.5 + 0.75;  // of rows 0, 1 and 5

TEST(Formulas, SumsOfBalancingAreOverTheRowsThatTakePart) {
  expect_rows(formulas::BalanceSums{}, {transposed(column(kLeverage)), transposed(column(kScale))},
              {number(kCount), number(std::sqrt(0.25) + std::sqrt(0.5) + std::sqrt(0.75)), number(kTotal)});
}

TEST(Formulas, SpreadIsTheCoefficientOfVariationOfTheRowNorms) {
  const double mean = (0.5 + 1.5) / 2, deviation = 0.5;  // norms 0.5 and 1.5
  expect_rows(formulas::Spread{}, {number(2), number(2), number(0.25 + 2.25)}, {number(deviation / mean)});
  expect_rows(formulas::Spread{}, {number(0), number(0), number(0)}, {number(0)});
}

TEST(Formulas, OddsAreExactForOneRowAsIfTheOthersStoodStill) {
  // d^2 q = h / (1 - h) with q fixed: the step must bring h to r.
  const double r = kTotal / kCount;
  std::vector<double> expected = kScale;
  for (const std::size_t i : {0, 1, 5}) {
    const double h = kLeverage[i], q = h / (1 - h) / (kScale[i] * kScale[i]);
    expected[i] = std::sqrt(r / (1 - r) / q);
  }
  expect_rows(formulas::OddsStep{}, {column(kLeverage), column(kScale), number(kCount), number(kTotal)},
              {column(expected)});
}

TEST(Formulas, OddsHaveAFloorOfOneHundredth) {
  const double h = 1 - 2e-6;  // odds of 5e5
  expect_rows(formulas::OddsStep{}, {column({h, 0.1}), column({1, 1}), number(2), number(h + 0.1)},
              {column({0.01, std::sqrt((h + 0.1) / 2 / (1 - (h + 0.1) / 2) * 0.9 / 0.1)})});
}

TEST(Formulas, TylerMovesByTheRootOfTheRatioOfLeverages) {
  const double r = kTotal / kCount;
  std::vector<double> expected = kScale;
  for (const std::size_t i : {0, 1, 5}) expected[i] = kScale[i] * std::sqrt(r / kLeverage[i]);
  expect_rows(formulas::TylerStep{}, {column(kLeverage), column(kScale), number(kCount), number(kTotal)},
              {column(expected)});
}

TEST(Formulas, TheReleaseStepIsAPowerOfTheRatio) {
  for (const double beta : {0.5, 0.25}) {
    expect_rows(formulas::ReleaseStep{.r = 0.3, .beta = beta}, {column({0.2, 0.9, 0}), column({2, 3, 4})},
                {column({2 * std::pow(0.3 / 0.2, beta), 3 * std::pow(0.3 / 0.9, beta), 0})});
  }
}

TEST(Formulas, CarriedScalesAreTakenOverWhereTheyFit) {
  // d / e is 2, 8, 1e7 (too far from the others), 0 (new), and e = 0 (a row of zeros).
  const Matrix d = column({2, 8, 1e7, 0, 5}), e = column({1, 1, 1, 0.5, 0});
  const double logs = std::log(2.0) + std::log(8.0) + std::log(1e7), g = std::exp(logs / 3);
  expect_rows(formulas::AdoptSums{}, {transposed(d), transposed(e)}, {number(logs), number(3)});
  expect_rows(formulas::Adopt{}, {d, e, number(logs), number(3)},
              {column({2, 8, g < 1e4 ? g : 1e7, 0.5 * g, 0})});
  expect_rows(formulas::Adopt{}, {column({0, 0}), column({3, 4}), number(0), number(0)}, {column({3, 4})});
}

TEST(Formulas, RootsAreZeroAtAndBelowTheirCut) {
  const Matrix x = column({4, 1e-6, 1e-8, 0, -1}), reference = number(4);
  expect_rows(formulas::InverseRoot{.target = 9, .cut = 1e-7}, {x, reference},
              {column({1.5, std::sqrt(9 / 1e-6), 0, 0, 0})});
  expect_rows(formulas::InverseFourthRoot{.cut = 1e-7}, {x, reference},
              {column({std::pow(4, -0.25), std::pow(1e-6, -0.25), 0, 0, 0})});
  expect_rows(formulas::Above{.cut = 1e-7}, {x, reference}, {column({1, 1, 0, 0, 0})});
  expect_rows(formulas::Root{}, {x}, {column({2, 1e-3, 1e-4, 0, 0})});
  expect_rows(formulas::Quotient{}, {column({6, 5}), column({4, 0})}, {column({1.5, 0})});
  expect_rows(formulas::Sum{}, {transposed(x)}, {number(4 + 1e-6 + 1e-8 - 1)});
}

TEST(Formulas, NorMuonKeepsTheNormAndLeavesZeroRows) {
  const Matrix h = column({4, 1, 0}), v = column({0.5, 0.25, 0});
  expect_rows(formulas::NorMuonMoment{.beta2 = 0.75, .cols = 8}, {h, v},
              {column({0.75 * 0.5 + 0.25 / 8 * 4, 0.75 * 0.25 + 0.25 / 8, 0})});
  expect_rows(formulas::NorMuonSums{}, {transposed(h), transposed(v)},
              {number(5), number(4 / 0.5 + 1 / 0.25)});
  // |U|^2 = sum h d^2 must be |O|^2 = 5.
  expect_rows(formulas::NorMuonScale{}, {v, number(5), number(12)},
              {column({std::sqrt(5 / 12.0 / 0.5), std::sqrt(5 / 12.0 / 0.25), 0})});
}

TEST(Formulas, SelectLessTakesWholeMatricesOfABatch) {
  const auto backend = make_tested_backend();
  Random random(1);
  const Matrix x = gaussian(random, 4, 3, 3), y = gaussian(random, 4, 3, 3);
  const Matrix a{1, 1, 3, {1, 2, 3}}, b{1, 1, 3, {2, 2, 1}};
  const Stored sx(x, DType::f32), sa(a, DType::f64), sb(b, DType::f64);
  Stored sy(y, DType::f32);
  backend->apply(formulas::SelectLess{}, {sa.cview(), sb.cview(), sx.cview(), sy.cview()}, {sy.view()});
  EXPECT_TRUE(equal(matrix_of(sy.values(), 0), rounded(matrix_of(x, 0), DType::f32)));
  for (const Index i : {1, 2})
    EXPECT_TRUE(equal(matrix_of(sy.values(), i), rounded(matrix_of(y, i), DType::f32)));
}

TEST(Formulas, ResolventsAreTheirFormulaInBothLayouts) {
  const auto backend = make_tested_backend();
  Random random(2);
  const Index m = 700, n = 5;  // more rows than a block of a loop
  const Matrix y = rounded(gaussian(random, m, n), DType::f32);
  Matrix s{n, 1}, lam{m, 1}, p{m, 1}, q{m, 1}, w{m, n};
  for (double& value : s.values) value = 1 + random.uniform();
  for (double& value : lam.values) value = random.uniform();
  for (Index i = 0; i < m; ++i) {
    for (Index j = 0; j < n; ++j) {
      const double shift = s(j, 0) + lam(i, 0), term = y(i, j) / shift;
      p(i, 0) += term * term;
      q(i, 0) += term * term / shift;
      w(i, j) = term;
    }
  }
  for (const bool column_major : {false, true}) {
    const Stored sy(y, DType::f32, {.column_major = column_major}), ss(s, DType::f64), sl(lam, DType::f64);
    Stored sp(Matrix{m, 1}, DType::f64), sq(Matrix{m, 1}, DType::f64), sw(w, DType::f64);
    backend->apply(formulas::ResolventSums{}, {sy.cview(), transposed(ss.cview()), sl.cview()},
                   {sp.view(), sq.view()});
    EXPECT_TRUE(close(sp.values(), p, n * kDoubleBound * largest(p)));
    EXPECT_TRUE(close(sq.values(), q, n * kDoubleBound * largest(q)));
    backend->apply(formulas::Resolvent{}, {sy.cview(), transposed(ss.cview()), sl.cview()}, {sw.view()});
    EXPECT_TRUE(close(sw.values(), w, kDoubleBound * largest(w)));
  }
  const double step = 2.0 / 0.5 * (std::sqrt(2.0 / 0.25) - 1);
  expect_rows(formulas::ResolventNewton{.target = 0.25, .floor = -1},
              {column({2, 2, 2}), column({0.5, 0, 0.5}), column({0, 3, -100})}, {column({step, 3, -1})});
}

TEST(Formulas, BlendUpdateAndAdamAreTheirFormulasForEveryTypeAndPlacement) {
  const auto backend = make_tested_backend();
  Random random(3);
  const formulas::Adam adam{.lr = 0.1,
                            .beta1 = 0.8,
                            .beta2 = 0.9,
                            .eps = 1e-6,
                            .weight_decay = 0.3,
                            .correction1 = 0.36,
                            .correction2 = 0.19};
  for (const DType state : {DType::f32, DType::f64}) {
    for (const DType type : {DType::f32, DType::f64, DType::bf16}) {
      for (const Placement& placement :
           {Placement{}, {.gap = 2, .offset = 1}, {.column_major = true, .gap = 1}}) {
        const Matrix g = rounded(gaussian(random, 7, 5), type), m = rounded(gaussian(random, 7, 5), state),
                     w = rounded(gaussian(random, 7, 5), type);
        Matrix v = rounded(gaussian(random, 7, 5), state);
        for (double& value : v.values) value *= value;
        v = rounded(v, state);
        const double u =
            std::max(unit_roundoff(state), type == DType::f64 && state == DType::f64 ? 0x1p-53 : 0x1p-24);
        const Stored sg(g, type, placement);
        Stored sm(m, state, placement), sv(v, state, placement), sw(w, type, placement),
            sb(m, state, placement);
        backend->apply(adam, {sg.cview(), sm.cview(), sv.cview(), sw.cview()},
                       {sm.view(), sv.view(), sw.view()});
        const Matrix m1 = sum(0.8, m, 0.2, g);
        Matrix v1 = v, w1 = w;
        for (std::size_t k = 0; k < w.values.size(); ++k) {
          v1.values[k] = 0.9 * v.values[k] + 0.1 * g.values[k] * g.values[k];
          w1.values[k] = (1 - 0.1 * 0.3) * w.values[k] -
                         0.1 * (m1.values[k] / 0.36) / (std::sqrt(v1.values[k] / 0.19) + 1e-6);
        }
        const double rounding = type == DType::bf16 ? 0x1p-8 : 0;
        EXPECT_TRUE(close(sm.values(), m1, 8 * u * largest(m1)));
        EXPECT_TRUE(close(sv.values(), v1, 8 * u * largest(v1)));
        // The quotient of two moments of relative error 8 u each, at most 1 / 0.36 sqrt(0.19 / v) m.
        double quotient = 0;
        for (std::size_t k = 0; k < w.values.size(); ++k) {
          quotient = std::max(quotient, std::abs(m1.values[k]) / std::sqrt(v1.values[k]));
        }
        EXPECT_TRUE(close(sw.values(), w1, rounding * largest(w1) + 32 * u * (largest(w1) + quotient)));
        EXPECT_TRUE(sw.padding_is_untouched());

        sm = Stored(m, state, placement);
        backend->apply(formulas::Blend{.momentum = 0.75, .nesterov = true}, {sg.cview(), sm.cview()},
                       {sm.view(), sb.view()});
        const Matrix fresh = sum(0.75, m, 0.25, g);
        EXPECT_TRUE(close(sm.values(), fresh, 4 * u * largest(fresh)));
        EXPECT_TRUE(close(sb.values(), sum(0.75, fresh, 0.25, g), 8 * u * largest(fresh)));
        sw = Stored(w, type, placement);
        backend->apply(formulas::Update{.rate = 0.5, .keep = 0.75}, {sm.cview(), sw.cview()}, {sw.view()});
        const Matrix moved = sum(-0.5, sm.values(), 0.75, w);
        EXPECT_TRUE(close(sw.values(), moved, (rounding + 4 * u) * largest(moved)));
      }
    }
  }
}

TEST(Apply, BehindAFlagWritesWhereItIsOne) {
  const auto backend = make_tested_backend();
  Random random(4);
  const Matrix x = gaussian(random, 4, 3), y = gaussian(random, 4, 3);
  for (const double open : {0.0, 1.0}) {
    const Stored sx(x, DType::f64), flag(number(open), DType::f32);
    Stored sy(y, DType::f64);
    const MatrixView list[] = {sy.view()};
    backend->apply(formulas::Copy{}, {sx.cview()}, {std::span<const MatrixView>(list)},
                   {.flag = flag.cview()});
    EXPECT_TRUE(equal(sy.values(), open == 1 ? x : y));
  }
  Stored sy(y, DType::f64);
  backend->apply(formulas::Copy{}, {Stored(x, DType::f64).cview()}, {sy.view()}, {.open = false});
  EXPECT_TRUE(equal(sy.values(), y));
}

TEST(Apply, RefusesShapesAndNumbersOfOperandsThatDoNotFit) {
  const auto backend = make_cpu_backend();
  Stored x(Matrix{4, 3}, DType::f64), y(Matrix{3, 4}, DType::f64);
  EXPECT_THAT(message_of([&] {
                backend->apply(formulas::Quotient{}, {x.cview(), y.cview()}, {x.view()});
              }),
              ::testing::HasSubstr("4x3"));
  EXPECT_THAT(message_of([&] { backend->apply(formulas::Quotient{}, {x.cview()}, {x.view()}); }),
              ::testing::HasSubstr("2"));
}

}  // namespace
}  // namespace aurora::test
