#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "aurora/balance.hpp"
#include "aurora/step.hpp"

namespace aurora {

// Options of the six optimizers: flat, made for designated initialisers. Defaults stand here and nowhere
// else; bounds and meanings stand in the list of hyperparameters in optimizers.cpp, which validation, command
// line and files walk.

/// Loshchilov and Hutter, as in torch: decoupled decay, bias correction, eps outside the root.
struct AdamWOptions {
  double lr = 3e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;
  bool operator==(const AdamWOptions&) const = default;
};

/// U = polar(B). Keller Jordan.
struct MuonOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  PolarSchedule polar = kExact;
  bool operator==(const MuonOptions&) const = default;
};

/// O = polar(B); v_i <- beta2 v_i + (1 - beta2) mean_j O_ij^2; U = diag(v)^-1/2 O, rescaled to |O|_F. Every
/// matrix. arXiv 2510.05491, in the form of its code. No eps: a row of zeros stays zero. `published` scale:
/// the paper's, an update of RMS 0.2 (match_rms_adamw).
struct NorMuonOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  PolarSchedule polar = kExact;
  double beta2 = 0.95;
  bool operator==(const NorMuonOptions&) const = default;
};

/// Tall matrices: each row of polar(B) brought to length sqrt(n/m), without memory; others: polar(B).
/// `published` scale: none, that is a step sqrt(m/n) times smaller on tall matrices.
struct UNorMuonOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  PolarSchedule polar = kExact;
  bool operator==(const UNorMuonOptions&) const = default;
};

/// U = balanced_polar(B).
struct AuroraOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  PolarSchedule polar = kExact;
  Sides sides = Sides::rows;
  int pp_iterations = 2;
  double pp_beta = 0.5;
  Balance balance = Balance::odds;
  bool operator==(const AuroraOptions&) const = default;
};

/// U = riemannian_polar(B).
struct RiemannianAuroraOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  PolarSchedule polar = kExact;
  bool operator==(const RiemannianAuroraOptions&) const = default;
};

// The directions, one small struct each.
struct MuonDirection {
  PolarSchedule polar;
  void operator()(Backend&, ConstMatrixView blended, std::span<const MatrixView> row_states,
                  MatrixView direction) const;
};
struct NorMuonDirection {
  PolarSchedule polar;
  double beta2;
  void operator()(Backend&, ConstMatrixView blended, std::span<const MatrixView> row_states,
                  MatrixView direction) const;
};
struct UNorMuonDirection {
  PolarSchedule polar;
  void operator()(Backend&, ConstMatrixView blended, std::span<const MatrixView> row_states,
                  MatrixView direction) const;
};
struct AuroraDirection {
  BalanceOptions options;
  void operator()(Backend&, ConstMatrixView blended, std::span<const MatrixView> row_states,
                  MatrixView direction) const;
};
struct RiemannianAuroraDirection {
  RiemannianOptions options;
  void operator()(Backend&, ConstMatrixView blended, std::span<const MatrixView> row_states,
                  MatrixView direction) const;
};

inline MuonDirection direction_of(const MuonOptions& o) { return {o.polar}; }
inline NorMuonDirection direction_of(const NorMuonOptions& o) { return {o.polar, o.beta2}; }
inline UNorMuonDirection direction_of(const UNorMuonOptions& o) { return {o.polar}; }
inline AuroraDirection direction_of(const AuroraOptions& o) {
  return {{.sides = o.sides,
           .balance = o.balance,
           .pp_iterations = o.pp_iterations,
           .pp_beta = o.pp_beta,
           .polar = o.polar}};
}
inline RiemannianAuroraDirection direction_of(const RiemannianAuroraOptions& o) {
  return {{.polar = o.polar}};
}

/// What `scale = published` stands for.
constexpr UpdateScale published_scale(const MuonOptions&) { return UpdateScale::aspect_ratio; }
constexpr UpdateScale published_scale(const NorMuonOptions&) { return UpdateScale::match_rms_adamw; }
constexpr UpdateScale published_scale(const UNorMuonOptions&) { return UpdateScale::none; }
constexpr UpdateScale published_scale(const AuroraOptions&) { return UpdateScale::aspect_ratio; }
constexpr UpdateScale published_scale(const RiemannianAuroraOptions&) { return UpdateScale::aspect_ratio; }

