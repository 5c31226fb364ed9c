#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace aurora::trainer {

/// A regular file mapped for reading; its size is taken once. Errors: std::runtime_error "FILE: what".
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& file);
  /// An open descriptor, which stays the caller's; `name` is for messages.
  MappedFile(int descriptor, const std::filesystem::path& name);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Gives the memory of the whole pages inside `part`, a part of bytes(), back; reading them again reads the
  /// file.
  void release(std::span<const std::byte> part) const;

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace aurora::trainer
