#include "ranks.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <thread>

#ifdef AURORA_HAS_MPI
#include "command.hpp"
#include "mpi.hpp"
#include "terminal.hpp"
#endif

namespace aurora::cli {

namespace {

constexpr auto kTimeToSpeak = std::chrono::seconds(5);

struct Launcher {
  const char *size, *rank;
};
constexpr Launcher kLaunchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},  // Open MPI
    {"PMI_SIZE", "PMI_RANK"},                          // MPICH, Intel MPI
    {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"},    // MVAPICH
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},          // srun; a batch script alone is no step of tasks
};

int number_of(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return otherwise;
  int number = otherwise;
  const std::string_view view = text;
  std::from_chars(view.data(), view.data() + view.size(), number);
  return number;
}

}  // namespace

Launched launched() {
  for (const auto& [size, rank] : kLaunchers)
    if (const int found = number_of(size, 1); found > 1) return {.rank = number_of(rank, 0), .size = found};
  return {};
}

void let_first_rank_speak() {
  if (launched().rank > 0) std::this_thread::sleep_for(kTimeToSpeak);
}

void require_one_process(const std::string& command) {
  const int size = launched().size;
  if (size == 1) return;
  throw std::invalid_argument(fmt::format(
      "this is one process of {}, and {} is the work of one: start it without mpirun{}", size, command,
      command == "compare"
          ? "; runs side by side are made by aurora compare --jobs, one run of several ranks "
            "by mpirun aurora train"
          : ""));
}

#ifdef AURORA_HAS_MPI

namespace {

/// The cores that this process may use, at most its share of those of the machine.
int own_threads(int neighbours) {
  const auto cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int usable = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : cores;
  return std::max(1, std::min(usable, cores / neighbours));
}

struct Failure {
  int code;
  std::string message;
};

/// Ends all ranks; the first says why, or this one where the first is not there to do so.
[[noreturn]] void end_all(MpiRanks& ranks, const Failure& failure, bool told) {
  if (!told) {
    const std::string from = ranks.rank() == 0 ? "" : fmt::format("rank {}: ", ranks.rank());
    ranks.fail(failure.code, from + failure.message);
  }
  if (ranks.rank() > 0) std::this_thread::sleep_for(kTimeToSpeak);
  show(stderr, fmt::format("aurora train: {}\n", printable(first_line(failure.message))));
  std::fflush(stdout);
  ranks.abort(failure.code);
}

}  // namespace

int run_as_rank(const Launched& here, double limit_seconds,
                const std::function<int(const RankContext&)>& work) {
  MpiRanks ranks(here.size, limit_seconds);
  try {
    const int code = work({.ranks = ranks,
                           .threads = own_threads(ranks.neighbours()),
                           .set_place = [&](const std::string& place) { ranks.set_place(place); }});
    std::fflush(stdout);  // a launcher ends all as soon as one has left with an error
    ranks.finish();
    std::signal(SIGTERM, SIG_IGN);
    return code;
  } catch (const RankFailed& error) {
    end_all(ranks, {error.code, error.what()}, /*told=*/true);
  } catch (const std::invalid_argument& error) {
    end_all(ranks, {kUsage, error.what()}, /*told=*/false);
  } catch (const std::exception& error) {
    end_all(ranks, {kFailed, error.what()}, /*told=*/false);
  }
}

#else

int run_as_rank(const Launched& here, double, const std::function<int(const RankContext&)>&) {
  throw std::runtime_error(fmt::format(
      "this is one process of {}, but aurora was built without MPI, so each would train alone into "
      "the same folder: build it where libopenmpi-dev is, or start one process",
      here.size));
}

#endif

}  // namespace aurora::cli
