#include "memory.hpp"

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>

#include "place_error.hpp"

namespace aurora::optim {
namespace {

using at::Tensor;

/// Bytes of the storage up to the end of the last element.
std::int64_t last_byte(const Tensor& tensor) {
  std::int64_t last = tensor.storage_offset();
  for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
    last += (tensor.size(axis) - 1) * tensor.stride(axis);
  }
  return (last + 1) * tensor.element_size();
}

}  // namespace

void require_memory(const Place& place, std::string_view what, const Tensor& tensor) {
  const at::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  if (impl->is_python_dispatch() || impl->key_set().has(at::DispatchKey::Python)) {
    fail_at(place, what,
            " must be plain tensors, not a subclass with an implementation of its own (DTensor, FakeTensor, "
            "...); for sharded parameters the direction of a slice is not the slice of the direction");
  }
  for (const auto key : {at::DispatchKey::FuncTorchBatched, at::DispatchKey::FuncTorchGradWrapper,
                         at::DispatchKey::Functionalize}) {
    if (impl->key_set().has(key))
      fail_at(place, what, " must be plain tensors, not those of a torch.func transform");
  }
  if (tensor.layout() != at::kStrided || tensor.is_nested() || tensor.is_mkldnn()) {
    fail_at(place, what, " must be dense, not ", tensor.is_nested() ? "Nested" : c10::str(tensor.layout()));
  }
  if (tensor.is_meta()) fail_at(place, what, " must have values, those on the device meta have none");
  const auto type = tensor.scalar_type();
  if (type != at::kFloat && type != at::kDouble && type != at::kBFloat16 && type != at::kHalf) {
    fail_at(place, what, " must be float32, float64, bfloat16 or float16, not ", type);
  }
  if (tensor.numel() == 0) return;
  if (!tensor.has_storage() || tensor._is_zerotensor() || tensor.storage().data() == nullptr) {
    fail_at(place, what, " must have values, this one has no memory");
  }
  const auto bytes = static_cast<std::int64_t>(tensor.storage().nbytes());
  if (last_byte(tensor) > bytes) {
    fail_at(place, what, " must lie inside their storage: ", last_byte(tensor), " bytes of ", bytes,
            " (freed by a wrapper that shards?)");
  }
}

void require_writable_memory(const Place& place, std::string_view what, const Tensor& tensor) {
  require_memory(place, what, tensor);
  if (tensor.is_neg()) fail_at(place, what, " must not be a negative view of another tensor");
  if (at::has_internal_overlap(tensor) == at::MemOverlap::Yes) {
    fail_at(place, what, " must not be expanded: elements share their memory, strides ", tensor.strides());
  }
}

}  // namespace aurora::optim
