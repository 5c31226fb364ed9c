#pragma once

#include <c10/core/Event.h>

#include <chrono>
#include <optional>
#include <string>

namespace aurora::trainer {

/// The device that `text` names, with its number: "cpu", "cuda", "cuda:1". Throws std::invalid_argument that
/// lists the devices there are for any other.
at::Device device_of(const std::string& text);

/// "NVIDIA H100 80GB HBM3", the model of the CPU; empty where nobody says.
std::string device_name(at::Device device);

/// The time that work takes on a device, measured there: the host does not wait.
class DeviceInterval {
 public:
  /// Begins after the work queued so far.
  explicit DeviceInterval(at::Device device);
  void end();
  /// Once the host has waited for work that was queued after end().
  double milliseconds() const;

 private:
  struct Events {
    c10::Event begin, end;
  };
  at::Device device_;
  std::optional<Events> events_;  // on every device but the CPU, which has a clock
  std::chrono::steady_clock::time_point begin_, end_;
};

}  // namespace aurora::trainer
