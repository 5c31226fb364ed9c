#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config.hpp"

namespace aurora::compare {

/// A place that a sweep tries: the factor on each swept setting, settings with a factor of 1 left out. {} is
/// the configuration itself.
using SweepPoint = std::map<std::string, double>;  // "optim.lr" -> 2

/// The factors that a sweep tries on one setting, in ascending order.
struct SweepAxis {
  std::string key;  // "optim.lr", "optim.weight_decay", "adamw.lr"
  std::vector<double> factors;
  bool operator==(const SweepAxis&) const = default;
};

struct Sweep {
  std::vector<SweepAxis> axes = {};  // none: no sweep; optim.lr first where it is one of them
  bool automatic = false;  // go on beyond the factors of optim.lr until the best of an optimizer lies inside
  bool jointly = false;    // all combinations; else each axis alone, the others at 1
  bool equal_rates = false;  // the result also at {} where an optimizer's best is another
  int seeds = 1;
};

inline constexpr const char* kRateKey = "optim.lr";

/// Where an automatic sweep stops looking.
inline constexpr double kLargestFactor = 64;
/// Of an optimizer, that a sweep begins with.
inline constexpr std::size_t kMostPoints = 1000;

/// The factor of a point on a setting; 1 where it has none.
double factor_of(const SweepPoint& point, const std::string& key);

/// The axes that an optimizer has. To adamw, which has no auxiliary AdamW, optim.KEY is adamw.KEY, and
/// "adamw." axes do not exist; a setting that is 0 or that the optimizer lacks is no axis.
std::vector<SweepAxis> axes_of(const Sweep& sweep, const trainer::TrainConfig& config);

/// The points that a sweep begins with, each once, {} among them where all factors have a 1.
std::vector<SweepPoint> points_of(const Sweep& sweep, const trainer::TrainConfig& config);

/// Multiplies the settings. Errors as trainer::set.
void apply(const SweepPoint& point, trainer::TrainConfig& config);

/// The value of a swept setting as the optimizer has it; NaN where it has none.
double value_of(const trainer::TrainConfig& config, const std::string& key);

/// "lr-2", "adamw.lr-0.5", "lr-2+adamw.lr-0.5"; {} is "lr-1".
std::string point_name(const SweepPoint& point);
/// Nothing where the name is none of a point.
std::optional<SweepPoint> point_of(const std::string& name);

/// A point that was tried on all seeds of the sweep; a diverged seed makes the loss infinite.
struct TriedPoint {
  SweepPoint point;
  double loss;
};

/// What the result takes: jointly the point of least loss, else on each axis the factor of least loss among
/// the points on that axis alone. The least factor of equal ones.
SweepPoint best_point(const Sweep& sweep, const trainer::TrainConfig& config,
                      const std::vector<TriedPoint>& tried);

/// The point that an automatic sweep needs next: one factor of 2 beyond an edge where the best lies; nothing
/// where the best lies inside or kLargestFactor is reached.
std::optional<SweepPoint> next_point(const Sweep& sweep, const trainer::TrainConfig& config,
                                     const std::vector<TriedPoint>& tried);

/// Throws std::invalid_argument: factors that are negative, not finite, twice there, or 0 of a rate; a
/// setting that is no number or that none of the optimizers has; more than kMostPoints points; jointly with
/// an automatic sweep.
void validate(const Sweep& sweep, const std::vector<trainer::TrainConfig>& configs);

}  // namespace aurora::compare
