#pragma once

#include <torch/optim/optimizer.h>

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "aurora/roles.hpp"
#include "aurora/step.hpp"

namespace torch::nn {
class Module;
}

namespace aurora {
class Collectives;
}

namespace aurora::optim {

/// Options of a parameter group: the rule, one of the six. A group whose rule is AdamWOptions is stepped by
/// AdamW; any other rule takes matrices only. get_lr and set_lr are the rule's lr, so torch's schedulers work
/// on every group.
struct GroupOptions : torch::optim::OptimizerCloneableOptions<GroupOptions> {
  Rule rule = MuonOptions{};
  /// Dimensions of each parameter of the group; empty: default_dimensions for all. AdamW does not look at
  /// them.
  std::vector<Dimensions> dimensions;

  GroupOptions() = default;
  explicit GroupOptions(aurora::Rule group_rule, std::vector<Dimensions> group_dimensions = {})
      : rule(std::move(group_rule)), dimensions(std::move(group_dimensions)) {}
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
  double get_lr() const override;
  /// Throws std::invalid_argument for a rate outside the rule's bounds.
  void set_lr(double lr) override;

 private:
  friend class SpectralOptimizer;
  bool are_defaults_ = false;  // of an optimizer, or cloned from them by torch's add_param_group
};

struct Due;

/// State of one parameter. Undefined tensors do not apply: momentum_buffer for matrix rules, row_state beside
/// it where the rule has one (row_state_name), exp_avg and exp_avg_sq for AdamW. float64 for float64
/// parameters, else float32. A state follows its parameter: after module->to(torch::kDouble), or to another
/// device, the next step converts it, exactly to float64 and rounded to float32; what overflows there throws.
struct ParameterState : torch::optim::OptimizerCloneableParamState<ParameterState> {
  std::int64_t step = 0;      // steps that changed this parameter, if it is not
  torch::Tensor device_step;  // on its device, float32 []: nobody waits for the number
  torch::Tensor momentum_buffer, exp_avg, exp_avg_sq;  // of the parameter's shape
  torch::Tensor row_state;                             // [sum of row_state_size of its matrices, 1]
  void serialize(torch::serialize::InputArchive& archive) override;
  void serialize(torch::serialize::OutputArchive& archive) const override;
  /// Waits for the device's count and keeps it in `step`, from where the next step takes it.
  void settle();
};

/// A torch::optim::Optimizer whose groups may each follow any of the rules. Parameters of one shape in
/// one group are stepped as a batch; at::get_num_threads() is asked at each step. Tensors of float32, float64
/// or bfloat16 on any device: CPU tensors by the core's own backend, others by make_aten_backend, one batch
/// per device. On a device a step of AdamW, Muon, NorMuon, U-NorMuon and Aurora with balance odds does not
/// wait for it.
///
/// A step looks at all gradients of all groups first: one Inf or NaN and neither weights nor state change,
/// and skipped_steps() counts it. Undefined gradients are skipped. Errors are std::invalid_argument that name
/// group, index, shape and rule: sparse gradients, other types and devices, a parameter given twice, and, in
/// a group with a matrix rule, a parameter with fewer than two dimensions or a side of length 1, which
/// belongs to AdamW.
class SpectralOptimizer : public torch::optim::Optimizer {
 public:
  /// A group without options gets `defaults`.
  SpectralOptimizer(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                    std::unique_ptr<GroupOptions> defaults);
  /// The whole model: hidden matrices by `rule` (group 0), everything else by AdamW (group 1), sent there by
  /// routing(). With an AdamW `rule` everything is stepped by `rule`, in one group.
  SpectralOptimizer(const torch::nn::Module& module, Rule rule, AdamWOptions adamw,
                    std::span<const RoutePattern> patterns = {});
  ~SpectralOptimizer() override;

