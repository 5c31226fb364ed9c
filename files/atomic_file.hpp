#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace aurora::trainer {

/// A new file being written, from its start. What is there already, a link included, is never opened. Every
/// failure, a full disk included, throws std::runtime_error "FILE: what". Without finish() the file has no
/// promised content.
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& file);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void sync();    // waits until the bytes are on the disk
  void finish();  // sync and close

 private:
  std::filesystem::path file_;
  int descriptor_;
};

/// Waits until the folder's own entries (files made, renamed, removed) are on the disk.
void sync_folder(const std::filesystem::path& folder);

/// A name beside `name` that nobody has yet, for what is renamed to it once it is whole:
/// "NAME.<16 hexadecimal digits>.tmp", the digits random.
std::filesystem::path temporary_name(const std::filesystem::path& name);
/// The NAME in a file name that temporary_name made; empty for every other name.
std::string_view name_of_temporary(std::string_view name);

/// Replaces FILE by `text`: after a crash at any moment it holds the old or the new text, whole. A link is
/// replaced, not followed.
void atomic_write_text(const std::filesystem::path& file, std::string_view text);

/// Renames a finished temporary file or folder to its name, replacing a file there, and syncs the folder
/// above.
void atomic_rename(const std::filesystem::path& temporary, const std::filesystem::path& name);

}  // namespace aurora::trainer
