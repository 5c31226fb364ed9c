#pragma once

#include <filesystem>

namespace aurora::trainer {

/// FOLDER/lock, held as long as the object lives; freed by the system however the process ends. The file
/// stays behind.
class LockFile {
 public:
  /// Throws std::runtime_error where another process holds it, naming the folder and that process.
  explicit LockFile(const std::filesystem::path& folder);
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

 private:
  int descriptor_;
};

}  // namespace aurora::trainer
