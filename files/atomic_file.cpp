#include "atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryEnd = ".tmp", kDigits = "0123456789abcdef";
constexpr std::size_t kRandomDigits = 16;

[[noreturn]] void fail(const fs::path& file, const char* what, int error) {
  throw std::runtime_error(file.string() + ": " + what + ": " + std::generic_category().message(error));
}

}  // namespace

FileWriter::FileWriter(const fs::path& file)
    : file_(file),
      descriptor_(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666)) {
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

fs::path temporary_name(const fs::path& name) {
  std::random_device random;
  fs::path temporary = name;
  temporary += ".";
  for (std::size_t i = 0; i < kRandomDigits; ++i) temporary += kDigits[random() % kDigits.size()];
  return temporary += kTemporaryEnd;
}

std::string_view name_of_temporary(std::string_view name) {
  if (!name.ends_with(kTemporaryEnd)) return {};
  name.remove_suffix(kTemporaryEnd.size());
  if (name.size() < kRandomDigits + 2) return {};
  const std::string_view digits = name.substr(name.size() - kRandomDigits);
  name.remove_suffix(kRandomDigits);
  if (name.back() != '.' || digits.find_first_not_of(kDigits) != std::string_view::npos) return {};
  return name.substr(0, name.size() - 1);
}

void atomic_rename(const fs::path& temporary, const fs::path& name) {
  if (::rename(temporary.c_str(), name.c_str()) != 0) fail(name, "cannot be put in place", errno);
  const fs::path folder = name.parent_path();
  sync_folder(folder.empty() ? fs::path(".") : folder);
}

void atomic_write_text(const fs::path& file, std::string_view text) {
  const fs::path temporary = temporary_name(file);
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
