#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace aurora::test {

/// A device that is not the CPU: cuda:0 where it is there, else mtia:0, made of memory of this process, each
/// operation run on the CPU between copies. What would go wrong on a GPU goes wrong on that one, too:
///   - its addresses are not the host's: a read through one ends the process;
///   - an operation on its tensors and CPU tensors together throws, but for CPU tensors without dimensions;
///   - what makes the host wait is counted.
/// Results are the CPU's to rounding. Under autocast linear layers and attention are bfloat16.
at::Device other_device();

/// How often the host has waited for values of mtia:0: item(), copies to the CPU, shapes that depend on
/// values.
std::int64_t host_waits();

}  // namespace aurora::test
