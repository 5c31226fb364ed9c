// Trajectories of all update rules against tests/golden, which an independent program wrote in float64.

#include "support/golden.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "support/group.hpp"
#include "support/matchers.hpp"

namespace aurora::test {
namespace {

struct Case {
  std::string shape, variant;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.shape << " " << c.variant; }
};

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const std::string shape : {"24x8", "8x24", "16x16", "33x7"}) {
    for (const std::string& variant : golden().names_after(shape + "/weight/"))
      list.push_back({shape, variant});
  }
  return list;
}

class GoldenTrajectory : public ::testing::TestWithParam<Case> {
 protected:
  std::vector<Matrix> gradients() const {
    std::vector<Matrix> list;
    for (const std::string& step : golden().names_after(GetParam().shape + "/gradient/")) {
      list.push_back(golden()[GetParam().shape + "/gradient/" + step]);
    }
    return list;
  }
  const Matrix& start() const { return golden()[GetParam().shape + "/start"]; }
  const Matrix& expected() const { return golden()[GetParam().shape + "/weight/" + GetParam().variant]; }
  Rule options() const { return parse_variant(GetParam().variant); }
  bool exact() const { return GetParam().variant.find("polar=") == std::string::npos; }

  std::unique_ptr<Backend> backend_ = make_cpu_backend();
};

/// The most that the weight of a trajectory moves when every element of the gradients changes by `relative`,
/// in eight tries. The Riemannian rule applies its schedule seven times; one that does not converge is steep
/// at 1 and multiplies errors each time.
double response(Backend& backend, const Rule& options, const Matrix& start,
                const std::vector<Matrix>& gradients, double relative) {
  const Matrix before = trajectory(backend, options, start, gradients);
  double most = 0;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Random random(seed);
    std::vector<Matrix> moved = gradients;
    for (Matrix& gradient : moved) {
      for (double& value : gradient.values) value *= 1 + relative * random.normal();
    }
    most = std::max(most, largest(sum(1, trajectory(backend, options, start, moved), -1, before)));
  }
  return most;
}

bool amplifies(const Rule& options) {
  const auto* riemannian = std::get_if<RiemannianAuroraOptions>(&options);
  return riemannian &&
         (riemannian->polar == Polar::keller_jordan_5 || riemannian->polar == Polar::polar_express_5);
}

