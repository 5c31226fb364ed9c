#include "atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& file, const char* what, int error) {
  throw std::runtime_error(file.string() + ": " + what + ": " + std::generic_category().message(error));
}

}  // namespace

FileWriter::FileWriter(const fs::path& file)
    : file_(file), descriptor_(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail(file_, "cannot be created", errno);
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FileWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ::ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(file_, "cannot be written", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void FileWriter::sync() {
  if (::fsync(descriptor_) != 0) fail(file_, "cannot be synced", errno);
}

void FileWriter::finish() {
  sync();
  if (::close(std::exchange(descriptor_, -1)) != 0) fail(file_, "cannot be closed", errno);
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(folder, "cannot be opened", errno);
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some file systems cannot sync a folder and say EINVAL.
  if (error != 0 && error != EINVAL) fail(folder, "cannot be synced", error);
}

void atomic_rename(const fs::path& temporary, const fs::path& name) {
  if (::rename(temporary.c_str(), name.c_str()) != 0) fail(name, "cannot be put in place", errno);
  const fs::path folder = name.parent_path();
  sync_folder(folder.empty() ? fs::path(".") : folder);
}

void atomic_write_text(const fs::path& file, std::string_view text) {
  fs::path temporary = file;
  temporary += ".tmp";
  try {
    FileWriter writer(temporary);
    writer.write(text);
    writer.finish();
    atomic_rename(temporary, file);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace aurora::trainer
