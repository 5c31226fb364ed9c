#include "neurons.hpp"

#include <cmath>
#include <limits>

namespace aurora::trainer {
namespace {

ConstMatrixView view(const torch::Tensor& matrix) {
  return {.data = matrix.const_data_ptr(),
          .rows = matrix.size(0),
          .cols = matrix.size(1),
          .row_stride = matrix.stride(0),
          .col_stride = matrix.stride(1),
          .dtype = matrix.scalar_type() == torch::kFloat64 ? DType::f64 : DType::f32};
}

/// A vector of float64 on the CPU.
std::vector<double> numbers_in(const torch::Tensor& vector) {
  const auto* begin = vector.const_data_ptr<double>();
  return {begin, begin + vector.numel()};
}

std::string threshold_key(double threshold) { return nlohmann::json(threshold).dump(); }

nlohmann::ordered_json matrix_record(const MatrixHealth& health) {
  nlohmann::ordered_json starved;
  for (std::size_t i = 0; i < kStarvedThresholds.size(); ++i)
    starved[threshold_key(kStarvedThresholds[i])] = health.starved[i];
  return {{"starved", starved},
          {"starved_neurons", health.starved_neurons},
          {"leverage", health.leverage},
          {"update_row_norm_cv", health.update_row_norm_cv},
          {"orthogonality_error", health.orthogonality_error}};
}

}  // namespace

std::vector<double> activation_rms(const torch::Tensor& activations) {
  const auto rms =
      activations.flatten(0, -2).to(torch::kFloat32).square().mean(0).sqrt().to(torch::kFloat64).cpu();
  return numbers_in(rms);
}

double dead_share(std::span<const double> rms, double threshold) {
  return starved_share(rms, quantile(rms, 0.5), threshold);
}

std::vector<Index> indices_below(std::span<const double> values, double bound) {
  std::vector<Index> indices;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] < bound) indices.push_back(static_cast<Index>(i));
  return indices;
}

double activation_effective_rank(const torch::Tensor& activations) {
  auto x = activations.flatten(0, -2).to(torch::kFloat32);
  if (x.size(0) < x.size(1)) x = x.t();
  const auto squares = torch::linalg_eigvalsh(x.t().mm(x)).to(torch::kFloat64).cpu();
  return effective_rank(numbers_in(squares));
}

MatrixHealth matrix_health(Backend& backend, const torch::Tensor& momentum, const torch::Tensor& direction,
                           NeuronAxis axis) {
  const double shorter = static_cast<double>(std::min(momentum.size(0), momentum.size(1)));
  const double balanced = shorter / static_cast<double>(momentum.size(axis == NeuronAxis::rows ? 0 : 1));
  const std::vector<double> leverage = leverage_scores(backend, view(momentum), axis);
  MatrixHealth health{};
  for (std::size_t i = 0; i < kStarvedThresholds.size(); ++i)
    health.starved[i] = starved_share(leverage, balanced, kStarvedThresholds[i]);
  health.starved_neurons = indices_below(leverage, kListedThreshold * balanced);
  for (std::size_t i = 0; i < kLeverageQuantiles.size(); ++i)
    health.leverage[i] = quantile(leverage, kLeverageQuantiles[i]) / balanced;
  health.update_row_norm_cv = health.orthogonality_error = std::numeric_limits<double>::quiet_NaN();
  if (direction.defined()) {
    const ConstMatrixView u = view(direction);
    health.update_row_norm_cv = row_norm_cv(backend, axis == NeuronAxis::rows ? u : transposed(u));
    health.orthogonality_error = orthogonality_error(backend, u).max_abs;
  }
  return health;
}

std::map<std::string, torch::Tensor> kept_directions(const Model& model,
                                                     const optim::SpectralOptimizer& optimizer) {
  std::map<std::string, torch::Tensor> directions;
  for (const auto& parameter : model.named_parameters())
    if (auto direction = optimizer.direction_of(parameter.value()); direction.defined())
      directions[parameter.key()] = std::move(direction);
  return directions;
}

std::optional<std::vector<LayerHealth>> neuron_health(Model& model, optim::SpectralOptimizer& optimizer,
                                                      const std::map<std::string, torch::Tensor>& directions,
                                                      Backend& backend, const torch::Tensor& tokens,
                                                      bool bf16, const std::atomic<bool>* stop) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> activations;
  next_byte_loss(model, tokens, bf16, &activations);
  const auto parameters = model.named_parameters();
  const auto health_of = [&](const std::string& name, NeuronAxis axis) {
    const torch::Tensor& weight = parameters[name];
    const optim::ParameterState& state = optimizer.state_of(weight);
    const auto direction = directions.find(name);
    return matrix_health(backend, state.momentum_buffer.defined() ? state.momentum_buffer : state.exp_avg,
                         direction == directions.end() ? torch::Tensor() : direction->second, axis);
  };
  std::vector<LayerHealth> layers;
  for (std::size_t i = 0; i < activations.size(); ++i) {
    if (stop != nullptr && stop->load()) return {};
    const std::string mlp = "model.layers." + std::to_string(i) + ".mlp.";
    const std::vector<double> rms = activation_rms(activations[i]);
    LayerHealth& health = layers.emplace_back();
    health.neurons = static_cast<Index>(rms.size());
    for (std::size_t t = 0; t < kDeadThresholds.size(); ++t)
      health.dead[t] = dead_share(rms, kDeadThresholds[t]);
    health.dead_neurons = indices_below(rms, kListedThreshold * quantile(rms, 0.5));
    health.activation_effective_rank = activation_effective_rank(activations[i]);
    health.gate = health_of(mlp + "gate_proj.weight", NeuronAxis::rows);
    health.up = health_of(mlp + "up_proj.weight", NeuronAxis::rows);
    health.down = health_of(mlp + "down_proj.weight", NeuronAxis::columns);
  }
  return layers;
}

nlohmann::ordered_json neuron_record(const LayerHealth& health, Index step, Index layer) {
  nlohmann::ordered_json dead;
  for (std::size_t i = 0; i < kDeadThresholds.size(); ++i)
    dead[threshold_key(kDeadThresholds[i])] = health.dead[i];
  return {{"kind", "neurons"},
          {"step", step},
          {"layer", layer},
          {"neurons", health.neurons},
          {"dead", dead},
          {"dead_neurons", health.dead_neurons},
          {"activation_effective_rank", health.activation_effective_rank},
          {"gate", matrix_record(health.gate)},
          {"up", matrix_record(health.up)},
          {"down", matrix_record(health.down)}};
}

}  // namespace aurora::trainer
