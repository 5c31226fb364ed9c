#pragma once

#include <ATen/core/TensorBody.h>

#include <string>

namespace aurora::optim {

/// Why a tensor is not plain memory that may be read through a pointer, as the end of a sentence that begins
/// "Parameters must"; empty where it is: dense, real, with values, all of them inside its storage. Subclasses
/// with a dispatch of their own (DTensor, FakeTensor, ...), tensors of a torch.func transform, nested,
/// quantized, sparse and meta tensors are not. Looks at what torch knows of the tensor, never at its memory.
std::string why_not_readable(const at::Tensor& tensor);

/// The same of memory that is written: neither made in inference mode, nor negated lazily, nor with elements
/// that share their memory.
std::string why_not_writable(const at::Tensor& tensor);

}  // namespace aurora::optim
