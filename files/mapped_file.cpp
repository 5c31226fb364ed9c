#include "mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& file, const char* what, int error) {
  throw std::runtime_error(file.string() + ": " + what + ": " + std::generic_category().message(error));
}

/// A mapping as the signal handler sees it.
struct Guard {
  std::atomic<std::byte*> begin{nullptr}, end{nullptr};
  std::atomic<bool> lost{false};
};
constexpr std::size_t kNoGuard = 0, kMostGuards = 65536;  // Linux has 65530 mappings for a process
std::array<Guard, kMostGuards> guards;

/// Puts zeros in the place of the rest of a mapping whose file is not there any more.
void on_bus_error(int, ::siginfo_t* info, void*) {
  const int error = errno;
  auto* const address = static_cast<std::byte*>(info->si_addr);
  const auto found = std::ranges::find_if(guards, [address](const Guard& guard) {
    return address >= guard.begin.load() && address < guard.end.load();
  });
  void* zeros = MAP_FAILED;
  if (found != guards.end()) {
    found->lost.store(true);
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    std::byte* const start = address - reinterpret_cast<std::uintptr_t>(address) % page;
    zeros = ::mmap(start, static_cast<std::size_t>(found->end.load() - start), PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  }
  if (zeros == MAP_FAILED) std::signal(SIGBUS, SIG_DFL);  // and the same access ends the process
  errno = error;
}

/// Free places in `guards`.
class Places {
 public:
  std::size_t take() {
    const std::lock_guard lock(mutex_);
    if (!handled_) {
      struct ::sigaction action {};
      action.sa_sigaction = on_bus_error;
      action.sa_flags = SA_SIGINFO;
      ::sigaction(SIGBUS, &action, nullptr);
      handled_ = true;
    }
    if (!free_.empty()) {
      const std::size_t place = free_.back();
      free_.pop_back();
      return place;
    }
    return next_ < kMostGuards ? next_++ : kNoGuard;
  }
  void give_back(std::size_t place) {
    if (place == kNoGuard) return;
    const std::lock_guard lock(mutex_);
    free_.push_back(place);
  }

 private:
  std::mutex mutex_;
  std::vector<std::size_t> free_;
  std::size_t next_ = kNoGuard + 1;
  bool handled_ = false;
};
Places& places() {
  static auto* all = new Places;  // outlives every mapping
  return *all;
}

std::int64_t nanoseconds(const ::timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

FileStamp stamp_in(const struct ::stat& status) {
  constexpr std::int64_t kTick = 2'000'000'000;  // of the coarsest clock, that of FAT
  ::timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const std::int64_t modified = nanoseconds(status.st_mtim), changed = nanoseconds(status.st_ctim);
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .bytes = status.st_size,
          .modified = modified,
          .changed = changed,
          .settled = nanoseconds(now) - std::max(modified, changed) > kTick};
}

}  // namespace

bool FileStamp::operator==(const FileStamp& other) const {
  return device == other.device && inode == other.inode && bytes == other.bytes &&
         modified == other.modified && changed == other.changed;
}

FileStamp stamp_of(const fs::path& file) {
  struct ::stat status {};
  return ::stat(file.c_str(), &status) == 0 ? stamp_in(status) : FileStamp{};
}

void MappedFile::map(int descriptor) {
  struct ::stat status {};
  if (::fstat(descriptor, &status) != 0) fail(name_, "cannot be read", errno);
  if (S_ISDIR(status.st_mode)) fail(name_, "cannot be read", EISDIR);
  if (!S_ISREG(status.st_mode)) throw std::runtime_error(name_.string() + ": is not a regular file");
  stamp_ = stamp_in(status);
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return;
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (start == MAP_FAILED) fail(name_, "cannot be mapped", errno);
  bytes_ = {static_cast<const std::byte*>(start), size};
  guard_ = places().take();
  if (guard_ == kNoGuard) return;
  Guard& guard = guards[guard_];
  guard.lost.store(false);
  guard.begin.store(static_cast<std::byte*>(start));
  guard.end.store(static_cast<std::byte*>(start) + size);
}

MappedFile::MappedFile(const fs::path& file) : name_(file) {
  // Without O_NONBLOCK opening a pipe would wait for its writer.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) fail(file, "cannot be opened", errno);
  try {
    map(descriptor);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
}

MappedFile::MappedFile(int descriptor, const fs::path& name) : name_(name) { map(descriptor); }

void MappedFile::require_whole() const {
  if (guard_ != kNoGuard && guards[guard_].lost.load())
    throw std::runtime_error(name_.string() +
                             ": became shorter, or its disk failed, while it was being read");
}

void MappedFile::release(std::span<const std::byte> part) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto start = static_cast<std::size_t>(part.data() - bytes_.data());  // the mapping begins with a page
  const std::size_t begin = (start + page - 1) / page * page;
  const std::size_t end = (start + part.size()) / page * page;
  // Advice: where it fails, memory is only given back later.
  if (begin < end) ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (bytes_.empty()) return;
  // Guard number kNoGuard, which nobody takes, may be written as well.
  guards[guard_].begin.store(nullptr);
  guards[guard_].end.store(nullptr);
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  places().give_back(guard_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : name_(std::move(other.name_)),
      bytes_(std::exchange(other.bytes_, {})),
      stamp_(other.stamp_),
      guard_(std::exchange(other.guard_, kNoGuard)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(bytes_, other.bytes_);
  std::swap(stamp_, other.stamp_);
  std::swap(guard_, other.guard_);
  return *this;
}

}  // namespace aurora::trainer
