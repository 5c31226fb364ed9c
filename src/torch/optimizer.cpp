#include "aurora/torch/optimizer.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <torch/serialize/input-archive.h>
#include <torch/serialize/output-archive.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "archive.hpp"
#include "aurora/torch/ranks.hpp"
#include "aurora/torch/step.hpp"
#include "module_routing.hpp"
#include "place_error.hpp"
#include "views.hpp"

namespace aurora::optim {
namespace {

using at::Tensor;
using torch::optim::OptimizerParamGroup;

GroupOptions& options_of(OptimizerParamGroup& group) {
  auto* options = dynamic_cast<GroupOptions*>(&group.options());
  if (options == nullptr) fail("optim", "Options of a group must be aurora::optim::GroupOptions");
  return *options;
}

using StateMap = ska::flat_hash_map<void*, std::unique_ptr<torch::optim::OptimizerParamState>>;

/// The state of a parameter, made if it has none yet.
ParameterState& state_at(StateMap& states, const Place& place) {
  auto& state = states[place.parameter.unsafeGetTensorImpl()];
  if (state == nullptr) state = std::make_unique<ParameterState>();
  auto& own = dynamic_cast<ParameterState&>(*state);
  complete_state(place, own);
  return own;
}

constexpr const char* kArchiveFormat = "aurora-optimizer-1";

void require_equal_count(const std::string& what, std::int64_t saved, std::size_t own) {
  if (saved != static_cast<std::int64_t>(own)) {
    fail("optim", "The archive has another number of ", what, ": ", saved, " vs ", own);
  }
}

/// Fills the tensors that the rule of `place` needs, in their own strides.
void copy_tensors(const Place& place, const ParameterState& saved, ParameterState& state) {
  std::vector<const Tensor*> from;
  for_each_tensor(saved, [&](const char*, const Tensor& tensor) { from.push_back(&tensor); });
  std::size_t next = 0;
  for_each_tensor(state, [&](const char* key, Tensor& to) {
    const Tensor& tensor = *from[next++];
    if (!to.defined()) return;
    if (!tensor.defined()) fail_at(place, "The archive has no ", key);
    if (tensor.sizes() != to.sizes() || tensor.scalar_type() != to.scalar_type()) {
      fail_at(place, "The archive has another ", key, ": ", tensor.scalar_type(), " ", tensor.sizes(), " vs ",
              to.scalar_type(), " ", to.sizes());
    }
    to.copy_(tensor);
  });
}

}  // namespace

struct SpectralOptimizer::Impl {
  Backends backends;
  SkippedSteps skipped;
  std::vector<RoutedParameter> routing;
  Ranks ranks;  // where `collectives` is set
  std::unordered_map<const void*, Share> shares;
  bool has_all_states = true;
  std::int64_t steps = 0;
  std::function<bool(bool)> agree;
  bool keep_directions = false;
  std::unordered_map<const void*, Tensor> kept_directions;

  Tensor direction_of(const Tensor& parameter) {
    Tensor& direction = kept_directions[parameter.unsafeGetTensorImpl()];
    if (!direction.defined()) direction = state_like(parameter);
    return direction;
  }
};

SpectralOptimizer::SpectralOptimizer(const std::vector<OptimizerParamGroup>& groups,
                                     std::unique_ptr<GroupOptions> defaults)
    // The base would call its own add_param_group, so it gets no groups.
    : Optimizer(std::vector<OptimizerParamGroup>{}, std::move(defaults)), impl_(std::make_unique<Impl>()) {
  static_cast<GroupOptions&>(*defaults_).are_defaults_ = true;
  for (const auto& group : groups) add_param_group(group);
}

SpectralOptimizer::SpectralOptimizer(const torch::nn::Module& module, Rule rule, AdamWOptions adamw,
                                     std::span<const RoutePattern> patterns)
    : SpectralOptimizer({}, std::make_unique<GroupOptions>(rule)) {
  auto [parameters, routing] = routed(module, patterns);
  std::vector<Tensor> by_rule, by_adamw;
  std::vector<Dimensions> dimensions;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const bool matrix = !is_adamw(rule) && routing[i].route == Route::matrix;
    (is_adamw(rule) || matrix ? by_rule : by_adamw).push_back(parameters[i]);
    if (!matrix) continue;
    dimensions.push_back(*routing[i].dimensions);
    routing[i].method = method_text(rule, parameters[i]);
  }
  add_param_group({std::move(by_rule), std::make_unique<GroupOptions>(rule, std::move(dimensions))});
  if (!is_adamw(rule)) add_param_group({std::move(by_adamw), std::make_unique<GroupOptions>(adamw)});
  impl_->routing = std::move(routing);
}

