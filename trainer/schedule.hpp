#pragma once

#include "aurora/matrix.hpp"

namespace aurora::trainer {

/// What every learning rate is multiplied by in step `step`, 0 <= step < steps:
///   min(1, (step + 1) / (warmup steps)) min(1, (steps - step) / (cooldown steps)).
/// warmup and cooldown are shares of the steps in [0, 1]. The factor would be 0 in the step after the last.
double schedule_factor(Index step, Index steps, double warmup, double cooldown);

}  // namespace aurora::trainer
