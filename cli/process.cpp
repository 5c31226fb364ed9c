#include "process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <stdexcept>

namespace aurora::cli {

namespace {
constexpr rlim_t kSmallestStack = 512 * 1024;
}

void fill_standard_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) != -1) continue;
    // The lowest free number, which is this one; in the direction in which nobody uses it.
    if (open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY) != descriptor)
      throw std::runtime_error(fmt::format("file descriptor {} is closed and cannot be filled", descriptor));
  }
}

void require_stack() {
  rlimit limit{};
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= kSmallestStack) return;
  throw std::runtime_error(fmt::format("the stack limit is {} KiB, at least {} are needed: ulimit -s 8192",
                                       limit.rlim_cur / 1024, kSmallestStack / 1024));
}

}  // namespace aurora::cli
