#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "aurora/balance.hpp"

namespace aurora {

/// The factor between a direction and the update, named by what it keeps constant.
///   aspect_ratio     sqrt(max(1, m/n))       Muon, Aurora
///   rms_to_rms       sqrt(m/n)               dion's "spectral_norm"; shrinks wide matrices
///   match_rms_adamw  0.2 sqrt(max(m, n))     Moonlight
///   none             1
///   published        what the rule's own paper or code uses
enum class UpdateScale : std::uint8_t { aspect_ratio, rms_to_rms, match_rms_adamw, none, published };

/// The factor for an m x n weight. Throws std::invalid_argument for `published`, which no shape alone
/// decides.
double update_scale(UpdateScale scale, Index rows, Index cols);

struct RuleKind;  // what a rule does, see src/rules/kind.hpp

// A rule is its options: flat, made for designated initialisers. Defaults stand here and nowhere else.
// Formula, bounds, meanings, state and direction of a rule stand in src/rules/NAME.cpp.

/// Loshchilov and Hutter, as in torch: decoupled decay, bias correction, eps outside the root.
struct AdamWOptions {
  double lr = 3e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;
  static const RuleKind& kind();
  bool operator==(const AdamWOptions&) const = default;
};

/// U = polar(B). Keller Jordan.
struct MuonOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  Polar polar = Polar::automatic;
  Precision precision = Precision::automatic;
  static const RuleKind& kind();
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
  Polar polar = Polar::automatic;
  Precision precision = Precision::automatic;
  double beta2 = 0.95;
  static const RuleKind& kind();
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
  Polar polar = Polar::automatic;
  Precision precision = Precision::automatic;
  static const RuleKind& kind();
  bool operator==(const UNorMuonOptions&) const = default;
};

/// U = balanced_polar(B).
struct AuroraOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  Polar polar = Polar::automatic;
  Precision precision = Precision::automatic;
  Sides sides = Sides::rows;
  int pp_iterations = 2;
  double pp_beta = 0.5;
  Balance balance = Balance::odds;
  static const RuleKind& kind();
  bool operator==(const AuroraOptions&) const = default;
};

/// U = riemannian_polar(B).
struct RiemannianAuroraOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  Polar polar = Polar::automatic;
  Precision precision = Precision::automatic;
  static const RuleKind& kind();
  bool operator==(const RiemannianAuroraOptions&) const = default;
};

/// U_i = sqrt(min(m, n) / m) B_i / |B_i|: the momentum with even rows and without a polar factor, the cheapest
/// rival of Muon (MuonEq, RMNP). A row of zeros stays zero.
struct RowNormalizedOptions {
  double lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.025;
  UpdateScale scale = UpdateScale::aspect_ratio;
  static const RuleKind& kind();
  bool operator==(const RowNormalizedOptions&) const = default;
};

/// Any rule; its kinds, in this order, are the one table of rules that command, files, Python, C and docs
/// walk.
using Rule = std::variant<AdamWOptions, MuonOptions, NorMuonOptions, UNorMuonOptions, AuroraOptions,
                          RiemannianAuroraOptions, RowNormalizedOptions>;

/// "adamw", "muon", ...
std::string_view name(const Rule& rule);
/// Default options of every rule.
std::vector<Rule> all_rules();
/// Their names, and the rule of a name. Throws std::invalid_argument that lists them, the nearest first, for
/// an unknown one.
std::vector<std::string> rule_names();
Rule rule_of(std::string_view name);
/// "NorMuon": the class of a rule in C++ and Python; one line on what it does, with its source; its formula.
std::string_view class_name(const Rule& rule);
std::string_view meaning(const Rule& rule);
std::string_view formula(const Rule& rule);

/// Whether the rule turns matrices into directions; AdamW, which takes any shape, does not.
bool takes_matrices(const Rule& rule);

/// The value of a hyperparameter: names of enumerations are text.
using HyperparameterValue = std::variant<bool, std::int64_t, double, std::string>;

/// One hyperparameter of a rule, as it stands in given options.
struct Hyperparameter {
  std::string name;     // "lr", "pp_beta", ...
  std::string value;    // shortest text that reads back to the same value: "0.02", "true", "exact"
  std::string rule;     // "a finite number >= 0", "one of auto, exact, keller-jordan-5, ..."
  std::string meaning;  // one phrase
  HyperparameterValue typed;
};
std::vector<Hyperparameter> hyperparameters(const Rule& rule);

/// Sets one hyperparameter from text, or from a value of its type (an integer will do for a number). Throws
/// std::invalid_argument that names the rule, the key, the value and the bounds; for an unknown key it lists
/// the keys that exist, and names the nearest.
void set_hyperparameter(Rule& rule, std::string_view name, std::string_view value);
void set_hyperparameter_value(Rule& rule, std::string_view name, const HyperparameterValue& value);

/// Throws std::invalid_argument naming the first hyperparameter outside its bounds and its value.
void validate(const Rule& rule);

/// The pieces of a variant, "NAME" or "NAME:KEY=VALUE+KEY=VALUE". Throws std::invalid_argument where it is
/// none.
struct Variant {
  std::string name;
  std::vector<std::pair<std::string, std::string>> options;
};
Variant split_variant(std::string_view text);

/// A variant: a name with options, "aurora:pp_iterations=3+pp_beta=0.25+balance=release",
/// "adamw:betas=0.9,0.95".
Rule parse_variant(std::string_view text);

/// Options that every rule has: the learning rate and the decay.
double lr_of(const Rule& rule);
double weight_decay_of(const Rule& rule);

/// The update scale of a matrix rule, `published` resolved, and its name. Throws for AdamW.
UpdateScale applied_scale(const Rule& rule);
std::string applied_scale_name(const Rule& rule);

/// Name of the vector of state beside the momentum ("second_momentum_buffer"), or empty where the rule has
/// none.
std::string_view row_state_name(const Rule& rule);
/// Length of that state for a rows x cols weight: rows for NorMuon, the longer side for carried scales, 0 for
/// the others.
Index row_state_size(const Rule& rule, Index rows, Index cols);

/// About the floating point operations of one step of a rows x cols weight: the rule's polar factors and
/// leverage evaluations, a wide matrix as its transpose, and the passes over elements. What ranks share their
/// matrices by.
double step_cost(const Rule& rule, Index rows, Index cols, Device device = Device::cpu);

/// How a rule computes directions of this type on a device, `automatic` resolved: "exact polar factors",
/// "polar-express-7 in float16".
std::string method_text(const Rule& rule, Device device, DType dtype = DType::f32);

/// direction <- the rule's direction for a blended gradient (or batch) of the same shape, float32 or float64.
/// `row_state`: row_state_size x 1 for each matrix, the rule's memory from step to step, updated; none where
/// the size is 0. Throws std::invalid_argument where shapes, types or memory do not fit, for AdamW, and where
/// an exact factor meets an Inf or NaN.
void direction(Backend& backend, const Rule& rule, ConstMatrixView blended, MatrixView direction,
               MatrixView row_state = {});

/// The entry of `candidates` with the least edit distance to `text`.
std::string nearest(std::string_view text, std::span<const std::string> candidates);

}  // namespace aurora
