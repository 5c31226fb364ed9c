#include "design.hpp"

#include <gmock/gmock.h>

#include "support/temporary_folder.hpp"
#include "support/written_run.hpp"

namespace aurora::compare {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

Design design_of(const std::vector<std::string>& variants) {
  Design design;
  design.seeds = 3;
  design.sweep = {.axes = {{"optim.lr", {0.5, 1}}, {"adamw.lr", {1, 2}}}, .seeds = 2};
  design.command = "aurora compare --seeds 3";
  for (const std::string& variant : variants)
    design.contenders.push_back({variant, test::config_of({.variant = variant})});
  return design;
}

std::string refusal(const Design& design) {
  return error_of<std::invalid_argument>([&] { validate(design); });
}

TEST(Design, FoldersAreThoseOfTheContract) {
  EXPECT_EQ(result_folder("d", "aurora:pp_iterations=3+balance=release", 2),
            "d/runs/aurora-pp_iterations-3-balance-release/seed-2");
  EXPECT_EQ(sweep_folder("d", "muon", {{"optim.lr", 0.5}}, 1000), "d/sweep/muon/lr-0.5/seed-1000");
  EXPECT_EQ(sweep_folder("d", "muon", {{"optim.lr", 2}}, 1000), "d/sweep/muon/lr-2/seed-1000");
  EXPECT_EQ(sweep_folder("d", "muon", {}, 1000), "d/sweep/muon/lr-1/seed-1000");
  EXPECT_EQ(rate_folder("d", "muon", {{"optim.lr", 2}, {"adamw.lr", 0.5}}, 0),
            "d/rates/muon/adamw.lr-0.5+lr-2/seed-0");
}

TEST(Design, ComesBackFromItsFile) {
  const TemporaryFolder folder;
  EXPECT_FALSE(read_design(folder.path()));
  const Design design = design_of({"muon", "aurora:pp_iterations=3", "adamw:beta2=0.99"});
  write_design(design, folder.path());
  const auto read = read_design(folder.path());
  ASSERT_TRUE(read);
  ASSERT_EQ(read->contenders.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read->contenders[i].name, design.contenders[i].name);
    EXPECT_TRUE(read->contenders[i].config == design.contenders[i].config) << i;
  }
  EXPECT_EQ(read->seeds, 3);
  EXPECT_EQ(read->sweep.axes, design.sweep.axes);
  EXPECT_EQ(read->sweep.seeds, 2);
  EXPECT_EQ(read->command, design.command);
}

TEST(Design, TheSameOptimizerTwiceIsRefusedInAnySpelling) {
  EXPECT_THAT(refusal(design_of({"muon", "aurora", "muon"})), AllOf(HasSubstr("twice"), HasSubstr("muon")));
  EXPECT_THAT(refusal(design_of({"aurora", "aurora:pp_iterations=2"})),
              AllOf(HasSubstr("twice"), HasSubstr("aurora and aurora:pp_iterations=2")));
}

TEST(Design, ItNeedsAnOptimizerAndSensibleFactors) {
  EXPECT_THAT(refusal(design_of({})), HasSubstr("--optimizers is empty"));
  Design design = design_of({"muon"});
  design.sweep.axes = {{"optim.lr", {1, 1}}};
  EXPECT_THAT(refusal(design), HasSubstr("twice"));
  design.sweep.axes = {{"optim.lr", {-1}}};
  EXPECT_THAT(refusal(design), AllOf(HasSubstr("--sweep-lr"), HasSubstr("-1")));
}

TEST(Design, SeedsOfTheSweepAreNotThoseOfTheResult) {
  Design design = design_of({"muon"});
  design.first_seed = 998;
  EXPECT_THAT(refusal(design), AllOf(HasSubstr("998 to 1000"), HasSubstr("sweep")));
  design.sweep.axes.clear();
  EXPECT_NO_THROW(validate(design));
}

TEST(Design, SettingsOfWhatARunSavesMayDiffer) {
  auto a = test::config_of({}), b = a;
  b.save_every = 7;
  b.keep = 1;
  b.save_momentum = 3;
  EXPECT_FALSE(setting_difference(a, b));
  b.eval_every = 7;
  const auto differs = setting_difference(a, b);
  ASSERT_TRUE(differs);
  EXPECT_EQ(differs->key, "train.eval_every");
  EXPECT_EQ(differs->a, "50");
  EXPECT_EQ(differs->b, "7");
  EXPECT_FALSE(setting_difference(a, b, {"train.eval_every"}));
}

}  // namespace
}  // namespace aurora::compare
