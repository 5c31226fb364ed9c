// What ThreadSanitizer must find, and what it must leave alone: with an argument, four threads write into one
// number; without, each writes into its own, and the next team into the same after it.
#include <array>
#include <cstdio>

extern "C" {
void GOMP_parallel(void (*function)(void*), void* data, unsigned thread_count, unsigned flags);
int omp_get_thread_num(void);
}

namespace {

std::array<int, 4> own{};
int shared = 0;

void count_own(void*) { ++own.at(static_cast<std::size_t>(omp_get_thread_num())); }
void count_shared(void*) {
  for (int i = 0; i < 1000; ++i) ++shared;
}

}  // namespace

int main(int arguments, char**) {
  for (int team = 0; team < 3; ++team) GOMP_parallel(count_own, nullptr, 4, 0);
  if (arguments > 1) GOMP_parallel(count_shared, nullptr, 4, 0);
  return std::printf("%d %d\n", own[0], shared) > 0 ? 0 : 1;
}