SpectralOptimizer::~SpectralOptimizer() = default;

void SpectralOptimizer::add_param_group(const OptimizerParamGroup& group) {
  if (impl_->ranks.collectives != nullptr) fail("optim", "Groups are added before share");
  OptimizerParamGroup added = group;
  if (!added.has_options()) added.set_options(defaults_->clone());
  const GroupOptions& options = options_of(added);
  validate(options.rule);
  std::unordered_set<const void*> known;
  for (const auto& other : param_groups_) {
    for (const auto& parameter : other.params()) known.insert(parameter.unsafeGetTensorImpl());
  }
  for (std::size_t i = 0; i < added.params().size(); ++i) {
    const Place place{added.params()[i], options, param_groups_.size(), i};
    require_steppable(place);
    if (!known.insert(place.parameter.unsafeGetTensorImpl()).second)
      fail_at(place, "A parameter is given twice");
  }
  if (!options.dimensions.empty() && options.dimensions.size() != added.params().size()) {
    fail("optim",
         "A group needs the dimensions of all its parameters or of none: ", options.dimensions.size(),
         " for ", added.params().size());
  }
  auto own = std::make_unique<GroupOptions>(options);
  own->are_defaults_ = false;
  Optimizer::add_param_group(added);
  param_groups_.back().set_options(std::move(own));
}

Tensor SpectralOptimizer::step(LossClosure closure) {
  Tensor loss;
  if (closure != nullptr) {
    const at::AutoGradMode with_gradients(true);
    loss = closure();
  }
  const at::NoGradGuard no_gradients;

  std::vector<Due> due;
  const auto collect = [&] {
    for (std::size_t g = 0; g < param_groups_.size(); ++g) {
      const GroupOptions& options = options_of(param_groups_[g]);
      if (options.are_defaults_) {
        fail("optim",
             "torch::optim::Optimizer::add_param_group drops the options of a group; call the one of "
             "aurora::optim::SpectralOptimizer: group ",
             g);
      }
      validate(options.rule);
      const auto& parameters = param_groups_[g].params();
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const Place place{parameters[i], options, g, i};
        require_steppable(place);
        Tensor gradient = gradient_of(place);
        if (gradient.defined() && gradient.numel() > 0) due.push_back({place, std::move(gradient)});
      }
    }
  };
  if (impl_->ranks.collectives != nullptr) {
    step_with_ranks(due, collect);
    return loss;
  }
  collect();
  StepGate gate = look_at_gradients(impl_->backends, due);
  if (impl_->agree && !gate.on_device.defined()) gate.open = impl_->agree(gate.open);
  step_all(impl_->backends, impl_->skipped, std::move(gate), due, [&](std::size_t i) {
    if (impl_->keep_directions && !is_adamw(due[i].place.options.rule)) {
      due[i].direction = impl_->direction_of(due[i].place.parameter);
    }
    return &state_at(state_, due[i].place);
  });
  return loss;
}

