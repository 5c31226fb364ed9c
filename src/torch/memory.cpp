#include "aurora/torch/memory.hpp"

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <utility>
#include <vector>

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

/// Whether elements may share their memory: from the smallest stride on, each axis must step over all before.
bool may_overlap(const Tensor& tensor) {
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;
  for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
    if (tensor.size(axis) > 1) axes.emplace_back(tensor.stride(axis), tensor.size(axis) - 1);
  }
  std::sort(axes.begin(), axes.end());
  std::int64_t reach = 0;
  for (const auto& [stride, steps] : axes) {
    if (stride <= reach) return true;
    reach += stride * steps;
  }
  return false;
}

bool has_own_dispatch(const Tensor& tensor) {
  const at::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  return impl->is_python_dispatch() || impl->key_set().has(at::DispatchKey::Python);
}

bool is_transformed(const Tensor& tensor) {
  const auto keys = tensor.key_set();
  return keys.has(at::DispatchKey::FuncTorchBatched) || keys.has(at::DispatchKey::FuncTorchGradWrapper) ||
         keys.has(at::DispatchKey::Functionalize);
}

}  // namespace

std::string why_not_readable(const Tensor& tensor) {
  if (has_own_dispatch(tensor)) {
    return "be plain tensors, not a subclass with an implementation of its own (DTensor, FakeTensor, ...): "
           "the "
           "direction of a slice is not the slice of the direction";
  }
  if (is_transformed(tensor)) return "be plain tensors, not those of a torch.func transform";
  if (tensor.is_nested()) return "be dense, not Nested";
  if (tensor.layout() != at::kStrided) return c10::str("be dense, not ", tensor.layout());
  if (tensor.is_meta()) return "have values, those on the device meta have none";
  const auto type = tensor.scalar_type();
  if (type != at::kFloat && type != at::kDouble && type != at::kBFloat16 && type != at::kHalf) {
    return c10::str("be float32, float64, bfloat16 or float16, not ", type);
  }
  if (tensor.numel() == 0) return "";
  if (!tensor.has_storage() || tensor._is_zerotensor() || tensor.storage().data() == nullptr) {
    return "have values, this one has no memory";
  }
  const auto bytes = static_cast<std::int64_t>(tensor.storage().nbytes());
  if (last_byte(tensor) > bytes) {
    return c10::str("lie inside their storage, of which ", bytes, " bytes are there and ", last_byte(tensor),
                    " are needed (freed by what shards them?)");
  }
  return "";
}

std::string why_not_writable(const Tensor& tensor) {
  if (std::string why = why_not_readable(tensor); !why.empty()) return why;
  if (tensor.is_inference() && !c10::InferenceMode::is_enabled()) {
    return "not have been made in inference mode, where no versions are counted";
  }
  if (tensor.is_neg()) return "not be a negative view of another tensor";
  if (may_overlap(tensor)) {
    return c10::str("not be expanded or overlap themselves, which lets elements share their memory: strides ",
                    tensor.strides());
  }
  return "";
}

}  // namespace aurora::optim