  torch::Tensor step(LossClosure closure = nullptr) override;
  /// torch's add_param_group is not virtual and drops the options of optimizers that it does not know; this
  /// one keeps the group's. A group that came through torch::optim::Optimizer& all the same is refused by the
  /// next step, unless it has been given options since (set_options).
  void add_param_group(const torch::optim::OptimizerParamGroup& group);

  /// Options, state and counters. Loading takes the archive's options, and throws std::invalid_argument, with
  /// nothing changed, where its groups, rules, or the shapes and types of its states are not those of this
  /// optimizer. Saving throws std::logic_error where states are on other ranks: see gather_states.
  void save(torch::serialize::OutputArchive& archive) const override;
  void load(torch::serialize::InputArchive& archive) override;

  /// Steps that changed nothing because a gradient was not finite, ever and in a row until now.
  std::int64_t skipped_steps() const;
  std::int64_t skipped_in_a_row() const;
  /// Puts the counters back, for a caller that keeps state in files of its own.
  void set_skipped_steps(std::int64_t ever, std::int64_t in_a_row);

  /// From here on these ranks step the model together, replicas of which, with equal weights and reduced
  /// gradients, all of them have: each matrix is stepped by its owner, which alone keeps its state, and the
  /// others get the weights. Every rank calls step() the same number of times. Groups are added before. Throws
  /// std::invalid_argument for ranks of which there is one already.
  void share(std::shared_ptr<Collectives> ranks, c10::Device device = c10::kCPU);
  /// On all ranks together: brings the states of all matrices to all of them, for save(), until the next step.
  void gather_states();

  /// How the module's parameters were routed, in module order, and how matrices are computed on the device that
  /// they were on; a parameter with several names appears once, by its first. Empty when made from groups.
  const std::vector<RoutedParameter>& routing() const;

  /// State of a parameter, made if it has none yet; its count is settled.
  ParameterState& state_of(const torch::Tensor& parameter);

  /// Asked in each step on the CPU, after all gradients were looked at, whether weights may change: `agree` gets
  /// whether they are finite here, and may know of other processes where they are not.
  void agree_by(std::function<bool(bool)> agree);

  /// While set, steps copy each matrix parameter's direction (before scaling) for direction_of.
  void keep_directions(bool keep);
  /// The last kept direction, of the parameter's shape and the state's type; undefined if there is none.
  torch::Tensor direction_of(const torch::Tensor& parameter) const;

 private:
  void step_with_ranks(std::vector<Due>& due, const std::function<void()>& collect);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A SpectralOptimizer with the rule in its type:
///   aurora::optim::Aurora optimizer(*model, {.lr = 0.02}, {.lr = 3e-3});   // the whole model
///   aurora::optim::Aurora optimizer(matrices, {.lr = 0.02});               // matrices only
template <class Options>
class RuleOptimizer : public SpectralOptimizer {
 public:
  explicit RuleOptimizer(std::vector<torch::Tensor> parameters, const Options& options = {})
      : SpectralOptimizer({torch::optim::OptimizerParamGroup(std::move(parameters))},
                          std::make_unique<GroupOptions>(options)) {}
  explicit RuleOptimizer(const std::vector<torch::optim::OptimizerParamGroup>& groups,
                         const Options& options = {})
      : SpectralOptimizer(groups, std::make_unique<GroupOptions>(options)) {}
  explicit RuleOptimizer(const torch::nn::Module& module, const Options& options = {},
                         const AdamWOptions& adamw = {}, std::span<const RoutePattern> patterns = {})
      : SpectralOptimizer(module, options, adamw, patterns) {}
};

using AdamW = RuleOptimizer<AdamWOptions>;
using Muon = RuleOptimizer<MuonOptions>;
using NorMuon = RuleOptimizer<NorMuonOptions>;
using UNorMuon = RuleOptimizer<UNorMuonOptions>;
using Aurora = RuleOptimizer<AuroraOptions>;
using RiemannianAurora = RuleOptimizer<RiemannianAuroraOptions>;
using RowNormalized = RuleOptimizer<RowNormalizedOptions>;

}  // namespace aurora::optim