template <class Options>
concept MatrixOptions = requires(const Options& o) {
  direction_of(o);
  published_scale(o);
};

/// The options of the pipeline, `published` resolved.
template <MatrixOptions Options>
StepOptions step_options(const Options& o) {
  return {o.lr, o.momentum, o.nesterov, o.weight_decay,
          o.scale == UpdateScale::published ? published_scale(o) : o.scale};
}

// One step for a group of weights of one shape; see spectral_step for errors. NorMuon's row states are its
// second moments v (rows x 1); the other rules take none.
StepReport muon_step(Backend& backend, const MuonOptions& options, const StepTensors& tensors);
StepReport normuon_step(Backend& backend, const NorMuonOptions& options, const StepTensors& tensors);
StepReport unormuon_step(Backend& backend, const UNorMuonOptions& options, const StepTensors& tensors);
StepReport aurora_step(Backend& backend, const AuroraOptions& options, const StepTensors& tensors);
StepReport riemannian_aurora_step(Backend& backend, const RiemannianAuroraOptions& options,
                                  const StepTensors& tensors);

/// Tensors of any shapes, one view per parameter in each span; states float32 or float64.
struct AdamWTensors {
  std::span<const ConstMatrixView> gradients;
  std::span<const MatrixView> exp_avgs;
  std::span<const MatrixView> exp_avg_sqs;
  std::span<const MatrixView> weights;
};

/// Step number `step` (1 is the first) of AdamW:
///   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
///   w <- (1 - lr weight_decay) w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
/// One Inf or NaN in any gradient and nothing changes.
StepReport adamw_step(Backend& backend, const AdamWOptions& options, std::int64_t step,
                      const AdamWTensors& tensors);
/// The same without the look at the gradients.
void adamw_update(Backend& backend, const AdamWOptions& options, std::int64_t step,
                  const AdamWTensors& tensors);

// The six by name: what files, command lines and other languages use.

/// One of the six. Its alternatives are in the order of kOptimizerNames.
using OptimizerOptions = std::variant<AdamWOptions, MuonOptions, NorMuonOptions, UNorMuonOptions,
                                      AuroraOptions, RiemannianAuroraOptions>;

inline constexpr std::array<std::string_view, 6> kOptimizerNames = {
    "adamw", "muon", "normuon", "u-normuon", "aurora", "riemannian-aurora"};

/// "adamw", "muon", ...
std::string_view name(const OptimizerOptions& options);
/// Default options. Throws std::invalid_argument that lists the names, the nearest first, for an unknown one.
OptimizerOptions optimizer_options(std::string_view name);

/// One entry of the list of hyperparameters, as it stands in given options.
struct Hyperparameter {
  std::string name;     // "lr", "pp_beta", ...
  std::string value;    // shortest text that reads back to the same value: "0.02", "true", "exact"
  std::string rule;     // "a finite number >= 0", "one of exact, keller-jordan-5, ..."
  std::string meaning;  // one phrase
};
std::vector<Hyperparameter> hyperparameters(const OptimizerOptions& options);

/// Sets one hyperparameter from text. Throws std::invalid_argument that names the optimizer, the key, the
/// value and the rule; for an unknown key it lists the keys that exist, and names the nearest.
void set_hyperparameter(OptimizerOptions& options, std::string_view name, std::string_view value);

/// Throws std::invalid_argument naming the first hyperparameter outside its bounds and its value.
void validate(const OptimizerOptions& options);

/// A variant: a name with options, "aurora:pp_iterations=3+pp_beta=0.25".
OptimizerOptions parse_variant(std::string_view text);

/// Name of the vector of state beside the momentum ("second_momentum_buffer"), or empty where the rule has
/// none.
std::string_view row_state_name(const OptimizerOptions& options);

/// Length of that state for a rows x cols weight: rows for NorMuon, the longer side for carried scales, 0 for
/// the others.
Index row_state_size(const OptimizerOptions& options, Index rows, Index cols);

/// The entry of `candidates` with the least edit distance to `text`.
std::string nearest(std::string_view text, std::span<const std::string> candidates);

}  // namespace aurora
