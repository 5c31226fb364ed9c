#pragma once

#include <c10/core/Device.h>

#include <chrono>
#include <memory>
#include <string>

#include "aurora/ranks.hpp"

namespace aurora {

/// The ranks of a process group of torch.distributed (gloo, NCCL, ...), by the name under which it is
/// registered: `group.group_name` in Python. Views must point to memory of `device`.
///
/// No wait is longer than `limit`; 0: the group's own time limit. Where it passes, or another rank is gone,
/// std::runtime_error names operation, rank and limit; the group is of no use then. On CUDA it is NCCL's
/// watchdog that ends the process after the limit. all_to_all and reduce_scatter are one all-to-all of any
/// sizes, and sums are added up in the order of the ranks; all_gather is one broadcast from each rank.
/// Throws std::invalid_argument where there is no such group, and where this libtorch has no
/// torch.distributed.
std::unique_ptr<Collectives> make_c10d_collectives(const std::string& group, c10::Device device,
                                                   std::chrono::milliseconds limit = {});

}  // namespace aurora
