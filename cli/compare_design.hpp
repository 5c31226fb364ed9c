#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "design.hpp"
#include "train_flags.hpp"

namespace aurora::cli {

struct CompareFlags {
  TrainFlags run;
  std::optional<std::string> optimizers, out, sweep_lr, expansions;
  std::vector<std::string> sweep;
  std::string seeds = "5", sweep_seeds = "1", jobs = "1";
  bool sweep_jointly = false, equal_rates = false, match_parameters = false;
  bool dry_run = false, quiet = false, json = false;
};

/// One comparison and where it lies.
struct ComparisonPart {
  std::filesystem::path folder;
  std::string title;
  compare::Design design;
};

/// What the flags ask for: one comparison in OUT, or one for each expansion factor in OUT/expansion-<e>.
/// Throws std::invalid_argument for flags that make none, and where OUT holds one of the other kind.
std::vector<ComparisonPart> comparison_parts(const CompareFlags& flags, const std::string& command,
                                             const std::filesystem::path& out);

/// --jobs, at least 1.
int jobs_of(const CompareFlags& flags);

}  // namespace aurora::cli
