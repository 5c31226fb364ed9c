#include "machine_speed.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>

#include "aurora/diagnostics.hpp"
#include "device.hpp"

namespace aurora::trainer {

MachineSpeed::MachineSpeed(at::Device device) {
  const auto options = torch::dtype(torch::kFloat32).device(device);
  a_ = torch::full({256, 256}, 0.5, options);
  b_ = torch::full({256, 256}, 0.25, options);
  c_ = torch::empty({256, 256}, options);
}

double MachineSpeed::product_ms() {
  const torch::NoGradGuard no_grad;
  std::array<double, 9> times{};
  for (double& time : times) {
    DeviceInterval interval(a_.device());
    torch::mm_out(c_, a_, b_);
    interval.end();
    c_[0][0].item<float>();  // waits for the device
    time = interval.milliseconds();
  }
  return quantile(times, 0.5);
}

std::string wait_policy() {
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"})
    if (const char* value = std::getenv(name); value != nullptr) return std::string(name) + "=" + value;
  return "default";
}

double load_average() {
  double load = 0;
  return ::getloadavg(&load, 1) == 1 ? load : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace aurora::trainer
