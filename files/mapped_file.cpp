#include "mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& file, const char* what, int error) {
  throw std::runtime_error(file.string() + ": " + what + ": " + std::generic_category().message(error));
}

std::span<const std::byte> mapping(int descriptor, const fs::path& name) {
  struct ::stat status {};
  if (::fstat(descriptor, &status) != 0) fail(name, "cannot be read", errno);
  if (S_ISDIR(status.st_mode)) fail(name, "cannot be read", EISDIR);
  if (!S_ISREG(status.st_mode)) throw std::runtime_error(name.string() + ": is not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return {};
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (start == MAP_FAILED) fail(name, "cannot be mapped", errno);
  return {static_cast<const std::byte*>(start), size};
}

}  // namespace

MappedFile::MappedFile(const fs::path& file) {
  // Without O_NONBLOCK opening a pipe would wait for its writer.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) fail(file, "cannot be opened", errno);
  try {
    bytes_ = mapping(descriptor, file);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
}

MappedFile::MappedFile(int descriptor, const fs::path& name) : bytes_(mapping(descriptor, name)) {}

void MappedFile::release(std::span<const std::byte> part) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto start = static_cast<std::size_t>(part.data() - bytes_.data());  // the mapping begins with a page
  const std::size_t begin = (start + page - 1) / page * page;
  const std::size_t end = (start + part.size()) / page * page;
  // Advice: where it fails, memory is only given back later.
  if (begin < end) ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace aurora::trainer