void SpectralOptimizer::step_with_ranks(std::vector<Due>& due, const std::function<void()>& collect) {
  Verdict verdict{.step = impl_->steps++};
  StepGate gate;
  std::vector<SharedDue> shared;
  try {
    collect();
    gate = look_at_gradients(impl_->backends, due);
    for (Due& each : due) {
      SharedDue& added = shared.emplace_back(SharedDue{each, nullptr, &impl_->ranks});
      added.share = &impl_->shares[each.place.parameter.unsafeGetTensorImpl()];
      if (!added.is_here()) {
        state_.erase(each.place.parameter.unsafeGetTensorImpl());  // what gather_states or load left
      } else if (gate.open) {
        each.state = added.due.state = &state_at(state_, each.place);
      }
    }
    std::vector<Due> here;
    for (const Due& each : due) {
      if (each.state != nullptr) here.push_back(each);
    }
    look_at_momenta(impl_->backends, here, gate);
  } catch (const std::exception& error) {
    verdict.error = error.what();
    shared.clear();
  }
  verdict.finite = gate.open && (!gate.on_device.defined() || gate.on_device.item<bool>());
  const std::vector<Ranks*> groups = {&impl_->ranks};
  gate = {.open = agree(groups, shared, verdict)};
  impl_->skipped.count(gate);
  if (gate.open) step_shared(impl_->backends, groups, shared, verdict.step);
  impl_->has_all_states = false;
}

void SpectralOptimizer::share(std::shared_ptr<Collectives> ranks, c10::Device device) {
  if (impl_->ranks.collectives != nullptr) fail("optim", "This optimizer has its ranks already");
  std::vector<const void*> matrices;
  std::vector<double> costs;
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    const GroupOptions& options = options_of(param_groups_[g]);
    const auto& parameters = param_groups_[g].params();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      Share& share = impl_->shares[parameters[i].unsafeGetTensorImpl()];
      share.replicated = true;
      if (is_adamw(options.rule)) continue;
      share.kind = Share::Kind::owned;
      matrices.push_back(parameters[i].unsafeGetTensorImpl());
      double cost = 0;
      for (const auto& [rows, cols] : matrices_at({parameters[i], options, g, i})) {
        cost += step_cost(options.rule, rows, cols, device.is_cpu() ? Device::cpu : Device::accelerator);
      }
      costs.push_back(cost);
    }
  }
  const std::vector<int> owners = assign_owners(costs, ranks->size());
  for (std::size_t i = 0; i < matrices.size(); ++i) impl_->shares[matrices[i]].owner = owners[i];
  impl_->ranks.collectives = std::move(ranks);
  impl_->ranks.device = device;
}

void SpectralOptimizer::gather_states() {
  const at::NoGradGuard no_gradients;
  if (impl_->ranks.collectives == nullptr) return;
  Collectives& ranks = *impl_->ranks.collectives;
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    const auto& parameters = param_groups_[g].params();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Place place{parameters[i], options_of(param_groups_[g]), g, i};
      const Share& share = impl_->shares[parameters[i].unsafeGetTensorImpl()];
      if (share.kind != Share::Kind::owned) continue;
      // A parameter that was never stepped gets a state of zeros, which is what it means.
      ParameterState& state = state_at(state_, place);
      state.settle();
      const auto send = [&](Tensor& tensor) {
        if (!tensor.defined()) return;
        Tensor row = tensor.contiguous();
        MatrixView view = flat(row);
        ranks.broadcast(view, share.owner);
        tensor.copy_(row);
      };
      send(state.momentum_buffer);
      send(state.row_state);
      Tensor steps = at::full({1}, static_cast<double>(state.step),
                              at::TensorOptions(impl_->ranks.device).dtype(at::kDouble));
      ranks.broadcast(flat(steps), share.owner);
      state.step = static_cast<std::int64_t>(steps.item<double>());
    }
  }
  impl_->has_all_states = true;
}

ParameterState& SpectralOptimizer::state_of(const Tensor& parameter) {
  const at::NoGradGuard no_gradients;
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    const auto& parameters = param_groups_[g].params();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (!parameters[i].is_same(parameter)) continue;
      ParameterState& state = state_at(state_, {parameter, options_of(param_groups_[g]), g, i});
      state.settle();
      return state;
    }
  }
  fail("optim", "A parameter is in no group of this optimizer: shape ", parameter.sizes());
}

