#include "schedule.hpp"

#include <algorithm>

namespace aurora::trainer {

double schedule_factor(Index step, Index steps, double warmup, double cooldown) {
  const double total = static_cast<double>(steps);
  const double now = static_cast<double>(step);
  const double rise = warmup > 0 ? (now + 1) / (warmup * total) : 1;
  const double fall = cooldown > 0 ? (total - now) / (cooldown * total) : 1;
  return std::min(1.0, rise) * std::min(1.0, fall);
}

}  // namespace aurora::trainer
