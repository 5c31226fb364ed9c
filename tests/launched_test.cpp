#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <stdexcept>

#include "ranks.hpp"

namespace aurora::cli {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// The environment that launchers write, for the length of a test.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) : variables_(variables) {
    for (const auto& [name, value] : variables_) setenv(name.c_str(), value.c_str(), /*overwrite=*/1);
  }
  ~Environment() {
    for (const auto& [name, value] : variables_) unsetenv(name.c_str());
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::map<std::string, std::string> variables_;
};

void expect_launched(const std::map<std::string, std::string>& variables, int rank, int size) {
  const Environment environment(variables);
  EXPECT_EQ(launched().rank, rank);
  EXPECT_EQ(launched().size, size);
}

TEST(Launched, IsWhatTheLauncherSays) {
  expect_launched({}, 0, 1);
  expect_launched({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}}, 3, 4);
  expect_launched({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}}, 1, 2);
  expect_launched({{"MV2_COMM_WORLD_SIZE", "8"}, {"MV2_COMM_WORLD_RANK", "7"}}, 7, 8);
  expect_launched({{"SLURM_STEP_NUM_TASKS", "3"}, {"SLURM_PROCID", "2"}}, 2, 3);
}

TEST(Launched, IsOneProcessWhereTheLauncherStartedOneOrNothingAtAll) {
  expect_launched({{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}}, 0, 1);
  // The script of a batch job with four tasks is none of them.
  expect_launched({{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}}, 0, 1);
  expect_launched({{"PMI_SIZE", "many"}}, 0, 1);
}

TEST(Launched, AsOneOfSeveralIsRefusedWithoutMpi) {
  EXPECT_THAT([] { run_as_rank({.rank = 1, .size = 3}, 10, [](const RankContext&) { return 0; }); },
              ThrowsMessage<std::runtime_error>(
                  testing::AllOf(HasSubstr("one process of 3"), HasSubstr("built without MPI"))));
}

TEST(Launched, OtherCommandsAreTheWorkOfOne) {
  EXPECT_NO_THROW(require_one_process("eval"));
  const Environment environment({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}});
  EXPECT_THAT([] { require_one_process("eval"); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("eval is the work of one")));
  EXPECT_THAT([] { require_one_process("compare"); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("--jobs")));
}

}  // namespace
}  // namespace aurora::cli
