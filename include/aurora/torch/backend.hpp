#pragma once

#include <ATen/core/TensorBody.h>

#include <memory>

#include "aurora/backend.hpp"

namespace aurora {

/// Linear algebra on ATen operations, for whatever device torch has with float64: views must point to memory
/// of `device`. Work is queued on the device's current stream. Scratch memory comes from torch's allocator
/// for the device, which keeps what is given back. A group of weights is one part, so equal shapes go through
/// batched operations. Every device but the CPU is an accelerator: calls wait where backend.hpp says so.
/// Throws std::invalid_argument that names the device where this torch or machine lacks it.
std::unique_ptr<Backend> make_aten_backend(c10::Device device);

}  // namespace aurora