void SpectralOptimizer::save(torch::serialize::OutputArchive& archive) const {
  if (!impl_->has_all_states) {
    throw std::logic_error(
        "[aurora::optim] States are on the ranks that own them: gather_states() on all of them");
  }
  archive.write("format", c10::IValue(kArchiveFormat));
  archive.write("skipped_steps", c10::IValue(impl_->skipped.ever()));
  archive.write("skipped_in_a_row", c10::IValue(impl_->skipped.in_a_row()));
  archive.write("groups", c10::IValue(static_cast<std::int64_t>(param_groups_.size())));
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    torch::serialize::OutputArchive group(archive.compilation_unit()), options(archive.compilation_unit());
    param_groups_[g].options().serialize(options);
    group.write("options", options);
    const auto& parameters = param_groups_[g].params();
    group.write("parameters", c10::IValue(static_cast<std::int64_t>(parameters.size())));
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const auto found = state_.find(parameters[i].unsafeGetTensorImpl());
      if (found == state_.end()) continue;
      torch::serialize::OutputArchive state(archive.compilation_unit());
      found->second->serialize(state);
      group.write("state" + std::to_string(i), state);
    }
    archive.write("group" + std::to_string(g), group);
  }
}

void SpectralOptimizer::load(torch::serialize::InputArchive& archive) {
  const at::NoGradGuard no_gradients;
  c10::IValue format;
  if (!archive.try_read("format", format) || !format.isString() || format.toStringRef() != kArchiveFormat) {
    fail("optim", "The archive was not saved by an optimizer of aurora::optim");
  }
  const auto skipped = read_count(archive, "skipped_steps");
  const auto skipped_now = read_count(archive, "skipped_in_a_row");
  require_equal_count("groups", read_count(archive, "groups"), param_groups_.size());

  std::vector<GroupOptions> options(param_groups_.size());
  StateMap states;
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    torch::serialize::InputArchive group, group_options;
    archive.read("group" + std::to_string(g), group);
    group.read("options", group_options);
    options[g].serialize(group_options);
    const auto& rule = options_of(param_groups_[g]).rule;
    if (rule.index() != options[g].rule.index()) {
      fail("optim", "The archive has another rule for group ", g, ": ", name(options[g].rule), " vs ",
           name(rule));
    }
    const auto& parameters = param_groups_[g].params();
    require_equal_count("parameters in group " + std::to_string(g), read_count(group, "parameters"),
                        parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Place place{parameters[i], options[g], g, i};
      require_steppable(place);
      torch::serialize::InputArchive state;
      if (!group.try_read("state" + std::to_string(i), state)) continue;
      ParameterState saved;
      saved.serialize(state);
      ParameterState& made = state_at(states, place);
      made.step = saved.step;
      copy_tensors(place, saved, made);
    }
  }

  for (std::size_t g = 0; g < param_groups_.size(); ++g) options_of(param_groups_[g]) = std::move(options[g]);
  state_ = std::move(states);
  set_skipped_steps(skipped, skipped_now);
}

std::int64_t SpectralOptimizer::skipped_steps() const { return impl_->skipped.ever(); }
std::int64_t SpectralOptimizer::skipped_in_a_row() const { return impl_->skipped.in_a_row(); }
void SpectralOptimizer::set_skipped_steps(std::int64_t ever, std::int64_t in_a_row) {
  impl_->skipped.set(ever, in_a_row);
}

void SpectralOptimizer::agree_by(std::function<bool(bool)> agree) { impl_->agree = std::move(agree); }

const std::vector<RoutedParameter>& SpectralOptimizer::routing() const { return impl_->routing; }

void SpectralOptimizer::keep_directions(bool keep) { impl_->keep_directions = keep; }

Tensor SpectralOptimizer::direction_of(const Tensor& parameter) const {
  const auto found = impl_->kept_directions.find(parameter.unsafeGetTensorImpl());
  return found == impl_->kept_directions.end() ? Tensor() : found->second;
}

}  // namespace aurora::optim
