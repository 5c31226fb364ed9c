#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"
#include "sweep.hpp"

namespace aurora::compare {

/// One optimizer of a comparison and its configuration before the sweep, with the first seed.
struct Contender {
  std::string name;  // variant as it was asked for: "aurora:balance=release"
  trainer::TrainConfig config;
};

/// What decides the runs of a comparison folder. Result seeds are first_seed .. first_seed + seeds - 1, a
/// sweep's kFirstSweepSeed .. kFirstSweepSeed + sweep.seeds - 1.
struct Design {
  std::vector<Contender> contenders;
  std::uint64_t first_seed = 0;
  int seeds = 1;
  Sweep sweep;
  std::string command;  // command line that asked for it
};
inline constexpr std::uint64_t kFirstSweepSeed = 1000;
inline constexpr int kMostSeeds = 1000;

/// DIR/runs/<variant>/seed-<k>, DIR/sweep/<variant>/<point>/seed-<k>, and for runs of the result's seeds that
/// are not, or no longer, at the best point DIR/rates/<variant>/<point>/seed-<k>; <point> is its point_name,
/// and in <variant> ':', '+' and '=' are '-'.
std::string folder_name(const std::string& variant);
std::filesystem::path result_folder(const std::filesystem::path& folder, const std::string& variant,
                                    std::uint64_t seed);
std::filesystem::path sweep_folder(const std::filesystem::path& folder, const std::string& variant,
                                   const SweepPoint& point, std::uint64_t seed);
std::filesystem::path rate_folder(const std::filesystem::path& folder, const std::string& variant,
                                  const SweepPoint& point, std::uint64_t seed);

/// The optimizer that the others are compared with: muon where it is named, else the first.
std::size_t baseline_of(const std::vector<std::string>& names);

/// Throws std::invalid_argument: no contender, two of the same options, no seed or more than kMostSeeds, seeds
/// above what train.seed can be, a sweep that is none, seeds that meet those of the sweep.
void validate(const Design& design);

/// DIR/comparison.json, written atomically: command, seeds, sweep, every setting of every optimizer.
void write_design(const Design& design, const std::filesystem::path& folder);

/// Nothing where there is no such file. Throws std::runtime_error that names it where it cannot be read as
/// one.
std::optional<Design> read_design(const std::filesystem::path& folder);

/// More seeds, optimizers, factors and seeds of the sweep extend a comparison. Throws std::invalid_argument
/// that names the first other difference and both values.
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
