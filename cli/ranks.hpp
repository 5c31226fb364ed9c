#pragma once

#include <functional>

#include "aurora/ranks.hpp"

namespace aurora::cli {

/// What a launcher (mpirun, mpiexec, srun) says in the environment of the processes that it starts.
struct Launched {
  int rank = 0, size = 1;
};
Launched launched();

/// One of several processes, as the command needs it.
struct RankContext {
  Collectives& ranks;
  int threads;                                        // that are this rank's share of the machine
  std::function<void(const std::string&)> set_place;  // for messages: "step 17"
};

/// work() as one of the launched processes, of which there are several. Where work throws on one of them, all
/// end: the first rank says what it was, and the exit code is that of the error. Throws std::runtime_error
/// where the command was built without MPI.
int run_as_rank(const Launched& here, double limit_seconds,
                const std::function<int(const RankContext&)>& work);

/// For what is wrong before ranks can talk: every rank but the first gives the launcher, which ends all when
/// one has failed, the time to do so; so a message that all have is shown once.
void let_first_rank_speak();

/// Throws std::invalid_argument where `command` was started as one of several processes.
void require_one_process(const std::string& command);

}  // namespace aurora::cli
