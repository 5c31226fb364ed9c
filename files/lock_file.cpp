#include "lock_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

namespace aurora::trainer {
namespace {

std::string holder(int descriptor) {
  std::array<char, 20> digits{};
  const ::ssize_t count = ::pread(descriptor, digits.data(), digits.size(), 0);
  const std::string text(digits.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  return text.empty() ? "another process" : "process " + text;
}

}  // namespace

LockFile::LockFile(const std::filesystem::path& folder)
    : descriptor_(::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) {
    throw std::runtime_error((folder / "lock").string() +
                             ": cannot be opened: " + std::generic_category().message(errno));
  }
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    const std::string who = holder(descriptor_);
    ::close(descriptor_);
    if (error != EWOULDBLOCK) {
      throw std::runtime_error((folder / "lock").string() +
                               ": cannot be locked: " + std::generic_category().message(error));
    }
    throw std::runtime_error(folder.string() + ": " + who +
                             " is writing to this folder; wait for it to end, or give another folder");
  }
  const std::string self = std::to_string(::getpid());
  // The number is only for the message above, so a full disk does not matter here.
  if (::ftruncate(descriptor_, 0) == 0) {
    [[maybe_unused]] const ::ssize_t written = ::pwrite(descriptor_, self.data(), self.size(), 0);
  }
}

LockFile::~LockFile() {
  [[maybe_unused]] const int emptied = ::ftruncate(descriptor_, 0);
  ::close(descriptor_);
}

}  // namespace aurora::trainer
