#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aurora/matrix.hpp"
#include "mapped_file.hpp"

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
/// dtype size times shape against range length, overlaps, holes, duplicate keys, 100,000 entries of metadata.
/// Errors: std::runtime_error "FILE: what, with values".
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& file);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  const std::filesystem::path& path() const;
  const std::vector<TensorEntry>& tensors() const;  // sorted by name
  const TensorEntry* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const;
  /// The file as it lies; tensors() points into its bytes.
  const MappedFile& mapped() const;
  /// After reading bytes of tensors: throws where they were not there any more.
  void require_whole() const;
  /// Gives the memory of a tensor's pages back; the next look reads them from the file again. Of this file's
  /// tensors only.
  void release(const TensorEntry& tensor) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes a new file with `__metadata__` {"format": "pt"} plus `metadata`; header padded so that data begin at a
/// multiple of 8. Written and synced in place: callers write into a temporary folder. Throws
/// std::runtime_error (a full disk included). `fetch` brings an entry's bytes, as many as it has, to where
/// they can be read; what it returns is used until the next call, so that one tensor at a time need be there.
using FetchBytes = std::function<std::span<const std::byte>(const TensorEntry&)>;
void write_safetensors(
    const std::filesystem::path& file, std::span<const TensorEntry> tensors,
    const std::map<std::string, std::string>& metadata = {},
    const FetchBytes& fetch = [](const TensorEntry& tensor) { return tensor.bytes; });

/// Bytes per element of a safetensors dtype; 0 for an unknown one.
Index dtype_bytes(std::string_view dtype);

/// Whether values_as_double reads this dtype: F64, F32, F16, BF16.
bool is_floating(std::string_view dtype);
/// Elements first, first + 1, ... of a tensor in C order as double, exactly; as many as `values` has. Throws
/// std::invalid_argument for a dtype that is not floating or elements that are not there.
void values_as_double(const TensorEntry& tensor, Index first, std::span<double> values);

}  // namespace aurora::trainer
