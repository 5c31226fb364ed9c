#include "aurora/torch/optimizer.hpp"

#include <ATen/core/grad_mode.h>
#include <torch/serialize/input-archive.h>
#include <torch/serialize/output-archive.h>

#include <string>
#include <unordered_map>
#include <unordered_set>

#include "aurora/torch/step.hpp"
#include "module_routing.hpp"
#include "place_error.hpp"

namespace aurora::optim {
namespace {

using at::Tensor;
using torch::optim::OptimizerParamGroup;

bool is_adamw(const Rule& rule) { return std::holds_alternative<AdamWOptions>(rule); }

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

template <class State, class Visit>
void for_each_tensor(State& state, Visit&& visit) {
  visit("momentum_buffer", state.momentum_buffer);
  visit("row_state", state.row_state);
  visit("exp_avg", state.exp_avg);
  visit("exp_avg_sq", state.exp_avg_sq);
}

std::int64_t read_count(torch::serialize::InputArchive& archive, const std::string& key) {
  c10::IValue value;
  if (!archive.try_read(key, value) || !value.isInt()) fail("optim", "The archive lacks the number ", key);
  return value.toInt();
}

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

void GroupOptions::serialize(torch::serialize::OutputArchive& archive) const {
  archive.write("rule", c10::IValue(std::string(name(rule))));
  c10::List<std::string> values;
  for (const auto& hyperparameter : hyperparameters(rule)) {
    values.push_back(hyperparameter.name + "=" + hyperparameter.value);
  }
  archive.write("hyperparameters", c10::IValue(values));
  // Per parameter: the four lengths, then the four lists; and how often the blocks repeat.
  c10::List<std::int64_t> numbers, all_repeats;
  for (const auto& [batch, rows, cols, row_blocks, repeats] : dimensions) {
    all_repeats.push_back(repeats);
    for (const auto length : {batch.size(), rows.size(), cols.size(), row_blocks.size()}) {
      numbers.push_back(static_cast<std::int64_t>(length));
    }
    for (const auto* axes : {&batch, &rows, &cols}) {
      for (const int axis : *axes) numbers.push_back(axis);
    }
    for (const Index block : row_blocks) numbers.push_back(block);
  }
  archive.write("dimensions", c10::IValue(numbers));
  archive.write("repeats", c10::IValue(all_repeats));
}

void GroupOptions::serialize(torch::serialize::InputArchive& archive) {
  c10::IValue rule_name, values, numbers;
  archive.read("rule", rule_name);
  archive.read("hyperparameters", values);
  archive.read("dimensions", numbers);

  Rule read_rule = rule_of(rule_name.toStringRef());
  for (const auto& value : values.toListRef()) {
    const std::string& text = value.toStringRef();
    const auto equals = text.find('=');
    if (equals == std::string::npos) fail("optim", "A saved hyperparameter is not name=value: ", text);
    set_hyperparameter(read_rule, text.substr(0, equals), text.substr(equals + 1));
  }

  std::vector<Dimensions> read_dimensions;
  const std::vector<std::int64_t> all = numbers.toIntVector();
  for (std::size_t at = 0; at < all.size();) {
    const auto take = [&](std::size_t count) {
      if (count > all.size() - at) fail("optim", "Saved dimensions end early: ", all.size(), " numbers");
      at += count;
      return std::span(all).subspan(at - count, count);
    };
    const auto lengths = take(4);
    const auto axes = [&](std::size_t which) {
      std::vector<int> list;
      for (const auto axis : take(static_cast<std::size_t>(lengths[which])))
        list.push_back(static_cast<int>(axis));
      return list;
    };
    Dimensions& read = read_dimensions.emplace_back();
    read.batch = axes(0);
    read.rows = axes(1);
    read.cols = axes(2);
    const auto blocks = take(static_cast<std::size_t>(lengths[3]));
    read.row_blocks.assign(blocks.begin(), blocks.end());
  }
  c10::IValue repeats;
  if (archive.try_read("repeats", repeats)) {  // older archives have none
    const std::vector<std::int64_t> counts = repeats.toIntVector();
    if (counts.size() != read_dimensions.size()) {
      fail("optim", "Saved dimensions need one number of repeats each: ", counts.size(), " for ",
           read_dimensions.size());
    }
    for (std::size_t i = 0; i < counts.size(); ++i) read_dimensions[i].repeats = counts[i];
  }
  rule = std::move(read_rule);
  dimensions = std::move(read_dimensions);
}

double GroupOptions::get_lr() const { return lr_of(rule); }

void GroupOptions::set_lr(double lr) { set_hyperparameter_value(rule, "lr", lr); }

void ParameterState::serialize(torch::serialize::OutputArchive& archive) const {
  ParameterState settled = *this;
  settled.settle();
  archive.write("step", c10::IValue(settled.step));
  for_each_tensor(*this, [&](const char* key, const Tensor& tensor) {
    // From the host: who loads may have another device.
    if (tensor.defined()) archive.write(key, tensor.cpu(), /*is_buffer=*/true);
  });
}

void ParameterState::settle() {
  if (!device_step.defined()) return;
  step = static_cast<std::int64_t>(device_step.item<double>());
  device_step.reset();
}

void ParameterState::serialize(torch::serialize::InputArchive& archive) {
  step = read_count(archive, "step");
  device_step.reset();
  for_each_tensor(*this, [&](const char* key, Tensor& tensor) {
    if (!archive.try_read(key, tensor, /*is_buffer=*/true)) tensor.reset();
  });
}

struct SpectralOptimizer::Impl {
  Backends backends;
  SkippedSteps skipped;
  std::vector<RoutedParameter> routing;
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
    if (matrix) dimensions.push_back(*routing[i].dimensions);
  }
  add_param_group({std::move(by_rule), std::make_unique<GroupOptions>(rule, std::move(dimensions))});
  if (!is_adamw(rule)) add_param_group({std::move(by_adamw), std::make_unique<GroupOptions>(adamw)});
  impl_->routing = std::move(routing);
}

SpectralOptimizer::~SpectralOptimizer() = default;

void SpectralOptimizer::add_param_group(const OptimizerParamGroup& group) {
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
  Optimizer::add_param_group(added);
  param_groups_.back().set_options(std::make_unique<GroupOptions>(options));
}

Tensor SpectralOptimizer::step(LossClosure closure) {
  Tensor loss;
  if (closure != nullptr) {
    const at::AutoGradMode with_gradients(true);
    loss = closure();
  }
  const at::NoGradGuard no_gradients;

  std::vector<Due> due;
  for (std::size_t g = 0; g < param_groups_.size(); ++g) {
    const GroupOptions& options = options_of(param_groups_[g]);
    validate(options.rule);
    const auto& parameters = param_groups_[g].params();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Place place{parameters[i], options, g, i};
      require_steppable(place);
      Tensor gradient = gradient_of(place);
      if (gradient.defined() && gradient.numel() > 0) due.push_back({place, std::move(gradient)});
    }
  }

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
