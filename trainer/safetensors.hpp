#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aurora/matrix.hpp"

namespace aurora::trainer {

/// One tensor of a safetensors file: C order, little-endian, packed.
struct TensorEntry {
  std::string name;
  std::string dtype;  // "F32", "F64", "BF16", "F16", "I64", ...
  std::vector<Index> shape;
  std::span<const std::byte> bytes;
};

/// A memory-mapped safetensors file (https://github.com/huggingface/safetensors). The file is hostile until
/// checked: header size against file size and 100 MB, JSON depth, shape products and ranges against overflow,
/// dtype size times shape against range length, overlaps, holes, duplicate keys. Errors: std::runtime_error
/// "FILE: what, with values".
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& file);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  const std::vector<TensorEntry>& tensors() const;  // sorted by name
  const TensorEntry* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes a file with `__metadata__` {"format": "pt"} plus `metadata`; header padded so that data begin at a
/// multiple of 8. Written and synced in place: callers write into a temporary folder. Throws
/// std::runtime_error (a full disk included).
void write_safetensors(const std::filesystem::path& file, std::span<const TensorEntry> tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// Bytes per element of a safetensors dtype; 0 for an unknown one.
Index dtype_bytes(std::string_view dtype);

}  // namespace aurora::trainer
