#include "tensor_set.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "json_text.hpp"
#include "run_folder.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr JsonLimits kIndexLimits = {.bytes = std::size_t{32} << 20, .depth = 8, .keys = 1'000'000};
constexpr std::string_view kIndexEnd = ".index.json";
constexpr const char* kState = "optimizer.safetensors";

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
  throw std::runtime_error(file.string() + ": " + what);
}

std::string in_quotes(std::string_view text) {
  return Json(text.substr(0, 200)).dump(-1, ' ', true, Json::error_handler_t::replace);
}

bool is_tensor_file(const fs::path& path) { return path.extension() == ".safetensors"; }

/// The files of a folder whose names end so, sorted.
std::vector<fs::path> files_ending(const fs::path& folder, std::string_view end) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().ends_with(end)) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

/// Of a run folder its newest checkpoint, else the folder itself.
fs::path checkpoint_of(const fs::path& folder) {
  if (fs::exists(folder / "model.safetensors") || !fs::exists(folder / "last")) return folder;
  try {
    return resolve_checkpoint(folder);
  } catch (const std::invalid_argument& error) {
    throw std::runtime_error(error.what());
  }
}

TensorSet open_folder(const fs::path& folder) {
  TensorSet weights;
  if (fs::exists(folder / "model.safetensors")) {
    weights.add(folder / "model.safetensors");
    return weights;
  }
  const auto indexes = files_ending(folder, ".safetensors.index.json");
  if (indexes.size() > 1) {
    fail(folder, "has " + std::to_string(indexes.size()) + " sharded indexes, " +
                     indexes[0].filename().string() + " and " + indexes[1].filename().string() +
                     " among them: name one of them");
  }
  if (!indexes.empty()) {
    weights.add_index(indexes.front());
    return weights;
  }
  for (const auto& file : files_ending(folder, ".safetensors")) {
    if (file.filename() != kState) weights.add(file);
  }
  if (!weights.tensors().empty()) return weights;
  if (holds_run(folder)) fail(folder, "the run has no checkpoint yet");
  const bool pickled = !files_ending(folder, ".bin").empty() || !files_ending(folder, ".pt").empty();
  fail(folder, std::string("no *.safetensors file, sharded index or run in it") +
                   (pickled ? "; pickled weights are not read: save them as safetensors" : ""));
}

}  // namespace

void TensorSet::insert(const TensorEntry& entry, const SafetensorsFile& file, const fs::path& place) {
  if (!tensors_.try_emplace(entry.name, PlacedTensor{&entry, &file}).second)
    fail(place, "tensor " + in_quotes(entry.name) + " is in another file of the model too");
}

void TensorSet::add(const fs::path& file) {
  const SafetensorsFile& opened = files_.try_emplace(file, file).first->second;
  for (const TensorEntry& entry : opened.tensors()) insert(entry, opened, file);
}

void TensorSet::add_index(const fs::path& index) {
  const auto json = read_json<Json>(index, kIndexLimits);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object())
    fail(index, "is no sharded index: it has no object \"weight_map\"");
  for (const auto& [name, value] : map->items()) {
    if (!value.is_string()) fail(index, "the file of tensor " + in_quotes(name) + " is not text");
    const fs::path shard = value.get<std::string>();
    if (shard.empty() || shard != shard.filename() || !is_tensor_file(shard)) {
      fail(index, "the file of tensor " + in_quotes(name) + " is " + in_quotes(shard.string()) +
                      ", not the name of a safetensors file beside the index");
    }
    const fs::path path = index.parent_path() / shard;
    const SafetensorsFile& opened = files_.try_emplace(path, path).first->second;
    const TensorEntry* entry = opened.find(name);
    if (entry == nullptr)
      fail(index, "tensor " + in_quotes(name) + " is not in " + in_quotes(shard.string()));
    insert(*entry, opened, path);
  }
}

std::optional<PlacedTensor> TensorSet::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? std::nullopt : std::optional(found->second);
}

ModelTensors open_model(const fs::path& path) {
  ModelTensors model;
  if (!fs::is_directory(path)) {
    if (path.string().ends_with(kIndexEnd)) {
      model.weights.add_index(path);
    } else {
      model.weights.add(path);
    }
    return model;
  }
  const fs::path folder = checkpoint_of(path);
  model.weights = open_folder(folder);
  if (fs::exists(folder / kState)) model.state.add(folder / kState);
  return model;
}

}  // namespace aurora::trainer
