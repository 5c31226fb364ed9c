#include "run_folder.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <stdexcept>

#include "atomic_file.hpp"
#include "text_file.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;

/// The step in a name that `name_of` makes; nothing for other names.
std::optional<Index> step_of(const fs::path& path, std::string (*name_of)(Index)) {
  const std::string name = path.filename().string();
  const auto digit = name.find_first_of("0123456789");
  if (digit == std::string::npos) return {};
  Index step = 0;
  const auto [stop, error] = std::from_chars(name.data() + digit, name.data() + name.size(), step);
  if (error != std::errc() || name != name_of(step)) return {};
  return step;
}

/// At least six digits, so that names sort by step up to a million.
std::string six_digits(Index step) {
  const std::string digits = std::to_string(step);
  return std::string(digits.size() < 6 ? 6 - digits.size() : 0, '0') + digits;
}

/// Whether a run gives something this name.
bool is_of_a_run(const fs::path& path) {
  const std::string name = path.filename().string();
  return name == "config.toml" || name == "log.jsonl" || name == "last" || step_of(path, checkpoint_name) ||
         step_of(path, momentum_name);
}

bool unfinished(const fs::path& path) {
  const std::string name = path.filename().string();
  return is_of_a_run(name_of_temporary(name));
}

constexpr std::size_t kLongestLast = 4096;

std::vector<fs::path> entries(const fs::path& folder) {
  if (!fs::is_directory(folder)) return {};
  return {fs::directory_iterator(folder), fs::directory_iterator()};
}

}  // namespace

std::string checkpoint_name(Index step) { return "checkpoint-" + six_digits(step); }
std::string momentum_name(Index step) { return "momentum-" + six_digits(step) + ".safetensors"; }

std::optional<Index> step_of_checkpoint(const fs::path& checkpoint) {
  return step_of(checkpoint, checkpoint_name);
}

std::vector<fs::path> checkpoints(const fs::path& folder) {
  std::vector<std::pair<Index, fs::path>> found;
  for (const fs::path& path : entries(folder))
    if (const auto step = step_of(path, checkpoint_name); step && fs::is_directory(path))
      found.emplace_back(*step, path);
  std::sort(found.begin(), found.end());
  std::vector<fs::path> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

fs::path resolve_checkpoint(const fs::path& path) {
  if (fs::is_regular_file(path / "model.safetensors")) return path;
  const fs::path last = path / "last";
  std::string name = fs::is_regular_file(last) ? read_text_file(last, kLongestLast) : "";
  name.resize(std::min(name.size(), name.find('\n')));
  if (step_of(name, checkpoint_name) && name == fs::path(name).filename() && fs::is_directory(path / name))
    return path / name;
  if (!fs::exists(path))
    throw std::invalid_argument(path.string() + ": no such folder; name a checkpoint or a run");
  throw std::invalid_argument(path.string() +
                              ": neither a checkpoint (no model.safetensors) nor a run with one (no `last`)");
}

bool holds_run(const fs::path& folder) {
  return fs::exists(folder / "config.toml") || fs::exists(folder / "log.jsonl") ||
         !checkpoints(folder).empty();
}

void require_mode(const fs::path& folder, FolderMode mode) {
  if (mode == FolderMode::fresh && holds_run(folder))
    throw std::invalid_argument(folder.string() +
                                ": holds a run; --resume goes on with it, --overwrite deletes it");
  if (mode == FolderMode::resume && !fs::is_directory(folder))
    throw std::invalid_argument(folder.string() + ": no such folder, so there is nothing to resume");
  if (fs::exists(folder) && !fs::is_directory(folder))
    throw std::invalid_argument(folder.string() + ": is a file, not a folder");
}

void require_same_run(const TrainConfig& config, const fs::path& folder) {
  if (!fs::exists(folder / "config.toml")) {
    if (checkpoints(folder).empty()) return;
    throw std::invalid_argument("cannot resume " + folder.string() + ": its config.toml is missing");
  }
  require_same_run(config, from_toml(folder / "config.toml"), folder);
}

void require_same_run(const TrainConfig& config, const TrainConfig& before, const fs::path& place) {
  constexpr std::array<std::string_view, 7> free = {
      "train.steps",         "train.eval_every", "train.diagnose_every", "train.save_every",
      "train.save_momentum", "train.keep",       "train.device"};
  std::map<std::string, std::string> now;
  for (const Setting& setting : settings(config)) now[setting.key] = setting.value;
  for (const Setting& setting : settings(before)) {
    const std::string& value = now[setting.key];
    if (value == setting.value || std::ranges::find(free, setting.key) != free.end()) continue;
    throw std::invalid_argument("cannot resume " + place.string() + " with " + setting.key + " = " +
                                (value.empty() ? "nothing" : value) + ": the run has " + setting.value);
  }
}

std::string first_difference(const TrainConfig& here, const TrainConfig& there) {
  std::map<std::string, std::string> others;
  for (const Setting& setting : settings(there)) others[setting.key] = setting.value;
  for (const Setting& setting : settings(here))
    if (const std::string& other = others[setting.key]; other != setting.value)
      return setting.key + " = " + setting.value + " instead of " + (other.empty() ? "nothing" : other);
  return {};
}

std::string lost_steps(Index saved, Index now, const fs::path& checkpoint) {
  if (saved == now) return "";
  const std::string steps =
      saved + 1 == now ? "step " + std::to_string(now) + " is lost"
                       : "steps " + std::to_string(saved + 1) + " to " + std::to_string(now) + " are lost";
  return "; " + steps + ": " +
         (checkpoint.empty() ? "there is no checkpoint" : "the last checkpoint is " + checkpoint.string());
}

void remove_run(const fs::path& folder) {
  for (const fs::path& path : entries(folder)) {
    if (is_of_a_run(path) || unfinished(path) || path.filename().string().starts_with("events.out.tfevents."))
      fs::remove_all(path);
  }
}

void remove_unfinished(const fs::path& folder) {
  for (const fs::path& path : entries(folder))
    if (unfinished(path)) fs::remove_all(path);
}

void keep_newest(const fs::path& folder, Index keep) {
  const auto all = checkpoints(folder);
  if (keep <= 0 || std::ssize(all) <= keep) return;
  for (auto old = all.begin(); old != all.end() - keep; ++old) {
    // A folder half removed must not look whole, so it loses its name first.
    const fs::path doomed = temporary_name(*old);
    fs::rename(*old, doomed);
    fs::remove_all(doomed);
  }
}

}  // namespace aurora::trainer
