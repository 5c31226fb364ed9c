// Threads of libgomp that wait for work spin for some milliseconds before they sleep, which takes the cores
// of a busy machine from those that work. libgomp reads how long from the environment when it is loaded,
// before main, so the program starts itself once more with GOMP_SPINCOUNT set, unless that or OMP_WAIT_POLICY
// is set already. This runs before the constructors of any library, and before there is a heap:
// docs/decisions/0007.
#include <linux/limits.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string_view>

namespace {

constexpr std::string_view kPolicy = "OMP_WAIT_POLICY=", kCount = "GOMP_SPINCOUNT=";
char setting[] = "GOMP_SPINCOUNT=1000";
constexpr std::size_t kMostVariables = 4096;

void let_threads_sleep_soon(int, char** arguments, char** environment) {
  static std::array<char*, kMostVariables> changed;
  std::size_t count = 0;
  for (char** variable = environment; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    if (text.substr(0, kPolicy.size()) == kPolicy || text.substr(0, kCount.size()) == kCount) return;
    if (count + 2 == kMostVariables) return;
    changed[count++] = *variable;
  }
  changed[count++] = setting;
  changed[count] = nullptr;
  // By its path, because the system names the process after it.
  static std::array<char, PATH_MAX> program;
  const ::ssize_t size = ::readlink("/proc/self/exe", program.data(), program.size() - 1);
  if (size <= 0) return;
  program[static_cast<std::size_t>(size)] = '\0';
  ::execve(program.data(), arguments, changed.data());
  // Where that is not possible, threads spin as they would have.
}

[[gnu::section(".preinit_array"),
  gnu::used]] void (*const kBeforeAllConstructors)(int, char**, char**) = let_threads_sleep_soon;

}  // namespace
