#include "scale.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "aurora/ranks.hpp"
#include "aurora/roles.hpp"
#include "model_size.hpp"

namespace aurora::trainer {
namespace {

// From NVIDIA's data sheets of the SXM modules and of the DGX machines with eight of them.
constexpr std::array<Gpu, 4> kGpus = {{
    {"a100", 312e12, 80e9, 2.04e12, 300e9, 25e9, 8},
    {"h100", 989e12, 80e9, 3.35e12, 450e9, 50e9, 8},
    {"h200", 989e12, 141e9, 4.8e12, 450e9, 50e9, 8},
    {"b200", 2250e12, 180e9, 8.0e12, 900e9, 50e9, 8},
}};

// The parts of those rates that are reached.
constexpr double kModelShare = 0.38;      // of products, by the forward and backward pass: llm.c on an H100
constexpr double kOptimizerShare = 0.65;  // of products, batched in float16: measured on an H200
constexpr double kMemoryShare = 0.9;      // of memory: measured on an H200
constexpr double kLinkShare = 0.8;        // of links and networks: an assumption

constexpr double kWeight = 4, kGradient = 4, kState = 4;  // bytes: all are float32
constexpr double kSixteenBits = 2;
// Bytes that a fused step moves for an element: B and U in 16 bits, M read and written, G, W read and written.
constexpr double kMatrixPass = 24, kAdamWPass = 28;
constexpr double kSchedule = 7;  // steps of Newton-Schulz on GPUs

struct Cost {
  double seconds = 0, state = 0;  // of a step of one parameter; bytes
};

double elements_of(const std::vector<Index>& shape) {
  double count = 1;
  for (const Index side : shape) count *= static_cast<double>(side);
  return count;
}

/// Operations of one direction of a rows x cols matrix, of whose long side a rank has 1 / shards.
double direction_flops(const Rule& rule, Index rows, Index cols, double shards) {
  const auto m = static_cast<double>(std::max(rows, cols)), n = static_cast<double>(std::min(rows, cols));
  const double evaluation = 4 * m * n * n / shards + 2 * n * n * n;  // X'X, X B and A A; also a leverage
  const auto* aurora = std::get_if<AuroraOptions>(&rule);
  return evaluation * (kSchedule + (aurora != nullptr && rows > cols ? aurora->pp_iterations - 1 : 0));
}

Cost cost_of(const RoutedParameter& parameter, const Rule& rule, bool matrix, const Gpu& gpu, double shards) {
  const double elements = elements_of(parameter.shape) / shards;
  const double moved = elements * (matrix ? kMatrixPass : kAdamWPass) / (gpu.memory_rate * kMemoryShare);
  if (!matrix) return {.seconds = moved, .state = 2 * kState * elements};
  const double flops = direction_flops(rule, parameter.shape[0], parameter.shape[1], shards);
  return {.seconds = moved + flops / (gpu.products * kOptimizerShare), .state = kState * elements};
}

}  // namespace

const Gpu& gpu_of(std::string_view name) {
  std::string names;
  for (const Gpu& gpu : kGpus) {
    if (gpu.name == name) return gpu;
    names += (names.empty() ? "" : ", ") + std::string(gpu.name);
  }
  throw std::invalid_argument("there is no GPU '" + std::string(name) + "' in the list: " + names);
}

std::string_view name(Sharing sharing) {
  constexpr std::array<std::string_view, 4> names = {"owners", "replicas", "shards", "tensor parallel"};
  return names[static_cast<std::size_t>(sharing)];
}

ScaleEstimate scale_estimate(const TrainConfig& config, int ranks, const Gpu& gpu, Sharing sharing) {
  const double R = ranks, others = (R - 1) / R;
  const bool splits = sharing == Sharing::tensor_parallel;
  double parameters = 0, matrices = 0, state = 0, gram = 0;
  std::vector<Cost> costs;
  std::vector<double> seconds;
  for (const RoutedParameter& parameter : route(parameters_of(config.model))) {
    const bool matrix = config.optim && parameter.route == Route::matrix;
    costs.push_back(cost_of(parameter, config.rule(), matrix, gpu, splits ? R : 1));
    seconds.push_back(costs.back().seconds);
    parameters += elements_of(parameter.shape);
    state += costs.back().state;
    if (!matrix) continue;
    matrices += elements_of(parameter.shape);
    const auto n = static_cast<double>(std::min(parameter.shape[0], parameter.shape[1]));
    gram += kSchedule * n * n;
  }

  ScaleEstimate estimate{};
  std::vector<Cost> loads(static_cast<std::size_t>(ranks));
  if (sharing == Sharing::owners || sharing == Sharing::shards) {
    const std::vector<int> owners = assign_owners(seconds, ranks);
    estimate.unevenness = unevenness(seconds, owners, ranks);
    for (std::size_t i = 0; i < costs.size(); ++i) {
      Cost& load = loads[static_cast<std::size_t>(owners[i])];
      load.seconds += costs[i].seconds;
      load.state += costs[i].state;
    }
  } else {
    estimate.unevenness = 1;
    for (const Cost& cost : costs) {
      loads[0].seconds += cost.seconds;
      loads[0].state += cost.state;
    }
  }
  for (const Cost& load : loads) {
    estimate.optimizer_ms = std::max(estimate.optimizer_ms, 1000 * load.seconds);
    estimate.state = std::max(estimate.state, load.state);
  }

  double in_rings = others * (kGradient + kWeight) * parameters;  // an all-reduce is the two together
  double crosswise = 0;
  if (sharing == Sharing::shards) {
    crosswise = 2 * others / R * kGradient * matrices;
    estimate.state = state / R;  // it stays sharded
  } else if (splits) {
    in_rings += 2 * others * kSixteenBits * gram;
  }
  estimate.sent = in_rings + crosswise;
  const double weights =
      sharing == Sharing::shards || splits ? 1 / R : 1;  // FSDP's, the part that a rank has
  const double buffers = sharing == Sharing::owners && ranks > 1 ? 1 : 0;
  estimate.memory = parameters * (weights * (kWeight + kGradient) + buffers * kGradient) + estimate.state +
                    activation_bytes(config);

  // A ring leaves a machine once, by the networks of all its GPUs; crosswise every GPU has its own.
  const bool one_machine = ranks <= gpu.in_machine;
  const double ring_rate =
      one_machine ? gpu.link_rate : std::min(gpu.link_rate, gpu.in_machine * gpu.network_rate);
  const double cross_rate = one_machine ? gpu.link_rate : gpu.network_rate;
  estimate.model_ms = 1000 * flops_per_step(config) / R / (gpu.products * kModelShare);
  estimate.exchange_ms = 1000 * (in_rings / ring_rate + crosswise / cross_rate) / kLinkShare;
  return estimate;
}

}  // namespace aurora::trainer
