#include "export.hpp"

#include <gmock/gmock.h>

#include "report_example.hpp"
#include "report_figures.hpp"
#include "support/temporary_folder.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using aurora::test::content_of;
using aurora::test::TemporaryFolder;
using test::example_comparison;
using testing::HasSubstr;
using testing::Not;

TEST(Export, AFieldIsQuotedWhereItHasTo) {
  EXPECT_EQ(csv_field("aurora:balance=release"), "aurora:balance=release");
  EXPECT_EQ(csv_field("adamw:betas=0.9,0.95"), "\"adamw:betas=0.9,0.95\"");
  EXPECT_EQ(csv_field("a \"b\""), "\"a \"\"b\"\"\"");
}

TEST(Export, NamesInLatexAreEscaped) {
  Comparison comparison = example_comparison();
  comparison.optimizers[4].name = "aurora:pp_iterations=3&50%{x}\\y^z";
  test::add_differences(comparison);
  EXPECT_THAT(
      latex_table(comparison),
      HasSubstr(
          "aurora:pp\\_iterations=3\\&50\\%\\{x\\}\\textbackslash{}y\\^{}z & 0.02 & $1.6231$ & $-0.02"));
}

TEST(Export, AFigureStandsAlone) {
  const Comparison comparison = example_comparison();
  for (const auto& [name, chart] : charts_of(comparison)) {
    const std::string svg = standalone_svg(chart);
    EXPECT_THAT(svg, HasSubstr("xmlns=\"http://www.w3.org/2000/svg\"")) << name;
    EXPECT_THAT(svg, HasSubstr(">muon</text>")) << name;
    EXPECT_THAT(svg, HasSubstr(".c1 .line{stroke:#d55e00}")) << name;
    EXPECT_THAT(svg, Not(HasSubstr("var("))) << name;
  }
}

TEST(Export, EveryFigureHasItsNumbersUnthinned) {
  const TemporaryFolder folder;
  Comparison comparison = example_comparison();
  for (Index step = 501; step <= 3000; ++step)
    comparison.optimizers[0].validation.push_back({step, 1.0, 1.5, 1.4, 1.6});
  export_comparison(comparison, folder / "out");
  for (const auto& [name, chart] : charts_of(comparison)) {
    EXPECT_TRUE(fs::exists(folder / ("out/" + name + ".svg"))) << name;
    EXPECT_TRUE(fs::exists(folder / ("out/" + name + ".csv"))) << name;
  }
  EXPECT_THAT(content_of(folder / "out/validation.csv"), HasSubstr("adamw,777,1.5,1.4,1.6,"));
}

TEST(Export, ExpansionsHaveTheirOwnFolders) {
  const TemporaryFolder folder;
  export_comparison({{2, example_comparison()}, {8, example_comparison()}}, folder / "out");
  for (const char* file :
       {"gain.csv", "starved.svg", "expansion-2/results.tex", "expansion-8/environment.json"})
    EXPECT_TRUE(fs::exists(folder / "out" / file)) << file;
}

}  // namespace
}  // namespace aurora::compare
