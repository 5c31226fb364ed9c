#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace aurora::fuzz {

/// A folder of this process in memory, removed at its end.
inline const std::filesystem::path& folder() {
  static const struct Folder {
    Folder() {
      std::error_code error;
      const bool memory = std::filesystem::is_directory("/dev/shm", error);
      path = memory ? "/dev/shm" : std::filesystem::temp_directory_path();
      path /= "aurora-fuzz-" + std::to_string(::getpid());
      std::filesystem::create_directories(path);
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  } made;
  return made.path;
}

inline std::filesystem::path written(const char* name, std::string_view content) {
  const auto file = folder() / name;
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << content;
  return file;
}

/// A reader may refuse what it is given, in words: by std::runtime_error or std::invalid_argument. Anything
/// else, an exception of a library's own kind too, is a finding.
template <class Read>
void refuses_in_words(const Read& read) {
  try {
    read();
  } catch (const std::runtime_error& error) {
    if (*error.what() == '\0') std::abort();
  } catch (const std::invalid_argument& error) {
    if (*error.what() == '\0') std::abort();
  }
}

/// Ends the fuzzing where something that must hold does not.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace aurora::fuzz
