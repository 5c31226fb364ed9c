#pragma once

#include <ATen/core/TensorBody.h>

#include <memory>

#include "aurora/backend.hpp"

namespace aurora {

/// The primitives on ATen operations, for whatever device torch has with float64: views must point to memory
/// of `device`. Work is queued on the device's current stream. Scratch memory comes from torch's allocator
/// for the device, which keeps what is given back. A group of weights is one part, so equal shapes go through
/// batched operations.
///
/// On every device but the CPU it is asynchronous(), with products in float16, and calls wait where
/// backend.hpp says so.
class AtenBackend : public Backend {
 public:
  /// Until the next call, `blend`, `keep` and `apply` change something only where `applied`, a boolean scalar
  /// on the device, is true; undefined: always.
  virtual void apply_only_if(at::Tensor applied) = 0;
};

struct AtenOptions {
  /// The algorithms of a device also on the CPU, where they are slower: for tests and comparisons.
  bool asynchronous = false;
};

/// Throws std::invalid_argument where torch was built without the device.
std::unique_ptr<AtenBackend> make_aten_backend(c10::Device device, const AtenOptions& options = {});

}  // namespace aurora
