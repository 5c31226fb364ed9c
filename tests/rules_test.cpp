#include "aurora/rules.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "support/group.hpp"
#include "support/matchers.hpp"

namespace aurora::test {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string value_of(const Rule& options, const std::string& key) {
  for (const Hyperparameter& h : hyperparameters(options)) {
    if (h.name == key) return h.value;
  }
  return "(none)";
}

Rule with(std::string_view optimizer, std::string_view key, std::string_view value) {
  Rule options = rule_of(optimizer);
  set_hyperparameter(options, key, value);
  return options;
}

TEST(Variants, RefuseAnOptionThatTheOthersSwitchOff) {
  EXPECT_THAT(message_of([] { parse_variant("aurora:pp_beta=0.25"); }),
              ::testing::AllOf(::testing::HasSubstr("pp_beta"), ::testing::HasSubstr("balance=release")));
  EXPECT_EQ(std::get<AuroraOptions>(parse_variant("aurora:pp_beta=0.25+balance=release")).pp_beta, 0.25);
}

TEST(RowState, IsOneNumberPerRowOrPerLineOfTheLongerSide) {
  EXPECT_EQ(row_state_size(MuonOptions{}, 6, 4), 0);
  EXPECT_EQ(row_state_size(NorMuonOptions{}, 4, 6), 4);
  EXPECT_EQ(row_state_size(AuroraOptions{}, 6, 4), 0);
  EXPECT_EQ(row_state_size(AuroraOptions{.balance = Balance::carried}, 4, 6), 6);
  EXPECT_EQ(row_state_name(AuroraOptions{.balance = Balance::carried}), "row_scales");
}

TEST(Rules, AreTheKindsOfTheVariantByTheirNames) {
  EXPECT_THAT(rule_names(), ::testing::IsSupersetOf(
                                {"adamw", "muon", "normuon", "u-normuon", "aurora", "riemannian-aurora"}));
  EXPECT_EQ(rule_names().size(), std::variant_size_v<Rule>);
  std::set<std::string> names;
  for (const Rule& rule : all_rules()) {
    EXPECT_TRUE(names.insert(std::string(name(rule))).second) << name(rule);
    EXPECT_EQ(rule_of(name(rule)).index(), rule.index());
    EXPECT_FALSE(meaning(rule).empty());
    EXPECT_EQ(takes_matrices(rule), name(rule) != "adamw");
  }
}

TEST(Rules, HaveTheDefaultsThatTheContractLists) {
  for (const std::string_view optimizer : {"muon", "normuon", "u-normuon", "aurora", "riemannian-aurora"}) {
    const Rule o = rule_of(optimizer);
    EXPECT_EQ(value_of(o, "lr"), "0.02");
    EXPECT_EQ(value_of(o, "momentum"), "0.95");
    EXPECT_EQ(value_of(o, "nesterov"), "true");
    EXPECT_EQ(value_of(o, "weight_decay"), "0.025");
    EXPECT_EQ(value_of(o, "scale"), "aspect_ratio");
    EXPECT_EQ(value_of(o, "polar"), "auto");
    EXPECT_EQ(value_of(o, "precision"), "auto");
  }
  EXPECT_EQ(value_of(NorMuonOptions{}, "beta2"), "0.95");
  EXPECT_EQ(value_of(AuroraOptions{}, "sides"), "rows");
  EXPECT_EQ(value_of(AuroraOptions{}, "pp_iterations"), "2");
  EXPECT_EQ(value_of(AuroraOptions{}, "pp_beta"), "0.5");
  EXPECT_EQ(value_of(AuroraOptions{}, "balance"), "odds");
  EXPECT_EQ(value_of(AdamWOptions{}, "lr"), "0.003");
  EXPECT_EQ(value_of(AdamWOptions{}, "beta1"), "0.9");
  EXPECT_EQ(value_of(AdamWOptions{}, "beta2"), "0.95");
  EXPECT_EQ(value_of(AdamWOptions{}, "eps"), "1e-08");
  EXPECT_EQ(value_of(AdamWOptions{}, "weight_decay"), "0");
}

TEST(Rules, ThatDoNotExistAreNamedWithTheNearestFirst) {
  const std::string message = message_of([] { rule_of("arora"); });
  EXPECT_THAT(message, AllOf(HasSubstr("arora"), HasSubstr("'aurora'")));
  for (const std::string& optimizer : rule_names()) EXPECT_THAT(message, HasSubstr(optimizer));
  EXPECT_THAT(message_of([] { rule_of("mun"); }), HasSubstr("'muon'"));
  EXPECT_THAT(message_of([] { rule_of("adam"); }), HasSubstr("'adamw'"));
  EXPECT_THROW(rule_of(""), std::invalid_argument);
  EXPECT_THROW(rule_of("Aurora"), std::invalid_argument);
}

TEST(Hyperparameters, OfEveryOptimizerHaveDifferentNamesARuleAndAMeaning) {
  for (const std::string& optimizer : rule_names()) {
    std::set<std::string> names;
    for (const Hyperparameter& h : hyperparameters(rule_of(optimizer))) {
      EXPECT_TRUE(names.insert(h.name).second) << h.name;
      EXPECT_FALSE(h.rule.empty());
      EXPECT_FALSE(h.meaning.empty());
    }
    EXPECT_GE(names.size(), 5u);
  }
}

TEST(Hyperparameters, AsTextReadBackToTheSameOptions) {
  const std::vector<std::string> numbers = {"0.1", "1e-20", "0.30000000000000004", "0.1234567890123456"};
  for (const std::string& optimizer : rule_names()) {
    Rule changed = rule_of(optimizer);
    std::size_t next = 0;
    for (const Hyperparameter& h : hyperparameters(changed)) {
      if (h.rule.starts_with("one of ")) {
        const auto last = h.rule.rfind(' ');
        set_hyperparameter(changed, h.name, h.rule.substr(last + 1));
      } else if (h.rule.starts_with("an integer")) {
        set_hyperparameter(changed, h.name, "7");
      } else {
        set_hyperparameter(changed, h.name, numbers[next++ % numbers.size()]);
      }
    }
    EXPECT_FALSE(changed == rule_of(optimizer));
    Rule copy = rule_of(optimizer);
    for (const Hyperparameter& h : hyperparameters(changed)) set_hyperparameter(copy, h.name, h.value);
    EXPECT_TRUE(copy == changed) << optimizer;
    EXPECT_EQ(value_of(copy, "lr"), "0.1");
  }
}

TEST(Hyperparameters, AsValuesReadBackToTheSameOptions) {
  for (const Rule& rule : all_rules()) {
    Rule copy = rule;
    for (const Hyperparameter& h : hyperparameters(rule)) set_hyperparameter_value(copy, h.name, h.typed);
    EXPECT_TRUE(copy == rule) << name(rule);
  }
  Rule aurora = AuroraOptions{};
  set_hyperparameter_value(aurora, "lr", std::int64_t{1});
  set_hyperparameter_value(aurora, "pp_iterations", 3.0);
  EXPECT_EQ(std::get<AuroraOptions>(aurora).lr, 1);
  EXPECT_EQ(std::get<AuroraOptions>(aurora).pp_iterations, 3);
}

TEST(Hyperparameters, OfAnotherTypeAreRefusedWithKeyValueAndRule) {
  Rule rule = AuroraOptions{};
  const auto refused = [&](std::string_view key, const HyperparameterValue& value) {
    return message_of([&] { set_hyperparameter_value(rule, key, value); });
  };
  EXPECT_THAT(refused("lr", std::string("0.1")), AllOf(HasSubstr("lr"), HasSubstr("'0.1'")));
  EXPECT_THAT(refused("lr", true), HasSubstr("true"));
  EXPECT_THAT(refused("lr", -1.0), HasSubstr("-1"));
  EXPECT_THAT(refused("lr", kNaN), HasSubstr("nan"));
  EXPECT_THAT(refused("pp_iterations", 2.5), HasSubstr("2.5"));
  EXPECT_THAT(refused("pp_iterations", std::int64_t{1} << 40), HasSubstr("1099511627776"));
  EXPECT_THAT(refused("nesterov", std::int64_t{1}), HasSubstr("true, false"));
  EXPECT_THAT(refused("balance", std::string("even")), HasSubstr("odds"));
  EXPECT_TRUE(rule == Rule(AuroraOptions{}));
}

TEST(Variants, TakeTorchsPairOfBetas) {
  const auto adamw = std::get<AdamWOptions>(parse_variant("adamw:betas=0.8,0.99+lr=0.1"));
  EXPECT_EQ(adamw.beta1, 0.8);
  EXPECT_EQ(adamw.beta2, 0.99);
  EXPECT_EQ(adamw.lr, 0.1);
}

TEST(Methods, AreNamedAsTheyAreResolved) {
  EXPECT_EQ(method_text(AuroraOptions{}, Device::cpu), "exact polar factors");
  EXPECT_EQ(method_text(AuroraOptions{}, Device::accelerator), "polar-express-7 in float16");
  EXPECT_EQ(method_text(AuroraOptions{}, Device::accelerator, DType::f64), "exact polar factors");
  EXPECT_EQ(method_text(MuonOptions{.polar = Polar::exact}, Device::accelerator), "exact polar factors");
  EXPECT_EQ(method_text(AdamWOptions{}, Device::cpu), "element by element");
}

TEST(Hyperparameters, ThatAreUnknownAreNamedWithTheNearestAndAllThatExist) {
  Rule options = AuroraOptions{};
  const std::string message = message_of([&] { set_hyperparameter(options, "pp_iteration", "2"); });
  EXPECT_THAT(message, AllOf(HasSubstr("aurora"), HasSubstr("'pp_iteration'"), HasSubstr("'pp_iterations'")));
  for (const Hyperparameter& h : hyperparameters(options)) EXPECT_THAT(message, HasSubstr(h.name));
  EXPECT_TRUE(options == Rule(AuroraOptions{}));
  Rule muon = MuonOptions{};
  EXPECT_THROW(set_hyperparameter(muon, "pp_beta", "0.5"), std::invalid_argument);
  EXPECT_THROW(set_hyperparameter(muon, "beta2", "0.5"), std::invalid_argument);
}

TEST(Hyperparameters, OutsideTheirBoundsAreRefusedWithOptimizerKeyValueAndRule) {
  struct Wrong {
    std::string_view optimizer, key, value;
  };
  for (const auto& [optimizer, key, value] : {Wrong{"muon", "lr", "-0.1"},
                                              {"muon", "lr", "nan"},
                                              {"muon", "lr", "inf"},
                                              {"muon", "lr", ""},
                                              {"muon", "lr", "0.1x"},
                                              {"muon", "lr", " 0.1"},
                                              {"muon", "momentum", "1"},
                                              {"muon", "momentum", "1.5"},
                                              {"muon", "momentum", "-0.1"},
                                              {"muon", "nesterov", "yes"},
                                              {"muon", "weight_decay", "-1"},
                                              {"muon", "weight_decay", "1e999"},
                                              {"muon", "scale", "spectral"},
                                              {"muon", "polar", "newton"},
                                              {"normuon", "beta2", "1"},
                                              {"aurora", "sides", "columns"},
                                              {"aurora", "pp_iterations", "0"},
                                              {"aurora", "pp_iterations", "-2"},
                                              {"aurora", "pp_iterations", "2.5"},
                                              {"aurora", "pp_iterations", "99999999999"},
                                              {"aurora", "pp_beta", "0"},
                                              {"aurora", "pp_beta", "-0.5"},
                                              {"adamw", "eps", "0"},
                                              {"adamw", "beta1", "1"},
                                              {"adamw", "beta2", "2"}}) {
    Rule options = rule_of(optimizer);
    const std::string before = value_of(options, std::string(key));
    const std::string message =
        message_of([&, key = key, value = value] { set_hyperparameter(options, key, value); });
    std::string rule;
    for (const Hyperparameter& h : hyperparameters(options)) {
      if (h.name == key) rule = h.rule;
    }
    EXPECT_THAT(message, AllOf(HasSubstr(std::string(optimizer)), HasSubstr(std::string(key)),
                               HasSubstr(std::string("'").append(value).append("'")), HasSubstr(rule)));
    EXPECT_EQ(value_of(options, std::string(key)), before);
  }
}

TEST(Hyperparameters, AtTheirBoundsAreTaken) {
  EXPECT_EQ(std::get<MuonOptions>(with("muon", "lr", "0")).lr, 0);
  EXPECT_EQ(std::get<MuonOptions>(with("muon", "momentum", "0")).momentum, 0);
  EXPECT_EQ(std::get<AuroraOptions>(with("aurora", "pp_iterations", "1")).pp_iterations, 1);
  EXPECT_TRUE(std::get<AuroraOptions>(with("aurora", "polar", "cans-12")).polar == Polar::cans_12);
  EXPECT_EQ(std::get<AuroraOptions>(with("aurora", "sides", "longer")).sides, Sides::longer);
}

TEST(Validate, NamesTheFirstFieldOutsideItsBoundsAndItsValue) {
  EXPECT_NO_THROW(validate(AuroraOptions{}));
  EXPECT_THAT(message_of([] { validate(AuroraOptions{.lr = -1}); }), AllOf(HasSubstr("lr"), HasSubstr("-1")));
  EXPECT_THAT(message_of([] { validate(MuonOptions{.lr = kNaN}); }),
              AllOf(HasSubstr("lr"), HasSubstr("nan")));
  EXPECT_THAT(message_of([] { validate(MuonOptions{.momentum = 1.5}); }),
              AllOf(HasSubstr("momentum"), HasSubstr("1.5")));
  EXPECT_THAT(message_of([] { validate(AuroraOptions{.pp_iterations = 0}); }),
              AllOf(HasSubstr("pp_iterations"), HasSubstr("0")));
  EXPECT_THAT(message_of([] { validate(AdamWOptions{.eps = 0}); }), HasSubstr("eps"));
  EXPECT_THROW(validate(MuonOptions{.scale = static_cast<UpdateScale>(17)}), std::invalid_argument);
}

TEST(Variant, IsANameWithOptions) {
  const auto options = std::get<AuroraOptions>(
      parse_variant("aurora:pp_iterations=3+pp_beta=0.25+balance=release+sides=longer"));
  EXPECT_EQ(options.pp_iterations, 3);
  EXPECT_EQ(options.pp_beta, 0.25);
  EXPECT_EQ(options.sides, Sides::longer);
  EXPECT_EQ(options.lr, AuroraOptions{}.lr);
  EXPECT_TRUE(parse_variant("muon") == Rule(MuonOptions{}));
  EXPECT_TRUE(std::get<MuonOptions>(parse_variant("muon:polar=keller-jordan-5")).polar ==
              Polar::keller_jordan_5);
  EXPECT_EQ(std::get<MuonOptions>(parse_variant("muon:lr=1e-3")).lr, 1e-3);
}

TEST(Variant, ThatCannotBeReadSaysWhy) {
  EXPECT_THAT(message_of([] { parse_variant("aurora:pp_beta"); }), HasSubstr("pp_beta"));
  EXPECT_THAT(message_of([] { parse_variant("aurora:pp_bet=1"); }), HasSubstr("'pp_beta'"));
  EXPECT_THAT(message_of([] { parse_variant("aurra:pp_beta=1"); }), HasSubstr("'aurora'"));
  for (const std::string_view text :
       {"", ":", "aurora:", "aurora:+", "aurora:lr=0.1+", "aurora:=1", "aurora:lr="}) {
    EXPECT_THROW(parse_variant(text), std::invalid_argument) << text;
  }
}

TEST(Nearest, IsTheNameWithTheFewestEdits) {
  const std::vector<std::string> names = {"alpha", "beta", "gamma"};
  EXPECT_EQ(nearest("gama", names), "gamma");
  EXPECT_EQ(nearest("bet", names), "beta");
  EXPECT_EQ(nearest("alpha", names), "alpha");
  EXPECT_EQ(nearest("eta", names), "beta");
  EXPECT_EQ(nearest("x", {}), "");
}

TEST(RowState, IsOnlyNorMuons) {
  for (const std::string& optimizer : rule_names()) {
    EXPECT_EQ(row_state_name(rule_of(optimizer)), optimizer == "normuon" ? "second_momentum_buffer" : "");
  }
}

TEST(PublishedScale, OfEachRuleIsThatOfItsPaperOrCode) {
  EXPECT_EQ(applied_scale(MuonOptions{.scale = UpdateScale::published}), UpdateScale::aspect_ratio);
  EXPECT_EQ(applied_scale(NorMuonOptions{.scale = UpdateScale::published}), UpdateScale::match_rms_adamw);
  EXPECT_EQ(applied_scale(UNorMuonOptions{.scale = UpdateScale::published}), UpdateScale::none);
  EXPECT_EQ(applied_scale(AuroraOptions{.scale = UpdateScale::published}), UpdateScale::aspect_ratio);
  EXPECT_EQ(applied_scale(RiemannianAuroraOptions{.scale = UpdateScale::published}),
            UpdateScale::aspect_ratio);
  EXPECT_EQ(applied_scale(MuonOptions{.scale = UpdateScale::none}), UpdateScale::none);
}

TEST(PublishedScale, OfNorMuonIsAnUpdateOfRmsOneFifth) {
  Random random(1);
  const auto backend = make_cpu_backend();
  for (const auto& [rows, cols] : {std::pair<Index, Index>{24, 8}, {8, 24}}) {
    Group group({Matrix{rows, cols}}, kDouble);
    group.step(*backend, NorMuonOptions{.lr = 1, .weight_decay = 0, .scale = UpdateScale::published},
               {gaussian(random, rows, cols)});
    const double rms =
        frobenius(group.weights.front().values()) / std::sqrt(static_cast<double>(rows * cols));
    EXPECT_NEAR(rms, 0.2, 1e-12);
  }
}

TEST(Directions, OfATallMatrixAllHaveTheFrobeniusNormOfAPolarFactor) {
  Random random(2);
  const auto backend = make_cpu_backend();
  for (const std::string_view optimizer : {"muon", "normuon", "u-normuon", "aurora", "riemannian-aurora"}) {
    Group group({Matrix{24, 8}}, kDouble);
    group.keep_directions();
    for (int t = 0; t < 3; ++t) group.step(*backend, rule_of(optimizer), {uneven_rows(random, 24, 8, 0.7)});
    EXPECT_NEAR(frobenius(group.directions.front().values()), std::sqrt(8.0), 1e-12) << optimizer;
  }
}

TEST(NorMuon, WithoutMemoryGivesEqualRowsAndWithItRemembersThem) {
  Random random(3);
  const auto backend = make_cpu_backend();
  const Matrix g = uneven_rows(random, 12, 12, 0.5), other = uneven_rows(random, 12, 12, 0.5);
  for (const auto& [rows, cols] : {std::pair<Index, Index>{24, 8}, {8, 24}}) {
    Group group({Matrix{rows, cols}}, kDouble);
    group.keep_directions();
    group.step(*backend, NorMuonOptions{.beta2 = 0}, {uneven_rows(random, rows, cols, 0.5)});
    const Matrix u = group.directions.front().values();
    const double target = static_cast<double>(std::min(rows, cols)) / static_cast<double>(rows);
    for (Index i = 0; i < rows; ++i) {
      double squares = 0;
      for (Index j = 0; j < cols; ++j) squares += u(i, j) * u(i, j);
      EXPECT_NEAR(squares, target, 1e-12);
    }
  }
  Group group({Matrix{12, 12}}, kDouble);
  for (const Matrix& gradient : {g, other}) group.step(*backend, NorMuonOptions{}, {gradient});
  // Rows of a square polar factor have mean square 1/12, at both steps.
  for (const double v : group.row_states.front().values().values) {
    EXPECT_NEAR(v, (0.95 * 0.05 + 0.05) / 12, 1e-14);
  }
}

TEST(NorMuon, NeedsARowStateForEachMatrix) {
  const auto backend = make_cpu_backend();
  Group group({identity(4), identity(4)}, kDouble);
  group.gradients.assign(2, Stored(identity(4), DType::f64));
  const auto gradients = const_views(group.gradients);
  const auto momentum = views(group.momentum), weights = views(group.weights);
  const Group before = group;
  EXPECT_THAT(message_of([&] {
                step(*backend, NorMuonOptions{}, {gradients, momentum, weights});
              }),
              HasSubstr("row state"));
  EXPECT_TRUE(same_bytes(group.momentum.front(), before.momentum.front())) << "momentum was advanced";
}

TEST(AdamW, TakesTensorsOfManyShapesAtOnceAndOnAnyNumberOfThreads) {
  Random random(4);
  const std::vector<std::pair<Index, Index>> shapes = {{1, 1},     {1, 300}, {300, 1},
                                                       {70, 2000}, {5, 7},   {2, 100000}};
  std::vector<Matrix> start, gradients;
  for (const auto& [rows, cols] : shapes) {
    start.push_back(gaussian(random, rows, cols));
    gradients.push_back(gaussian(random, rows, cols));
  }
  for (const bool column_major : {false, true}) {
    for (const int threads : {1, 2, 5}) {
      const auto backend = make_cpu_backend({.threads = threads});
      Group together(start, kSingle, {.column_major = column_major, .gap = 1});
      for (int t = 0; t < 2; ++t) together.step(*backend, AdamWOptions{.weight_decay = 0.1}, gradients);
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        const auto single = make_cpu_backend();
        Group alone({start[i]}, kSingle);
        for (int t = 0; t < 2; ++t) alone.step(*single, AdamWOptions{.weight_decay = 0.1}, {gradients[i]});
        EXPECT_TRUE(equal(together.weights[i].values(), alone.weights.front().values()));
        EXPECT_TRUE(together.weights[i].padding_is_untouched());
      }
    }
  }
}

