#pragma once

#include "aurora/torch/step.hpp"

namespace aurora::optim {

/// Throws, with `what` ("Parameters", "Gradients", "The state exp_avg") at the beginning of the message, unless
/// the tensor is plain memory that may be read through a pointer: dense, real, with values, all of them inside
/// its storage. Subclasses with a dispatch of their own (DTensor, FakeTensor, ...), tensors of a torch.func
/// transform, nested, quantized, sparse and meta tensors are not. Looks at what torch knows of the tensor and
/// never at its memory.
void require_memory(const Place& place, std::string_view what, const torch::Tensor& tensor);

/// The same of memory that is written: neither negated lazily nor with elements that share their memory.
void require_writable_memory(const Place& place, std::string_view what, const torch::Tensor& tensor);

}  // namespace aurora::optim
