#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "config.hpp"

namespace aurora::trainer {

/// A GPU and its machine, as their makers describe them. Bandwidths are of one GPU in one direction.
struct Gpu {
  std::string_view name;
  double products;      // FLOP/s of dense 16-bit products
  double memory;        // bytes
  double memory_rate;   // bytes/s
  double link_rate;     // bytes/s to the other GPUs of its machine
  double network_rate;  // bytes/s to other machines
  int in_machine;       // GPUs of one machine
};
/// Throws std::invalid_argument that lists the names there are.
const Gpu& gpu_of(std::string_view name);

/// How ranks can share the step of an optimizer.
enum class Sharing : std::uint8_t {
  owners,           // each matrix stepped by one rank: reduce-scatter gradients, all-gather weights; ours
  replicas,         // all-reduce gradients, and every rank steps everything (DDP)
  shards,           // sharded states (FSDP) and an all-to-all of shards to owners and back, as dion
  tensor_parallel,  // sharded states, and Newton-Schulz on shards: a sum of n x n over ranks in each step
};
std::string_view name(Sharing sharing);
inline constexpr std::array kSharings = {Sharing::owners, Sharing::replicas, Sharing::shards,
                                         Sharing::tensor_parallel};

/// A step as arithmetic predicts it, of the rank with the most to do. docs/scale.md explains each number.
struct ScaleEstimate {
  double memory;      // bytes: weights, gradients, own state, buffers of exchanges, activations
  double state;       // of it, optimizer state
  double sent;        // bytes a step
  double unevenness;  // largest cost of a rank over the mean
  double model_ms, exchange_ms, optimizer_ms;
  double step_ms() const { return model_ms + exchange_ms + optimizer_ms; }
  double optimizer_share() const { return optimizer_ms / step_ms(); }
};
ScaleEstimate scale_estimate(const TrainConfig& config, int ranks, const Gpu& gpu, Sharing sharing);

}  // namespace aurora::trainer
