#include "lock_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

namespace aurora::trainer {
namespace {

constexpr std::size_t kLongest = 20;  // a process number

std::string content(int descriptor) {
  std::array<char, kLongest + 1> text{};
  const ::ssize_t count = ::pread(descriptor, text.data(), text.size(), 0);
  return {text.data(), count > 0 ? static_cast<std::size_t>(count) : 0};
}

bool is_number(const std::string& text) {
  return text.size() <= kLongest && text.find_first_not_of("0123456789") == std::string::npos;
}

/// Whether it is a file with a process number, or nothing, in it.
bool is_ours(int descriptor) {
  struct ::stat status {};
  return ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && is_number(content(descriptor));
}

std::string holder(int descriptor) {
  const std::string text = content(descriptor);
  return text.empty() || !is_number(text) ? "another process" : "process " + text;
}

}  // namespace

LockFile::LockFile(const std::filesystem::path& folder)
    : descriptor_(
          ::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666)) {
  const std::string file = (folder / "lock").string();
  const auto fail = [&](const std::string& what) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw std::runtime_error(what);
  };
  if (descriptor_ < 0 && errno == ELOOP) fail(file + ": is a link, which is not followed; remove it");
  if (descriptor_ < 0) fail(file + ": cannot be opened: " + std::generic_category().message(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) fail(file + ": cannot be locked: " + std::generic_category().message(errno));
    fail(folder.string() + ": " + holder(descriptor_) +
         " is writing to this folder; wait for it to end, or give another folder");
  }
  if (!is_ours(descriptor_)) fail(file + ": is not the lock of a run, and it stays as it is; rename it");
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
