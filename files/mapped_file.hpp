#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace aurora::trainer {

/// What a file system says of a file's content without reading it.
struct FileStamp {
  std::uint64_t device = 0, inode = 0;
  std::int64_t bytes = 0, modified = 0, changed = 0;  // times in ns since 1970
  bool settled =
      false;  // the times lay so far back that every later change gives others: clocks of files tick
  bool operator==(const FileStamp& other) const;  // of all but `settled`
};
/// All zero where there is no such file.
FileStamp stamp_of(const std::filesystem::path& file);

/// A regular file mapped for reading; its size is taken once. Where it becomes shorter, or its disk fails,
/// while it is mapped, reading gives zeros instead of ending the process: who has read asks require_whole()
/// before the bytes are used. Errors: std::runtime_error "FILE: what".
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& file);
  /// An open descriptor, which stays the caller's; `name` is for messages.
  MappedFile(int descriptor, const std::filesystem::path& name);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::filesystem::path& name() const { return name_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  const FileStamp& stamp() const { return stamp_; }  // when it was mapped
  /// Throws where a byte that was read was not there any more.
  void require_whole() const;
  /// Gives the memory of the whole pages inside `part`, a part of bytes(), back; reading them again reads the
  /// file.
  void release(std::span<const std::byte> part) const;

 private:
  void map(int descriptor);

  std::filesystem::path name_;
  std::span<const std::byte> bytes_;
  FileStamp stamp_;
  std::size_t guard_ = 0;
};

}  // namespace aurora::trainer
