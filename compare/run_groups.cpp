#include "run_groups.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "aurora/value_text.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;

/// "muon:momentum=0.9": the options that are not the defaults, but for the learning rate.
std::string variant_of(const trainer::TrainConfig& config) {
  const Rule options = config.rule();
  const auto defaults = hyperparameters(rule_of(name(options)));
  std::string text(name(options));
  const auto list = hyperparameters(options);
  bool first = true;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].value == defaults[i].value || list[i].name == "lr") continue;
    text += (first ? ":" : "+") + list[i].name + "=" + list[i].value;
    first = false;
  }
  return text;
}

bool is_run(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / "log.jsonl", error) && !error;
}

/// Also where a link leads to one; a link to nothing, or to itself, is none.
bool is_folder(const fs::directory_entry& entry) {
  std::error_code error;
  return entry.is_directory(error) && !error;
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder))
      if (is_folder(entry)) found.push_back(entry.path());
  std::ranges::sort(found);
  return found;
}

/// The run as it can be read; nothing, and why, where it cannot.
std::optional<RunData> readable(const fs::path& folder, std::vector<std::string>& warnings) {
  try {
    RunData run = read_run(folder);
    warnings.insert(warnings.end(), run.warnings.begin(), run.warnings.end());
    return run;
  } catch (const std::exception& error) {
    warnings.push_back(folder.string() + " is left out: " + error.what());
    return {};
  }
}

/// Into `runs`, if none of them has its seed.
void add_run(RunData run, Runs& runs, std::vector<std::string>& warnings) {
  const auto same_seed = [&](const RunData& other) { return other.config.seed == run.config.seed; };
  if (const auto twin = std::ranges::find_if(runs, same_seed); twin != runs.end()) {
    warnings.push_back(run.folder.string() + " is left out: it repeats seed " +
                       std::to_string(run.config.seed) + " of " + twin->folder.string());
    return;
  }
  runs.push_back(std::move(run));
}

void add_run(const fs::path& folder, Runs& runs, std::vector<std::string>& warnings) {
  if (!is_run(folder)) return;
  if (auto run = readable(folder, warnings)) add_run(std::move(*run), runs, warnings);
}

void sort_by_seed(Runs& runs) {
  std::ranges::sort(runs, {}, [](const RunData& run) { return run.config.seed; });
}

void add_sweep(Group& group, const fs::path& folder, std::vector<std::string>& warnings) {
  for (const fs::path& place : folders_in(folder)) {
    const auto point = point_of(place.filename().string());
    if (!point) continue;
    for (const fs::path& run : folders_in(place)) add_run(run, group.sweep[*point], warnings);
    sort_by_seed(group.sweep[*point]);
  }
}

Group group_of(const fs::path& folder, const Contender& contender, const Design& design,
               std::vector<std::string>& warnings) {
  Group group{.name = contender.name, .runs = {}, .sweep = {}, .configured = {}};
  for (int i = 0; i < design.seeds; ++i) {
    const auto seed = design.first_seed + static_cast<std::uint64_t>(i);
    add_run(result_folder(folder, contender.name, seed), group.runs, warnings);
    add_run(rate_folder(folder, contender.name, {}, seed), group.configured, warnings);
  }
  add_sweep(group, folder / "sweep" / folder_name(contender.name), warnings);
  return group;
}

/// Values of the settings in which runs of one optimizer can differ and that are not its own.
std::map<std::string, std::string> surroundings(const trainer::TrainConfig& config) {
  const auto own = own_keys(config);
  std::map<std::string, std::string> values;
  for (trainer::Setting& setting : trainer::settings(config)) {
    const bool decides = makes_another_experiment(setting.key) || setting.key.starts_with("adamw.");
    if (decides && std::ranges::find(own, setting.key) == own.end())
      values[setting.key] = std::move(setting.value);
  }
  return values;
}

/// Every run folder at or below `folder`, in order.
std::vector<fs::path> runs_below(const fs::path& folder) {
  std::vector<fs::path> found;
  if (is_run(folder)) found.push_back(folder);
  for (auto entry = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied);
       entry != fs::recursive_directory_iterator(); ++entry) {
    if (is_folder(*entry) && is_run(entry->path())) found.push_back(entry->path());
  }
  std::ranges::sort(found);
  return found;
}

/// Runs that differ by nothing but their seeds.
struct Likes {
  std::string variant;
  double lr;
  std::map<std::string, std::string> surroundings;
  Runs runs;
};

