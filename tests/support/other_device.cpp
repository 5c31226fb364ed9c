#include "support/other_device.hpp"

#include <ATen/EmptyTensor.h>
#include <ATen/detail/MTIAHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <string_view>

namespace aurora::test {
namespace {

using at::Tensor;

constexpr auto kType = c10::DeviceType::MTIA;
constexpr std::uintptr_t kFarAway = std::uintptr_t{1} << 55;  // no address of the host has this bit

std::atomic<std::int64_t> waits = 0;
thread_local bool inside_operation = false;

void* host_address(void* address) {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(address) - kFarAway);
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    void* host = c10::alloc_cpu(std::max<std::size_t>(bytes, 1));
    void* data = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(host) + kFarAway);
    return {data, data, &release, other_device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(host_address(to), host_address(const_cast<void*>(from)), bytes);
  }
  static void release(void* data) { c10::free_cpu(host_address(data)); }
};
Memory memory;
REGISTER_ALLOCATOR(kType, &memory)

/// One stream, on which everything has happened already; an event is the time of its record.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<kType> {
  using Time = std::chrono::steady_clock::time_point;
  c10::Device exchangeDevice(c10::Device) const override { return other_device(); }
  c10::Device getDevice() const override { return other_device(); }
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, other_device());
  }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return getStream(other_device()); }
  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {
    destroyEvent(*event, 0);
    *event = new Time(std::chrono::steady_clock::now());
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override { ++waits; }
  void synchronizeDevice(c10::DeviceIndex) const override { ++waits; }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<Time*>(event);
  }
  double elapsedTime(void* first, void* last, c10::DeviceIndex) const override {
    return std::chrono::duration<double, std::milli>(*static_cast<Time*>(last) - *static_cast<Time*>(first))
        .count();
  }
};
C10_REGISTER_GUARD_IMPL(MTIA, Guard)

/// What makes it torch's accelerator of this process, as autograd asks.
struct Hooks final : at::MTIAHooksInterface {
  explicit Hooks(const at::MTIAHooksArgs& = {}) {}
  void init() const override {}
  bool hasMTIA() const override { return other_device().type() == kType; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
};
using at::MTIAHooksRegistry, at::RegistererMTIAHooksRegistry;
C10_REGISTER_CLASS(MTIAHooksRegistry, MTIAHooks, Hooks)

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::MTIA),
                                   c10::dtype_or_default(type), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::MTIA),
                                           c10::dtype_or_default(type));
}

/// The same memory as the host sees it.
Tensor on_host(const Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  return at::from_blob(host_address(tensor.data_ptr()), tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  if (to.is_cpu() && !inside_operation) ++waits;
  const c10::impl::ExcludeDispatchKeyGuard no_autograd(c10::autograd_dispatch_keyset);
  on_host(to).copy_(on_host(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (to.numel() == 0) {  // the result of an operation that makes room for it
    auto* result = to.unsafeGetTensorImpl();
    result->set_storage_keep_dtype(at::empty(from.sizes(), to.options()).storage());
    result->set_sizes_contiguous(from.sizes());
  }
  TORCH_CHECK(from.sizes() == to.sizes(), "a result is ", from.sizes(), ", there is room for ", to.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const Tensor& tensor) {
  ++waits;
  return on_host(tensor).item();
}

void require_here(const c10::OperatorHandle& operation, const Tensor& tensor) {
  TORCH_CHECK(!tensor.defined() || tensor.dim() == 0 || tensor.device() == other_device(), "A tensor ",
              tensor.sizes(), " on ", tensor.device(), " meets tensors on ", other_device(), " in ",
              operation.schema().name());
}

void run_on_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  constexpr std::array<std::string_view, 4> kShapedByValues = {"aten::nonzero", "aten::masked_select",
                                                               "aten::equal", "aten::_unique2"};
  const auto arguments = static_cast<std::ptrdiff_t>(operation.schema().arguments().size());
  for (auto argument = stack->end() - arguments; argument != stack->end(); ++argument) {
    if (argument->isTensor()) require_here(operation, argument->toTensor());
    if (argument->isTensorList())
      for (const Tensor& tensor : argument->toTensorList()) require_here(operation, tensor);
  }
  if (std::ranges::find(kShapedByValues, operation.schema().name()) != kShapedByValues.end()) ++waits;
  struct Inside {
    bool before = std::exchange(inside_operation, true);
    ~Inside() { inside_operation = before; }
  } const inside;
  at::native::cpu_fallback(operation, stack, /*error_on_views=*/true);
}

TORCH_LIBRARY_IMPL(_, MTIA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, MTIA, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &local_scalar);
}

}  // namespace

at::Device other_device() {
  static const at::Device device = at::hasCUDA() ? at::Device(at::kCUDA, 0) : at::Device(kType, 0);
  return device;
}

std::int64_t host_waits() { return waits; }

}  // namespace aurora::test
