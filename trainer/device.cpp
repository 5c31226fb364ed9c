#include "device.hpp"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <array>
#include <fstream>
#include <stdexcept>

#include "train.hpp"

namespace aurora::trainer {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return {};
}

/// From the driver, which is loaded where CUDA works; libtorch gives the name only to those who have CUDA's
/// headers.
std::string cuda_name(int index) {
  std::array<char, 256> name{};
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver == nullptr) return {};
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto name_of = reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, "cuDeviceGetName"));
  if (init != nullptr && name_of != nullptr && init(0) == 0)
    name_of(name.data(), static_cast<int>(name.size()) - 1, index);
  return name.data();
}

/// The CPU, then all devices of libtorch's accelerator, if it has one.
std::vector<at::Device> all_devices() {
  std::vector<at::Device> found = {at::Device(at::kCPU)};
  if (const auto type = at::accelerator::getAccelerator())
    for (c10::DeviceIndex i = 0; i < at::accelerator::deviceCount(); ++i) found.emplace_back(*type, i);
  return found;
}

c10::Stream current_stream(at::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

std::string device_name(at::Device device) {
  return device.is_cpu() ? cpu_name() : device.is_cuda() ? cuda_name(device.index()) : std::string();
}

std::vector<DeviceDescription> devices() {
  std::vector<DeviceDescription> list;
  for (const at::Device device : all_devices()) list.push_back({device.str(), device_name(device)});
  return list;
}

at::Device device_of(const std::string& text) {
  std::string list;
  for (const at::Device device : all_devices()) {
    if (text == device.str() || (device.index() == 0 && text + ":0" == device.str())) return device;
    list += (list.empty() ? "" : ", ") + device.str();
  }
  const bool built = at::globalContext().getAcceleratorHooksInterface(at::kCUDA).isBuilt();
  throw std::invalid_argument("the device is '" + text + "', but there is only " + list + " here (torch " +
                              TORCH_VERSION + ", built " + (built ? "with" : "without") + " CUDA)");
}

DeviceInterval::DeviceInterval(at::Device device)
    : device_(device), begin_(std::chrono::steady_clock::now()), end_(begin_) {
  if (device.is_cpu()) return;
  constexpr auto kWithTime = c10::EventFlag::BACKEND_DEFAULT;
  events_.emplace(c10::Event(device.type(), kWithTime), c10::Event(device.type(), kWithTime));
  events_->begin.record(current_stream(device));
}

void DeviceInterval::end() {
  end_ = std::chrono::steady_clock::now();
  if (events_) events_->end.record(current_stream(device_));
}

double DeviceInterval::milliseconds() const {
  return events_ ? events_->begin.elapsedTime(events_->end)
                 : std::chrono::duration<double, std::milli>(end_ - begin_).count();
}

}  // namespace aurora::trainer
