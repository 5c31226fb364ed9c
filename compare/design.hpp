#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"

namespace aurora::compare {

/// One optimizer of a comparison and its configuration before the sweep, with the first seed.
struct Contender {
  std::string name;  // variant as it was asked for: "aurora:balance=release"
  trainer::TrainConfig config;
};

/// What decides the runs of a comparison folder. Result seeds are first_seed .. first_seed + seeds - 1, a
/// sweep's kFirstSweepSeed .. kFirstSweepSeed + sweep_seeds - 1.
struct Design {
  std::vector<Contender> contenders;
  std::uint64_t first_seed = 0;
  int seeds = 1;
  std::vector<double> factors;  // of the swept learning rate; empty: no sweep
  int sweep_seeds = 1;
  std::string command;  // command line that asked for it
};
inline constexpr std::uint64_t kFirstSweepSeed = 1000;
inline constexpr int kMostSeeds = 1000;

/// DIR/runs/<variant>/seed-<k> and DIR/sweep/<variant>/lr-<factor>/seed-<k>; in <variant> ':', '+' and '='
/// are '-'.
std::string folder_name(const std::string& variant);
std::filesystem::path result_folder(const std::filesystem::path& folder, const std::string& variant,
                                    std::uint64_t seed);
std::filesystem::path sweep_folder(const std::filesystem::path& folder, const std::string& variant,
                                   double factor, std::uint64_t seed);

/// Shortest text that reads back to the same number.
std::string number_text(double value);

/// Throws std::invalid_argument: no contender, two of the same options, no seed or more than
/// kMostSeeds, seeds above what train.seed can be, factors that are not positive or twice there, seeds that meet those of the sweep.
void validate(const Design& design);

/// DIR/comparison.json, written atomically: command, seeds, factors, every setting of every optimizer.
void write_design(const Design& design, const std::filesystem::path& folder);

/// Nothing where there is no such file. Throws std::runtime_error that names it where it cannot be read as
/// one.
std::optional<Design> read_design(const std::filesystem::path& folder);

/// More seeds and more optimizers extend a comparison. Throws std::invalid_argument that names the first
/// other difference and both values.
void require_extension(const Design& before, const Design& now, const std::filesystem::path& folder);

/// Throws std::invalid_argument naming the first setting of FOLDER/config.toml that differs from `config`,
/// but for those of what a run saves, which change no result: train.save_every, keep and save_momentum.
void require_equal(const trainer::TrainConfig& config, const std::filesystem::path& folder);

/// The first setting in which two configurations differ, but for those three and `besides`.
struct SettingDifference {
  std::string key, a, b;
};
std::optional<SettingDifference> setting_difference(const trainer::TrainConfig& a,
                                                    const trainer::TrainConfig& b,
                                                    const std::vector<std::string>& besides = {});

}  // namespace aurora::compare