/// "muon:lr=0.02 (model.width 64)", with what tells it from the others.
std::string name_of(const Likes& likes, const std::vector<Likes>& all) {
  std::string text = likes.variant, different;
  const bool other_lr = std::ranges::any_of(
      all, [&](const Likes& other) { return other.variant == likes.variant && other.lr != likes.lr; });
  if (other_lr) text += (text.find(':') == std::string::npos ? ":lr=" : "+lr=") + number_text(likes.lr);
  for (const auto& setting : likes.surroundings) {
    const bool differs = std::ranges::any_of(all, [&](const Likes& other) {
      const auto found = other.surroundings.find(setting.first);
      return other.variant == likes.variant && found != other.surroundings.end() &&
             found->second != setting.second;
    });
    if (differs) different += (different.empty() ? "" : ", ") + setting.first + " " + setting.second;
  }
  return different.empty() ? text : text + " (" + different + ")";
}

}  // namespace

std::vector<std::string> own_keys(const trainer::TrainConfig& config) {
  std::vector<std::string> keys;
  const bool adamw = !config.optim;
  for (const trainer::Setting& setting : trainer::settings(config)) {
    if (setting.key.starts_with("optim.") || (adamw && setting.key.starts_with("adamw.")))
      keys.push_back(setting.key);
  }
  return keys;
}

bool makes_another_experiment(const std::string& key) {
  constexpr std::array<std::string_view, 8> kTraining = {
      "train.steps",    "train.batch", "train.accumulate", "train.warmup",
      "train.cooldown", "train.clip",  "train.dtype",      "train.eval_tokens"};
  return key.starts_with("model.") || std::ranges::find(kTraining, key) != kTraining.end();
}

std::vector<Group> groups_of(const fs::path& folder, const std::optional<Design>& design,
                             std::vector<std::string>& warnings) {
  std::vector<Group> groups;
  std::map<std::string, fs::path> stray;
  for (const fs::path& runs : {folder / "runs", folder / "sweep"})
    for (const fs::path& found : folders_in(runs)) stray.emplace(found.filename().string(), found);

  if (design) {
    for (const Contender& contender : design->contenders) {
      stray.erase(folder_name(contender.name));
      groups.push_back(group_of(folder, contender, *design, warnings));
    }
    for (const auto& [name, path] : stray)
      warnings.push_back(path.string() + " is left out: it is not in comparison.json");
  } else {
    for (const auto& [name, path] : stray) {
      Group group{.name = name, .runs = {}, .sweep = {}, .configured = {}};
      for (const fs::path& run : folders_in(folder / "runs" / name)) add_run(run, group.runs, warnings);
      add_sweep(group, folder / "sweep" / name, warnings);
      if (!group.runs.empty()) group.name = variant_of(group.runs.front().config);
      if (!group.runs.empty() || !group.sweep.empty()) groups.push_back(std::move(group));
    }
  }
  for (Group& group : groups) {
    sort_by_seed(group.runs);
    sort_by_seed(group.configured);
  }
  return groups;
}

std::vector<Group> groups_below(const fs::path& folder, std::vector<std::string>& warnings) {
  std::vector<Likes> all;
  for (const fs::path& path : runs_below(folder)) {
    auto run = readable(path, warnings);
    if (!run) continue;
    Likes likes{.variant = variant_of(run->config),
                .lr = swept_lr(run->config),
                .surroundings = surroundings(run->config),
                .runs = {}};
    const auto found = std::ranges::find_if(all, [&](const Likes& other) {
      return other.variant == likes.variant && other.lr == likes.lr &&
             other.surroundings == likes.surroundings;
    });
    add_run(std::move(*run), (found == all.end() ? all.emplace_back(std::move(likes)) : *found).runs,
            warnings);
  }
  std::ranges::stable_sort(all, [](const Likes& a, const Likes& b) {
    return std::tie(a.variant, a.lr, a.surroundings) < std::tie(b.variant, b.lr, b.surroundings);
  });
  std::vector<std::string> names;
  for (const Likes& likes : all) names.push_back(name_of(likes, all));
  std::vector<Group> groups;
  for (std::size_t i = 0; i < all.size(); ++i) {
    sort_by_seed(all[i].runs);
    groups.push_back({.name = names[i], .runs = std::move(all[i].runs), .sweep = {}, .configured = {}});
  }
  return groups;
}

}  // namespace aurora::compare
