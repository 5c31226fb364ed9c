#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "safetensors.hpp"

namespace aurora::trainer {

/// A tensor and the file it lies in.
struct PlacedTensor {
  const TensorEntry* entry;
  const SafetensorsFile* file;
};

/// Tensors by name, from one safetensors file or several. No name occurs twice.
class TensorSet {
 public:
  /// All tensors of a file. Throws std::runtime_error where a name is there already.
  void add(const std::filesystem::path& file);
  /// Those that a sharded index (*.safetensors.index.json) names, from the files beside it. Throws
  /// std::runtime_error "INDEX: what" where it is no index, leaves its folder, or names a tensor that the
  /// file does not have.
  void add_index(const std::filesystem::path& index);

  const std::map<std::string_view, PlacedTensor>& tensors() const { return tensors_; }
  std::optional<PlacedTensor> find(std::string_view name) const;

 private:
  void insert(const TensorEntry& entry, const SafetensorsFile& file, const std::filesystem::path& place);

  std::map<std::filesystem::path, SafetensorsFile> files_;
  std::map<std::string_view, PlacedTensor> tensors_;  // names are those of the entries
};

/// Where a model's tensors lie: weights, and where there is one, our optimizer's state.
struct ModelTensors {
  TensorSet weights;
  TensorSet state;
};

/// `path`: a safetensors file; a sharded index; a folder with model.safetensors, with an index, or with other
/// *.safetensors files, of which optimizer.safetensors is the state; a run folder (its `last`). Throws
/// std::runtime_error naming the path.
ModelTensors open_model(const std::filesystem::path& path);

}  // namespace aurora::trainer
