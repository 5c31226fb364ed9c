#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "design.hpp"
#include "run_data.hpp"

namespace aurora::compare {

using Runs = std::vector<RunData>;

/// Runs of one optimizer.
struct Group {
  std::string name;
  Runs runs;                         // by seed
  std::map<SweepPoint, Runs> sweep;  // by point
  Runs configured;  // of the result's seeds at the configured rates, where `runs` are at others
};

/// The runs of FOLDER/runs, FOLDER/sweep and FOLDER/rates: those of the design where there is one, else all.
std::vector<Group> groups_of(const std::filesystem::path& folder, const std::optional<Design>& design,
                             std::vector<std::string>& warnings);

/// Runs trained separately, wherever they lie below FOLDER: a group for each set of settings but the seed.
/// Its name has the options of the optimizer that are not the defaults, "muon:momentum=0.9", and, where they
/// differ between the runs found, its learning rate and, in brackets, what makes runs of one optimizer
/// others: "muon (model.width 64)".
std::vector<Group> groups_below(const std::filesystem::path& folder, std::vector<std::string>& warnings);

/// Settings that belong to the optimizer under comparison: optim. and, of adamw, adamw.
std::vector<std::string> own_keys(const trainer::TrainConfig& config);

/// Settings besides those that make runs another experiment: the shape of the model, how much it is trained,
/// the schedule, clipping, number format and evaluation.
bool makes_another_experiment(const std::string& key);

}  // namespace aurora::compare
