#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace aurora::trainer {

/// How fast the machine is right now: a fixed product whose time says whether two runs were measured under
/// the same conditions.
class MachineSpeed {
 public:
  explicit MachineSpeed(at::Device device);
  /// Milliseconds of the product of two 256 x 256 float32 matrices on the device with the threads of the run,
  /// the median of nine. Touches nothing of a run.
  double product_ms();

 private:
  at::Tensor a_, b_, c_;
};

/// How the threads of libgomp wait here, as the environment says: "OMP_WAIT_POLICY=PASSIVE",
/// "GOMP_SPINCOUNT=1000", or "default".
std::string wait_policy();

/// Processes that ran or waited for a core in the last minute, on average; NaN where that is not known.
double load_average();

}  // namespace aurora::trainer
