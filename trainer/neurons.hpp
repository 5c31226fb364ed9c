#pragma once

#include <torch/torch.h>

#include <array>
#include <atomic>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "aurora/diagnostics.hpp"
#include "aurora/torch/optimizer.hpp"
#include "model.hpp"

namespace aurora::trainer {

inline constexpr std::array<double, 2> kDeadThresholds = {0.01, 0.1};

/// RMS over all tokens of each neuron's SwiGLU output. activations: [.., neurons].
std::vector<double> activation_rms(const torch::Tensor& activations);

/// Share of neurons whose RMS is below `threshold` times the median over the layer.
double dead_share(std::span<const double> rms, double threshold);

/// exp(entropy of s_i^2 / sum s^2) over the singular values of the [tokens, neurons] matrix, from the
/// eigenvalues of its Gram matrix on the shorter side.
double activation_effective_rank(const torch::Tensor& activations);

/// Of one weight of an MLP along its neurons.
struct MatrixHealth {
  std::array<double, kStarvedThresholds.size()> starved;  // share of neurons, by the momentum's leverage
  std::array<double, kLeverageQuantiles.size()>
      leverage;                // quantiles of leverage / balanced value; 1 is balanced
  double update_row_norm_cv;   // of the direction's norms along the neuron axis; NaN without a direction
  double orthogonality_error;  // max |U'U - I| on the short side; NaN without a direction
};

/// `momentum` and `direction` have the weight's shape; an undefined direction gives NaN.
MatrixHealth matrix_health(Backend& backend, const torch::Tensor& momentum, const torch::Tensor& direction,
                           NeuronAxis axis);

struct LayerHealth {
  Index neurons;
  std::array<double, kDeadThresholds.size()> dead;
  double activation_effective_rank;
  MatrixHealth gate, up, down;
};

/// The directions that the optimizer kept of its last step, by parameter.
std::map<std::string, torch::Tensor> kept_directions(const Model& model,
                                                     const optim::SpectralOptimizer& optimizer);

/// One entry per layer, from a batch of validation text [batch, time + 1], the momentum (exp_avg under AdamW)
/// and the last step's directions by parameter. Nothing where `stop` is set meanwhile.
std::optional<std::vector<LayerHealth>> neuron_health(Model& model, optim::SpectralOptimizer& optimizer,
                                                      const std::map<std::string, torch::Tensor>& directions,
                                                      Backend& backend, const torch::Tensor& tokens,
                                                      bool bf16, const std::atomic<bool>* stop = nullptr);

/// The "neurons" record of the log.
nlohmann::ordered_json neuron_record(const LayerHealth& health, Index step, Index layer);

}  // namespace aurora::trainer