TEST(AdamW, AtItsFirstStepMovesEveryElementByTheLearningRate) {
  const auto backend = make_cpu_backend();
  Group group({Matrix{2, 3}}, kDouble);
  group.step(*backend, AdamWOptions{.lr = 0.25, .eps = 1e-40}, {{2, 3, 1, {1, -2, 1e-10, 3e7, -1e-20, 5}}});
  EXPECT_TRUE(
      close(group.weights.front().values(), {2, 3, 1, {-0.25, 0.25, -0.25, -0.25, 0.25, -0.25}}, 1e-13));
}

TEST(AdamW, CountsStepsFromOne) {
  const auto backend = make_cpu_backend();
  Group group({Matrix{2, 2}}, kDouble);
  group.steps = -1;
  EXPECT_THAT(message_of([&] { group.step(*backend, AdamWOptions{}); }), HasSubstr("0"));
}

TEST(AdamW, OfVeryManyStepsStaysFinite) {
  const auto backend = make_cpu_backend();
  Group group({Matrix{2, 2}}, kSingle);
  group.steps = 1'000'000'000'000;
  group.step(*backend, AdamWOptions{}, {identity(2)});
  for (const double value : group.weights.front().values().values) EXPECT_TRUE(std::isfinite(value));
}

}  // namespace
}  // namespace aurora::test
