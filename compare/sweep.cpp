#include "sweep.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>

#include "aurora/value_text.hpp"
#include "design.hpp"

namespace aurora::compare {
namespace {

constexpr std::string_view kMatrix = "optim.", kAdamW = "adamw.";

/// The setting of this optimizer that `key` means; empty for none.
std::string own_key(const trainer::TrainConfig& config, const std::string& key) {
  if (config.optim) return key;
  return key.starts_with(kMatrix) ? std::string(kAdamW) + key.substr(kMatrix.size()) : std::string();
}

std::optional<double> number_of(const std::string& text) {
  double value = 0;
  if (!read_number(value, text) || !std::isfinite(value)) return {};
  return value;
}

void put(SweepPoint& point, const std::string& key, double factor) {
  if (factor != 1) point[key] = factor;
}

/// Whether no other axis than `key` is moved.
bool lies_on(const SweepPoint& point, const std::string& key) {
  return std::ranges::all_of(point, [&](const auto& entry) { return entry.first == key; });
}

/// The losses of the points on an axis alone, by factor.
std::map<double, double> losses_on(const std::string& key, const std::vector<TriedPoint>& tried) {
  std::map<double, double> losses;
  for (const TriedPoint& entry : tried)
    if (lies_on(entry.point, key)) losses.emplace(factor_of(entry.point, key), entry.loss);
  return losses;
}

double best_factor(const std::map<double, double>& losses) {
  if (losses.empty()) return 1;
  return std::ranges::min_element(losses, {}, [](const auto& entry) { return entry.second; })->first;
}

}  // namespace

double factor_of(const SweepPoint& point, const std::string& key) {
  const auto found = point.find(key);
  return found == point.end() ? 1 : found->second;
}

double value_of(const trainer::TrainConfig& config, const std::string& key) {
  const std::string own = own_key(config, key);
  for (const trainer::Setting& setting : trainer::settings(config))
    if (setting.key == own)
      return number_of(setting.value).value_or(std::numeric_limits<double>::quiet_NaN());
  return std::numeric_limits<double>::quiet_NaN();
}

std::vector<SweepAxis> axes_of(const Sweep& sweep, const trainer::TrainConfig& config) {
  std::vector<SweepAxis> axes;
  for (const SweepAxis& axis : sweep.axes) {
    const double value = value_of(config, axis.key);
    if (std::isfinite(value) && value != 0) axes.push_back(axis);
  }
  return axes;
}

std::vector<SweepPoint> points_of(const Sweep& sweep, const trainer::TrainConfig& config) {
  std::vector<SweepPoint> points;
  const auto add = [&](const SweepPoint& point) {
    if (std::ranges::find(points, point) == points.end()) points.push_back(point);
  };
  const auto axes = axes_of(sweep, config);
  if (!sweep.jointly) {
    for (const SweepAxis& axis : axes) {
      for (const double factor : axis.factors) {
        SweepPoint point;
        put(point, axis.key, factor);
        add(point);
      }
    }
    return points;
  }
  points = {{}};
  for (const SweepAxis& axis : axes) {
    std::vector<SweepPoint> longer;
    for (const SweepPoint& point : points) {
      for (const double factor : axis.factors) put(longer.emplace_back(point), axis.key, factor);
    }
    points = std::move(longer);
  }
  return axes.empty() ? std::vector<SweepPoint>() : points;
}

void apply(const SweepPoint& point, trainer::TrainConfig& config) {
  for (const auto& [key, factor] : point)
    trainer::set(config, own_key(config, key), number_text(factor * value_of(config, key)));
}

std::string point_name(const SweepPoint& point) {
  std::string name;
  for (const auto& [key, factor] : point) {
    name += (name.empty() ? "" : "+") + std::string(key == kRateKey ? "lr" : key) + "-" + number_text(factor);
  }
  return name.empty() ? "lr-1" : name;
}

std::optional<SweepPoint> point_of(const std::string& name) {
  SweepPoint point;
  for (std::size_t at = 0; at <= name.size();) {
    // A "+" may also stand in an exponent; there it follows an "e".
    std::size_t end = name.find('+', at);
    while (end != std::string::npos && end > 0 && name[end - 1] == 'e') end = name.find('+', end + 1);
    const std::string part = name.substr(at, end == std::string::npos ? end : end - at);
    const auto dash = part.find('-');
    if (dash == 0 || dash == std::string::npos) return {};
    const auto factor = number_of(part.substr(dash + 1));
    const std::string key = part.substr(0, dash);
    if (!factor || *factor < 0 || (key != "lr" && key.find('.') == std::string::npos)) return {};
    put(point, key == "lr" ? kRateKey : key, *factor);
    if (end == std::string::npos) break;
    at = end + 1;
  }
  return point;
}

SweepPoint best_point(const Sweep& sweep, const trainer::TrainConfig& config,
                      const std::vector<TriedPoint>& tried) {
  if (tried.empty()) return {};
  if (sweep.jointly)
    return std::ranges::min_element(
               tried, {}, [](const TriedPoint& entry) { return std::pair(entry.loss, entry.point); })
        ->point;
  SweepPoint best;
  for (const SweepAxis& axis : axes_of(sweep, config))
    put(best, axis.key, best_factor(losses_on(axis.key, tried)));
  return best;
}

std::optional<SweepPoint> next_point(const Sweep& sweep, const trainer::TrainConfig& config,
                                     const std::vector<TriedPoint>& tried) {
  if (!sweep.automatic || axes_of(sweep, config).empty()) return {};
  const auto losses = losses_on(kRateKey, tried);
  if (losses.empty()) return {};
  const double best = best_factor(losses);
  double next = 0;
  if (best == losses.begin()->first) next = best / 2;
  if (best == losses.rbegin()->first) next = best * 2;
  // All rates lost: lower ones may not.
  if (!std::isfinite(losses.at(best))) next = losses.begin()->first / 2;
  if (next == 0 || next > kLargestFactor || next < 1 / kLargestFactor) return {};
  SweepPoint point;
  put(point, kRateKey, next);
  return point;
}

void validate(const Sweep& sweep, const std::vector<trainer::TrainConfig>& configs) {
  if (sweep.seeds < 1 || sweep.seeds > kMostSeeds)
    throw std::invalid_argument("--sweep-seeds must be from 1 to " + std::to_string(kMostSeeds) + ", not " +
                                std::to_string(sweep.seeds));
  std::set<std::string> keys;
  std::size_t points = sweep.jointly ? 1 : 0;
  for (const SweepAxis& axis : sweep.axes) {
    points = sweep.jointly ? points * axis.factors.size() : points + axis.factors.size();
    if (points > kMostPoints)
      throw std::invalid_argument("the sweep has more than " + std::to_string(kMostPoints) +
                                  " points: give fewer factors");
    const std::string flag = axis.key == kRateKey ? "--sweep-lr" : "--sweep " + axis.key;
    const bool rate = axis.key.ends_with(".lr");
    if (!keys.insert(axis.key).second) throw std::invalid_argument("swept twice: " + axis.key);
    std::set<double> factors;
    for (const double factor : axis.factors) {
      if (!std::isfinite(factor) || factor < 0 || (rate && factor == 0))
        throw std::invalid_argument(flag + " takes numbers " + (rate ? "> 0: " : ">= 0: ") +
                                    number_text(factor));
      if (!factors.insert(factor).second)
        throw std::invalid_argument(flag + " names a factor twice: " + number_text(factor));
    }
    const bool swept = std::ranges::any_of(configs, [&](const trainer::TrainConfig& config) {
      const double value = value_of(config, axis.key);
      return std::isfinite(value) && value != 0;
    });
    if (!swept && !configs.empty()) {
      throw std::invalid_argument(flag + ": no optimizer here has such a number that is not 0: " + axis.key +
                                  "; as in --sweep adamw.lr=0.5,1,2");
    }
  }
  if (sweep.jointly && sweep.axes.size() < 2)
    throw std::invalid_argument(
        "--sweep-jointly needs two swept settings, as in --sweep-lr 0.5,1,2 "
        "--sweep adamw.lr=0.5,1,2");
  if (sweep.jointly && sweep.automatic)
    throw std::invalid_argument("--sweep-jointly and --sweep-lr auto exclude each other");
  if (sweep.equal_rates && sweep.axes.empty())
    throw std::invalid_argument("--equal-rates belongs to a sweep: without one all rates are as configured");
}

}  // namespace aurora::compare