std::string test_name(const ::testing::TestParamInfo<Case>& info) {
  std::string text = info.param.shape + "_" + info.param.variant;
  std::replace_if(
      text.begin(), text.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return text;
}
INSTANTIATE_TEST_SUITE_P(All, GoldenTrajectory, ::testing::ValuesIn(cases()), test_name);

TEST_P(GoldenTrajectory, IsReproducedInFloat64) {
  Group group({start()}, kDouble);
  for (const Matrix& gradient : gradients())
    ASSERT_TRUE(group.step(*backend_, options(), {gradient}).applied);
  // A schedule multiplies rounding errors of its first step by its gain, up to 10^4; the exact factor does
  // not.
  double bound = exact() ? 1e-12 : 1e-10;
  if (amplifies(options())) bound += 10 * response(*backend_, options(), start(), gradients(), 1e-14);
  EXPECT_TRUE(relatively_close(group.weights.front().values(), expected(), bound));

  const std::string state = GetParam().shape + "/state/" + GetParam().variant;
  if (golden().has(state)) {
    const auto& states = row_state_name(options()).empty() ? group.squares : group.row_states;
    EXPECT_TRUE(relatively_close(states.front().values(), golden()[state], bound));
  }
  if (std::holds_alternative<AdamWOptions>(options())) return;
  const bool half = GetParam().variant.find("momentum=0.5") != std::string::npos;
  EXPECT_TRUE(relatively_close(group.momentum.front().values(),
                               golden()[GetParam().shape + (half ? "/momentum/0.5" : "/momentum/0.95")],
                               1e-14));
}

/// What rounding to float32 can do to the weight of a trajectory. Momentum and gradient are rounded, a
/// relative error of about u each; the polar factor, or a schedule, multiplies it by the condition number of
/// the matrix (with rows scaled for the balanced rules); norms over n entries add sqrt(n). Evening out rows
/// and the later polar factors of one direction add a small factor, 32 together. Each step adds lr * scale
/// times that, and rounds the weight.
double float32_bound(const Rule& options, const std::vector<Matrix>& gradients, const Matrix& weight) {
  const double u = 0x1p-24, steps = static_cast<double>(gradients.size());
  const double rounding = 2 * steps * u * largest(weight);
  if (const auto* adamw = std::get_if<AdamWOptions>(&options)) return rounding + 32 * steps * adamw->lr * u;
  return std::visit(
      [&](const auto& o) {
        if constexpr (requires { o.momentum; }) {
          const auto scale = applied_scale(o);
          double condition = 1;
          Matrix momentum{weight.rows, weight.cols};
          for (const Matrix& gradient : gradients) {
            momentum = sum(o.momentum, momentum, 1 - o.momentum, gradient);
            Matrix blended = o.nesterov ? sum(o.momentum, momentum, 1 - o.momentum, gradient) : momentum;
            condition = std::max(condition, condition_number(blended));
            for (Index i = 0; i < blended.rows; ++i) {
              double squares = 0;
              for (Index j = 0; j < blended.cols; ++j) squares += blended(i, j) * blended(i, j);
              for (Index j = 0; j < blended.cols; ++j) blended(i, j) /= std::sqrt(squares);
            }
            condition = std::max(condition, condition_number(blended));
          }
          const double n = static_cast<double>(std::min(weight.rows, weight.cols));
          return rounding + steps * o.lr * update_scale(scale, weight.rows, weight.cols) * 32 * std::sqrt(n) *
                                condition * u;
        } else {
          return rounding;
        }
      },
      options);
}

TEST_P(GoldenTrajectory, IsFollowedInFloat32AsCloselyAsItsRoundingAllows) {
  const Matrix weight = trajectory(*backend_, options(), start(), gradients(), kSingle);
  double bound = float32_bound(options(), gradients(), expected());
  if (amplifies(options())) bound += 10 * response(*backend_, options(), start(), gradients(), 16 * 0x1p-24);
  EXPECT_TRUE(close(weight, expected(), bound));
}

TEST_P(GoldenTrajectory, IsFollowedByBf16WeightsWithFloat32States) {
  std::vector<Matrix> rounded_gradients;
  for (const Matrix& gradient : gradients()) rounded_gradients.push_back(rounded(gradient, DType::bf16));
  const Matrix first = rounded(start(), DType::bf16);
  const Matrix single = trajectory(*backend_, options(), first, rounded_gradients, kSingle);
  const Matrix half = trajectory(*backend_, options(), first, rounded_gradients, kHalf);
  // The directions see the same gradients; every step rounds the weight once, to 2^-8 of its size.
  const double size = std::max(largest(single), largest(first)) * 1.5;
  EXPECT_TRUE(close(half, single, static_cast<double>(rounded_gradients.size()) * 0x1p-8 * size));
  EXPECT_FALSE(equal(half, first));
}

TEST(Golden, CoversEveryOptimizerWithEveryScheduleAndScale) {
  std::set<std::string> seen;
  for (const Case& c : cases()) {
    const Rule options = parse_variant(c.variant);
    for (const Hyperparameter& h : hyperparameters(options)) {
      seen.insert(std::string(name(options)) + " " + h.name + " " + h.value);
    }
  }
  for (const std::string& optimizer : rule_names()) {
    const Rule options = rule_of(optimizer);
    for (const Hyperparameter& h : hyperparameters(options)) {
      const std::string prefix = "one of ";
      if (!h.rule.starts_with(prefix)) continue;
      std::string rest = h.rule.substr(prefix.size()) + ", ";
      for (std::size_t comma = rest.find(", "); !rest.empty(); comma = rest.find(", ")) {
        const std::string value = rest.substr(0, comma);
        // `exact` is what auto takes here; other precisions have no products on the CPU.
        EXPECT_TRUE(seen.contains(optimizer + " " + h.name + " " + value) || value == "exact" ||
                    h.name == "precision")
            << optimizer << " " << h.name << " " << value;
        rest = rest.substr(comma + 2);
      }
    }
  }
}

}  // namespace
}  // namespace aurora::test
