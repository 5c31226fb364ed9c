#pragma once

#include <filesystem>
#include <string>

#include "aurora/matrix.hpp"
#include "mapped_file.hpp"

namespace aurora::trainer {

/// SHA-256 of a mapped file. Computed once in a process for a file whose stamp is settled, and kept with that
/// stamp. Throws std::runtime_error where the file became shorter.
std::string sha256_of(const MappedFile& file);

/// Length and SHA-256 of a file.
struct FileSum {
  Index bytes = 0;
  std::string sha256;
  bool operator==(const FileSum&) const = default;
};
/// Throws std::runtime_error naming the file where it cannot be read.
FileSum file_sum(const std::filesystem::path& file);

}  // namespace aurora::trainer
