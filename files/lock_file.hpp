#pragma once

#include <filesystem>

namespace aurora::trainer {

/// FOLDER/lock, held as long as the object lives; freed by the system however the process ends. The file
/// stays behind. A link, and a file with anything but a process number in it, are left alone and refused.
class LockFile {
 public:
  /// Throws std::runtime_error where another process holds it, naming the folder and that process, or
  /// where the lock is not ours to take, naming it.
  explicit LockFile(const std::filesystem::path& folder);
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

 private:
  int descriptor_;
};

}  // namespace aurora::trainer
