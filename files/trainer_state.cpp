#include "trainer_state.hpp"

#include <algorithm>
#include <stdexcept>

#include "atomic_file.hpp"
#include "json_text.hpp"
#include "run_folder.hpp"
#include "sha256.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr JsonLimits kLimits = {.bytes = std::size_t{64} << 20, .depth = 4, .keys = 1'000'000};
constexpr Index kMostSteps = Index{1} << 40;
constexpr const char* kSum = "sha256";

/// Of the state without its checksum. Keys are sorted, numbers whole, so that the text is always the same.
std::string sum_of(const Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  Sha256 hash;
  hash.add(std::as_bytes(std::span(text)));
  return hash.hexadecimal();
}

/// The members of the object in `file`.
class Reader {
 public:
  Reader(const fs::path& file, const Json& json) : file_(file), json_(json) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(file_.string() + ": " + what);
  }
  [[noreturn]] void fail(const std::string& key, const Json& value, const std::string& what) const {
    fail("\"" + key + "\" is " + value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80) +
         ", " + what);
  }

  bool has(const char* key) const { return json_.contains(key); }
  const Json& value(const std::string& key, Json::value_t type, const char* named) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail("no \"" + key + "\"");
    if (found->type() != type) fail(key, *found, std::string("not ") + named);
    return *found;
  }
  std::string text(const std::string& key) const {
    return value(key, Json::value_t::string, "text").get<std::string>();
  }
  bool flag(const std::string& key) const {
    return value(key, Json::value_t::boolean, "true or false").get<bool>();
  }
  Index whole(const std::string& key, Index least, Index most) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail("no \"" + key + "\"");
    if (!is_whole(*found, least, most))
      fail(key, *found, "not a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return found->get<Index>();
  }
  Reader object(const std::string& key) const {
    return {file_, value(key, Json::value_t::object, "an object")};
  }
  const Json& json() const { return json_; }

 private:
  const fs::path& file_;
  const Json& json_;
};

}  // namespace

void write_trainer_state(const fs::path& checkpoint, const TrainerState& state) {
  Json files = Json::object();
  for (const auto& [name, sum] : state.files) files[name] = {{"bytes", sum.bytes}, {"sha256", sum.sha256}};
  Json json = {{"step", state.step},
               {"skipped_in_a_row", state.skipped_in_a_row},
               {"config", state.config},
               {"data_sha256", state.data_sha256},
               {"training_bytes", state.training_bytes},
               {"optimizer_steps", state.optimizer_steps},
               {"evaluation_due", state.evaluation_due},
               {"neurons_due", state.neurons_due},
               {"files", std::move(files)}};
  json[kSum] = sum_of(json);
  FileWriter out(checkpoint / "trainer_state.json");
  out.write(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  out.finish();
}

TrainerState read_trainer_state(const fs::path& checkpoint) {
  const fs::path file = checkpoint / "trainer_state.json";
  Json json = read_json<Json>(file, kLimits);
  if (!json.is_object()) throw std::runtime_error(file.string() + ": is not a JSON object");
  const Reader reader(file, json);
  TrainerState state{.step = reader.whole("step", 0, kMostSteps),
                     .skipped_in_a_row = reader.whole("skipped_in_a_row", 0, kMostSteps),
                     .config = reader.text("config"),
                     .data_sha256 = reader.text("data_sha256"),
                     .training_bytes = 0,
                     .optimizer_steps = {},
                     .files = {}};
  // A copy under another name is as good as the original.
  if (const auto named = step_of_checkpoint(checkpoint); named && *named != state.step) {
    reader.fail("\"step\" is " + std::to_string(state.step) + ", but the folder is " +
                checkpoint.filename().string());
  }
  const Reader steps = reader.object("optimizer_steps");
  for (const auto& [name, value] : steps.json().items())
    state.optimizer_steps[name] = steps.whole(name, 0, state.step);
  if (!reader.has("files") && !reader.has(kSum)) return state;

  state.training_bytes = reader.whole("training_bytes", 0, INT64_MAX);
  state.evaluation_due = reader.flag("evaluation_due");
  state.neurons_due = reader.flag("neurons_due");
  const Reader files = reader.object("files");
  for (const auto& [name, value] : files.json().items()) {
    if (name.empty() || fs::path(name) != fs::path(name).filename() || name == "." || name == "..")
      files.fail("\"files\" has \"" + name.substr(0, 80) + "\", which is no name of a file");
    const Reader sum = files.object(name);
    state.files[name] = {.bytes = sum.whole("bytes", 0, INT64_MAX), .sha256 = sum.text("sha256")};
  }
  const std::string sum = reader.text(kSum);
  json.erase(kSum);
  if (sum_of(json) != sum)
    throw std::runtime_error(file.string() + ": was changed or is damaged: its checksum is another");
  return state;
}

void require_file(const fs::path& checkpoint, const TrainerState& state, const std::string& name) {
  const auto stated = state.files.find(name);
  if (stated == state.files.end()) return;
  const FileSum found = file_sum(checkpoint / name);
  const std::string place = (checkpoint / name).string() + ": is not the file that was saved: it has ";
  const std::string hint = ", trainer_state.json says ";
  if (found.bytes != stated->second.bytes)
    throw std::runtime_error(place + std::to_string(found.bytes) + " bytes" + hint +
                             std::to_string(stated->second.bytes));
  if (found.sha256 != stated->second.sha256)
    throw std::runtime_error(place + "sha256 " + found.sha256 + hint + stated->second.sha256);
}

void require_files(const fs::path& checkpoint, const TrainerState& state) {
  for (const auto& [name, sum] : state.files) require_file(checkpoint, state, name);
}

}  // namespace aurora::trainer
