#pragma once

#include "comparison.hpp"
#include "design.hpp"
#include "support/temporary_folder.hpp"
#include "support/written_run.hpp"

namespace aurora::compare::test {

namespace fs = std::filesystem;
using aurora::test::write_run;
using aurora::test::WrittenRun;

/// Writes DIR/runs/<variant>/seed-<k>.
inline void write_result(const fs::path& folder, const WrittenRun& run) {
  write_run(result_folder(folder, run.variant, run.seed), run);
}

/// The point of the sweep with this factor on the learning rate.
inline SweepPoint rate(double factor) {
  return factor == 1 ? SweepPoint{} : SweepPoint{{"optim.lr", factor}};
}

/// Muon and Aurora over three seeds; Aurora's losses are less by 0.10, 0.20 and 0.30.
inline void write_three_seeds(const fs::path& folder) {
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const double loss = 1.5 + 0.01 * static_cast<double>(seed);
    write_result(folder, {.variant = "muon", .seed = seed, .loss = loss});
    write_result(folder, {.variant = "aurora",
                          .seed = seed,
                          .loss = loss - 0.1 * static_cast<double>(seed + 1),
                          .dead = 0,
                          .starved = 0.1});
  }
}

inline const OptimizerResult& of(const Comparison& comparison, const std::string& name) {
  for (const OptimizerResult& result : comparison.optimizers)
    if (result.name == name) return result;
  throw std::runtime_error("no " + name);
}

}  // namespace aurora::compare::test
