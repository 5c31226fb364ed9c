#include <gmock/gmock.h>

#include <fstream>
#include <regex>
#include <set>

#include "comparison.hpp"
#include "report_example.hpp"
#include "report_figures.hpp"
#include "report_text.hpp"
#include "svg.hpp"

namespace aurora::compare {
namespace {

using test::example_comparison;
using test::kNaN;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

TEST(Svg, TicksAreRoundNumbersWithinTheRange) {
  EXPECT_THAT(round_ticks(0, 500, 6), ElementsAre(0, 100, 200, 300, 400, 500));
  EXPECT_THAT(round_ticks(0, 10, 6), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(round_ticks(-0.031, 0.012, 5),
              ElementsAre(testing::DoubleNear(-0.03, 1e-12), testing::DoubleNear(-0.02, 1e-12),
                          testing::DoubleNear(-0.01, 1e-12), testing::DoubleNear(0, 1e-12),
                          testing::DoubleNear(0.01, 1e-12)));
  EXPECT_THAT(round_ticks(1, 1, 5), testing::IsEmpty());
  EXPECT_THAT(round_ticks(0, kNaN, 5), testing::IsEmpty());
}

TEST(Svg, DecadesAreThinnedWhereThereAreMany) {
  EXPECT_THAT(decade_ticks(0.05, 20, 6), ElementsAre(0.1, 1, 10));
  EXPECT_LE(decade_ticks(1e-30, 1e30, 6).size(), 7U);
  EXPECT_THAT(decade_ticks(0, 1, 6), testing::IsEmpty());
}

TEST(Svg, EscapedTextCannotEndItsPlace) {
  EXPECT_EQ(escape("<b a='1' c=\"2\">&"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;");
  EXPECT_EQ(escape(std::string_view("a\0b\x1b[1m", 7)), "a\uFFFDb\uFFFD[1m");
  EXPECT_EQ(escape("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(escape("\xFF!"), "\uFFFD!");
}

TEST(Svg, ACurveIsInterruptedWhereItIsNotFinite) {
  const auto point = [](double x, double y) { return Point{x, y, kNaN, kNaN, "x", "y"}; };
  const std::string svg = line_chart({"t",
                                      "d",
                                      {.label = "x"},
                                      {.label = "y"},
                                      {{0, "s", {point(0, 1), point(1, kNaN), point(2, 1), point(3, 2)}}}});
  std::smatch path;
  ASSERT_TRUE(std::regex_search(svg, path, std::regex("class=\"line\" d=\"([^\"]*)\"")));
  EXPECT_EQ(count(path[1], "M"), 2U);
  EXPECT_EQ(count(path[1], "L"), 1U);
  EXPECT_THAT(svg, Not(testing::ContainsRegex("[^a-z]nan[^a-z]")));
}

TEST(Svg, APictureSaysInWordsWhereItsCurvesEnd) {
  const std::string svg =
      line_chart({"Loss",
                  "By step.",
                  {.label = "step"},
                  {.label = "loss"},
                  {{0, "muon", {{1, 2, kNaN, kNaN, "step 1", "2.0"}, {2, 1, kNaN, kNaN, "step 2", "1.0"}}}}});
  EXPECT_THAT(svg, HasSubstr("role=\"img\""));
  EXPECT_THAT(svg, HasSubstr("<title>Loss</title><desc>By step. Ends: muon 1.0 (step 2).</desc>"));
}

TEST(Svg, NamesKeepTheirColorsWhenTheOrderChanges) {
  const auto first = series_slots({"muon", "aurora", "aurora:balance=release", "adamw:beta2=0.9"});
  const auto second =
      series_slots({"adamw:beta2=0.9", "normuon", "aurora:balance=release", "aurora", "muon"});
  EXPECT_THAT(second, ElementsAre(first[3], 2, first[2], first[1], first[0]));
  EXPECT_EQ(std::set<std::size_t>(second.begin(), second.end()).size(), 5U);
}

TEST(Svg, ABandEndsWhereThePictureDoes) {
  const auto point = [](double x, double y, double low, double high) {
    return Point{x, y, low, high, "x", "y"};
  };
  const std::string svg = line_chart({"t",
                                      "d",
                                      {.label = "x"},
                                      {.label = "y", .from_zero = true},
                                      {{0, "s", {point(0, 1, -30, 40), point(1, 2, -1, 4)}}}});
  std::smatch band;
  ASSERT_TRUE(std::regex_search(svg, band, std::regex("class=\"band\" d=\"([^\"]*)\"")));
  const std::string path = band[1];
  const std::regex pair("[ML][0-9.-]+ ([0-9.-]+)");
  for (auto at = std::sregex_iterator(path.begin(), path.end(), pair); at != std::sregex_iterator(); ++at) {
    EXPECT_GE(std::stod((*at)[1]), 36) << path;
    EXPECT_LE(std::stod((*at)[1]), 330 - 52) << path;
  }
  // The curve is not pressed into a line by its interval: it takes at least a quarter of the height.
  std::smatch line;
  ASSERT_TRUE(
      std::regex_search(svg, line, std::regex("class=\"line\" d=\"M[0-9.]+ ([0-9.]+)L[0-9.]+ ([0-9.]+)")));
  EXPECT_GE(std::stod(line[1]) - std::stod(line[2]), (330 - 52 - 36) / 4.0);
}

TEST(Svg, LinesBeyondTheColorsAreDashedThenDotted) {
  EXPECT_EQ(dash(kColors - 1), "");
  EXPECT_NE(dash(kColors), "");
  EXPECT_NE(dash(kColors), dash(2 * kColors));
}

TEST(ReportText, NumbersHaveTrueMinusSignsAndNoNegativeZero) {
  EXPECT_EQ(number(-1.25, 2), "−1.25");
  EXPECT_EQ(number(-0.00001, 2), "0.00");
  EXPECT_EQ(number(kNaN, 2), "–");
  EXPECT_EQ(signed_number(0.5, 1), "+0.5");
  EXPECT_EQ(signed_number(0.00001, 2), "0.00");
  EXPECT_EQ(percent(0.0474), "4.7\u00a0%");
  EXPECT_EQ(grouped_digits(1115264), "1,115,264");
  EXPECT_EQ(grouped_digits(-123456), "-123,456");
  EXPECT_EQ(counted(1, "seed"), "1 seed");
  EXPECT_EQ(typeset("95 % interval -0.1, u-normuon"), "95\u00a0% interval −0.1, u-normuon");
}

TEST(ReportText, AVerdictNeedsAnIntervalOnOneSideOfZero) {
  const auto of = [](double low, double high, std::size_t seeds) {
    return verdict({.a = "a",
                    .b = "b",
                    .validation_loss = {-0.2, -1, -0.1, std::vector<double>(seeds)},
                    .seeds = static_cast<int>(seeds),
                    .adjusted = {low, high, 0.01}});
  };
  EXPECT_EQ(of(-0.3, -0.1, 3), Verdict::lower);
  EXPECT_EQ(of(0.1, 0.3, 3), Verdict::higher);
  EXPECT_EQ(of(-0.5, 0.1, 3), Verdict::open) << "Holm's counts, not the plain one";
  EXPECT_EQ(of(kNaN, kNaN, 3), Verdict::open);
  EXPECT_EQ(of(-0.3, -0.1, 2), Verdict::open) << "two seeds";
}

TEST(ReportFigures, TheZoomLeavesOutWhoIsFarAboveAndSaysSo) {
  const auto chart = validation_last_third_chart(example_comparison());
  ASSERT_TRUE(chart);
  EXPECT_EQ(chart->note, "Above the picture: adamw");
  EXPECT_TRUE(chart->series[0].points.empty());
  EXPECT_EQ(chart->series[1].points.size(), 4U);  // steps 350, 400, 450, 500
  EXPECT_EQ(chart->series[1].points.front().x, 350);
}

TEST(ReportFigures, LongCurvesAreThinnedAndKeepTheirEnd) {
  Comparison comparison = example_comparison();
  comparison.optimizers.resize(2);
  for (Index step = 501; step <= 20000; ++step)
    comparison.optimizers[0].validation.push_back({step, 1.0 * static_cast<double>(step), 1.5, 1.4, 1.6});
  const auto chart = validation_chart(comparison);
  ASSERT_TRUE(chart);
  EXPECT_EQ(chart->series[0].points.size(), 19510U) << "exports have them all";
  EXPECT_EQ(chart->series[0].points.back().x, 20000);
  const std::string svg = line_chart(*chart);
  EXPECT_LE(count(svg, "step "), 2 * 161U + 4);
  EXPECT_THAT(svg, HasSubstr("step 20,000"));
}

TEST(ReportFigures, TheBestRateAtTheEdgeIsSeenOnEitherSide) {
  OptimizerResult result{};
  result.swept = {{0.5, 0.01, 1.7}, {1, 0.02, 1.6}, {2, 0.04, 1.65}};
  EXPECT_EQ(best_rate(result)->lr, 0.02);
  EXPECT_FALSE(best_is_at_edge(result));
  result.swept[2].validation_loss = 1.5;
  EXPECT_TRUE(best_is_at_edge(result));
  result.swept = {{0.5, 0.01, 1.5}, {1, 0.02, 1.6}, {2, 0.04, kNaN}};
  EXPECT_TRUE(best_is_at_edge(result));
  result.swept = {{1, 0.02, kNaN}};
  EXPECT_EQ(best_rate(result), nullptr);
}

TEST(ReportFigures, AHeatMapHasAllLayersAndShadesThemAlike) {
  const Comparison comparison = example_comparison();
  const auto map = starved_map(comparison, comparison.optimizers[1]);
  ASSERT_TRUE(map);
  EXPECT_THAT(map->rows, ElementsAre("0", "1", "2", "3"));
  EXPECT_EQ(map->columns.back(), "500");
  EXPECT_DOUBLE_EQ(map->top, 0.35);  // muon's last layer has 0.216 * 1.6 = 0.3456
  EXPECT_EQ(starved_map(comparison, comparison.optimizers[0])->top, map->top);
  EXPECT_EQ(count(heat_map(*map), "data-tip"), 40U);
}

TEST(Report, ThePageAnswersFirstAndHasEveryOptimizerInItsTable) {
  const Comparison comparison = example_comparison();
  const std::string html = report_html(comparison);
  EXPECT_THAT(html, HasSubstr("<h1 id=\"answer\">" + escape(typeset(answer(comparison)))));
  for (const OptimizerResult& result : comparison.optimizers) {
    EXPECT_THAT(html, HasSubstr("<tr data-optimizer=\"" + result.name + "\">"));
    EXPECT_THAT(html, HasSubstr(number(result.validation_loss.mean, kLossDecimals)));
  }
  EXPECT_LT(html.find("data-optimizer=\"aurora\""), html.find("data-optimizer=\"muon\"")) << "best first";
  for (const auto* id :
       {"optimizers", "loss", "neurons", "layers", "cost", "leverage", "time", "sweep", "warnings", "run"})
    EXPECT_EQ(count(html, std::string("<section id=\"") + id + "\">"), 1U) << id;
}

TEST(Report, WhatANumberDependsOnIsNamed) {
  Comparison comparison = example_comparison();
  comparison.optimizers[4].hyperparameters[0].second = "0.04";
  const std::string html = report_html(comparison);
  EXPECT_THAT(html, HasSubstr("AMD EPYC</p>"));
  EXPECT_THAT(html, HasSubstr("commit 0123456789ab"));
  EXPECT_THAT(html, HasSubstr("Losses are of 32,768 of 111,540 tokens"));
  EXPECT_THAT(html, HasSubstr("data-setting=\"optim.lr\" class=\"unequal\""));
  EXPECT_THAT(html, HasSubstr("<dt>model</dt><dd>width 128, layers 4</dd>"));
  EXPECT_THAT(html, HasSubstr("<small>Holm "));
  // The difference comes before the loss, so a phone shows it without scrolling.
  EXPECT_LT(html.find("data-field=\"difference\""), html.find("data-field=\"val_loss\""));
}

TEST(Report, RowsThatStarveAreFollowed) {
  const std::string html = report_html(example_comparison());
  EXPECT_THAT(html, HasSubstr("<dt>layer 1, gate rows</dt><dd>17 (250)</dd>"));
  EXPECT_THAT(html, Not(HasSubstr("layer 1, up rows"))) << "revived";
}

TEST(Report, ASweepThatIsNotAtItsEndIsShownAsSuch) {
  Comparison comparison = example_comparison();
  comparison.complete = false;
  comparison.optimizers[1].swept[2] = {.factor = 2,
                                       .lr = 0.04,
                                       .validation_loss = kNaN,
                                       .others = {},
                                       .finished = 0,
                                       .running = 1,
                                       .diverged = 0};
  const std::string html = report_html(comparison);
  EXPECT_THAT(html, HasSubstr("0.04</b> not at its end (1 running)"));
  EXPECT_THAT(html, HasSubstr("of the sweep 0 runs ended, 1 not at the last step yet."));
}

TEST(Report, NoNameEndsTheMarkupItStandsIn) {
  const std::string hostile =
      "</script><script>alert(1)</script>\"'><img src=http://x/ onerror=alert(2)>\x01\xFF";
  Comparison comparison = example_comparison();
  comparison.optimizers[1].name = comparison.baseline = hostile;
  test::add_differences(comparison);
  comparison.command = comparison.device = comparison.blas = comparison.torch = comparison.started = hostile;
  comparison.version = comparison.data_sha256 = comparison.initial_weights_sha256[0] = hostile;
  comparison.config = {{hostile, hostile}};
  comparison.warnings = {hostile};
  const std::string html =
      report_html(comparison) + report_html(std::vector<ExpansionResult>{{2, comparison}, {4, comparison}});
  EXPECT_EQ(count(html, "<script>"), 2U);
  EXPECT_EQ(count(html, "</script>"), 2U);
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, Not(HasSubstr("\x01")));
  EXPECT_THAT(html, Not(HasSubstr("\xFF")));
}

TEST(Report, WithOneSeedNothingIsConcludedAndNoIntervalShown) {
  const std::string html = report_html(example_comparison(1));
  EXPECT_THAT(html, HasSubstr("nothing can be concluded"));
  EXPECT_THAT(html, Not(HasSubstr("class=\"band\"")));
  EXPECT_THAT(html, Not(testing::ContainsRegex("[^a-z]nan[^a-z]")));
}

TEST(Report, WhatIsNotThereYetIsSaid) {
  OptimizerResult result{};
  result.name = "muon";
  result.running = {0};
  result.validation_loss = result.bits_per_byte = result.dead = result.starved = result.update_row_norm_cv =
      estimate({});
  result.step_ms = result.optimizer_ms = result.optimizer_share = result.tokens_per_second = kNaN;
  Comparison comparison;
  comparison.optimizers = {result};
  comparison.baseline = "muon";
  const std::string html = report_html(comparison);
  EXPECT_THAT(html, HasSubstr("Not complete: 0 runs ended, 1 not at the last step yet."));
  EXPECT_THAT(html, HasSubstr("No evaluation yet."));
  EXPECT_THAT(html, HasSubstr("No neuron records yet."));
  EXPECT_THAT(html, Not(testing::ContainsRegex("[^a-z]nan[^a-z]")));
  EXPECT_NO_THROW(report_html(Comparison{}));
  EXPECT_NO_THROW(report_html(std::vector<ExpansionResult>{}));
}

TEST(Report, NumbersThatAreNotFiniteDoNotReachThePage) {
  Comparison comparison = example_comparison();
  OptimizerResult& muon = comparison.optimizers[1];
  muon.validation_loss = {kNaN, kNaN, kNaN, std::vector<double>(muon.seeds.size(), kNaN)};
  muon.validation[4].mean = kNaN;
  muon.validation[5] = {300, kNaN, HUGE_VAL, kNaN, HUGE_VAL};
  muon.starved_share[3].mean = muon.starved_by_layer[2][3] = muon.leverage_down[0] = kNaN;
  muon.leverage_gate_up[0] = 0;  // no place on a log scale
  muon.swept[0].validation_loss = kNaN;
  muon.swept[0].diverged = 1;
  test::add_differences(comparison);
  const std::string html = report_html(comparison);
  EXPECT_THAT(html, Not(testing::ContainsRegex("[^a-z]nan[^a-z]")));
  EXPECT_THAT(html, Not(testing::ContainsRegex("[^a-z]inf[^a-z]")));
  EXPECT_THAT(html, HasSubstr("0.01</b> diverged"));
}

TEST(Report, ManyOptimizersOfLongRunsStayBelowTwoMegabytes) {
  Comparison comparison = example_comparison();
  for (int i = 0; i < 6; ++i)
    comparison.optimizers.push_back(
        test::example_optimizer("muon:variant=" + std::to_string(i), 1.7, 0.1, 140, 5));
  for (OptimizerResult& result : comparison.optimizers) {
    const auto longer = [](auto& values) {
      auto tail = values;
      for (int i = 1; i < 100; ++i) values.insert(values.end(), tail.begin(), tail.end());
    };
    for (Band* band : {&result.validation, &result.dead_share, &result.starved_share}) longer(*band);
    longer(result.neuron_steps);
    for (auto& layer : result.starved_by_layer) longer(layer);
    result.starved_by_layer.resize(96, result.starved_by_layer[0]);
  }
  EXPECT_LT(report_html(comparison).size(), 2'000'000U);
}

TEST(Report, TheGainOverExpansionsIsJudgedByItsIntervals) {
  Comparison narrow = example_comparison(), wide = example_comparison();
  for (Difference& d : wide.differences) {
    if (d.a == "aurora") d.validation_loss = {-0.1, -0.11, -0.09, {}};
  }
  const std::string html = report_html(std::vector<ExpansionResult>{{2, narrow}, {8, wide}});
  EXPECT_THAT(
      html, HasSubstr("From expansion factor 2 to 8 the gain over muon grows for aurora; it is not shown to "
                      "change for adamw, normuon, u-normuon, riemannian-aurora."));
  EXPECT_THAT(html, HasSubstr("href=\"expansion-8/report.html\""));
}

}  // namespace
}  // namespace aurora::compare
