#include "ranks.hpp"

#include <cmath>
#include <cstring>

#include "run_folder.hpp"

namespace aurora::trainer {
namespace {

using torch::Tensor;

MatrixView view(const Tensor& vector) {
  TORCH_CHECK(vector.is_contiguous() && vector.is_cpu(), "ranks exchange packed vectors on the CPU");
  const auto count = static_cast<Index>(vector.numel());
  return vector.scalar_type() == torch::kDouble ? packed(vector.data_ptr<double>(), count)
                                                : packed(vector.data_ptr<float>(), count);
}

template <class View>
std::vector<View> views(const std::vector<Tensor>& vectors) {
  std::vector<View> all;
  for (const Tensor& vector : vectors) all.push_back(view(vector));
  return all;
}

/// All elements of the tensors, one after the other.
Tensor joined(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> flat;
  for (const Tensor& tensor : tensors) flat.push_back(tensor.detach().reshape({-1}));
  return flat.empty() ? torch::empty({0}) : torch::cat(flat);
}

/// Copies a joined vector into the tensors again.
void split_into(const Tensor& vector, const std::vector<Tensor>& tensors) {
  const torch::NoGradGuard no_grad;
  Index begin = 0;
  for (const Tensor& tensor : tensors) {
    tensor.copy_(vector.narrow(0, begin, tensor.numel()).view_as(tensor));
    begin += tensor.numel();
  }
}

const Rule& rule_of(optim::SpectralOptimizer& optimizer, const Tensor& parameter) {
  for (auto& group : optimizer.param_groups())
    for (const Tensor& member : group.params())
      if (member.is_same(parameter)) return static_cast<optim::GroupOptions&>(group.options()).rule;
  TORCH_CHECK(false, "a parameter is in no group");
}

}  // namespace

Ranks::Ranks(Collectives* engine, const Model& model, optim::SpectralOptimizer& optimizer, bool ordered)
    : engine_(engine), optimizer_(&optimizer), ordered_(ordered) {
  if (engine != nullptr && engine->size() == 1) engine_ = nullptr;
  std::vector<double> costs;
  for (const auto& parameter : model.named_parameters()) {
    const Rule& rule = rule_of(optimizer, parameter.value());
    const Tensor& value = parameter.value();
    costs.push_back(value.dim() == 2 ? step_cost(rule, value.size(0), value.size(1))
                                     : step_cost(rule, value.numel(), 1));
    parameters_.push_back({.name = parameter.key(),
                           .value = value,
                           .owner = 0,
                           .is_matrix = !std::holds_alternative<AdamWOptions>(rule)});
  }
  const std::vector<int> owners = assign_owners(costs, size());
  for (std::size_t i = 0; i < owners.size(); ++i) parameters_[i].owner = owners[i];
  if (engine_ == nullptr) return;
  // Nobody steps where one rank has an Inf or NaN.
  optimizer.agree_by([this](bool here) { return all(here); });
}

bool Ranks::any(bool here) const {
  if (engine_ == nullptr) return here;
  float none = here ? 0 : 1;
  engine_->all_reduce(packed(&none, 1), Reduction::minimum);
  return none == 0;
}

void Ranks::share_numbers(std::span<std::int64_t> numbers, int root) const {
  if (engine_ == nullptr) return;
  static_assert(sizeof(double) == sizeof(std::int64_t));
  std::vector<double> bits(numbers.size());  // exchanges move them as they are
  std::memcpy(bits.data(), numbers.data(), numbers.size_bytes());
  engine_->broadcast(packed(bits.data(), std::ssize(bits)), root);
  std::memcpy(numbers.data(), bits.data(), numbers.size_bytes());
}

std::string Ranks::text_of(int root, const std::string& own) const {
  std::int64_t length = std::ssize(own);
  share_numbers({&length, 1}, root);
  const auto bytes = static_cast<std::size_t>(length);
  std::vector<float> words((bytes + sizeof(float) - 1) / sizeof(float));
  if (rank() == root) own.copy(reinterpret_cast<char*>(words.data()), bytes);
  engine_->broadcast(packed(words.data(), std::ssize(words)), root);
  return {reinterpret_cast<const char*>(words.data()), bytes};
}

std::string Ranks::first_of(const std::string& text) const {
  if (engine_ == nullptr) return text;
  auto first = static_cast<float>(text.empty() ? size() : rank());
  engine_->all_reduce(packed(&first, 1), Reduction::minimum);
  const int root = static_cast<int>(first);
  return root == size() ? "" : text_of(root, text);
}

void Ranks::require_same(const std::string& text,
                         const std::function<std::string(const std::string&)>& explain) const {
  if (engine_ == nullptr) return;
  const std::string first = text_of(0, text);
  const std::string what = first_of(first == text ? "" : explain(first));
  if (!what.empty()) throw std::invalid_argument(what);
}

Tensor Ranks::in_order(const std::vector<Tensor>& own, Index count) const {
  if (engine_ == nullptr) return torch::stack(own);
  // Zeros and one number add up to that number.
  Tensor all = torch::zeros({count});
  for (std::size_t i = 0; i < own.size(); ++i) {
    all[rank() + static_cast<Index>(i) * size()] = own[i];
  }
  engine_->all_reduce(view(all), Reduction::sum);
  return all;
}

std::vector<const Ranks::Parameter*> Ranks::of(int rank) const {
  std::vector<const Parameter*> owned;
  for (const Parameter& parameter : parameters_)
    if (parameter.owner == rank) owned.push_back(&parameter);
  return owned;
}

Index Ranks::elements_of(int rank) const {
  Index count = 0;
  for (const Parameter* parameter : of(rank)) count += parameter->value.numel();
  return count;
}

void Ranks::add_gradients(Index micro_batches) {
  if (engine_ == nullptr || !ordered_) return;
  const bool has_one = rank() < micro_batches;
  const Index own = elements_of(rank());
  std::vector<Tensor> sends, receives;
  for (int r = 0; r < size(); ++r) {
    std::vector<Tensor> gradients;
    if (has_one)
      for (const Parameter* parameter : of(r)) gradients.push_back(parameter->value.grad());
    sends.push_back(joined(gradients));
    receives.push_back(torch::empty({r < micro_batches ? own : 0}));
  }
  engine_->all_to_all(views<ConstMatrixView>(sends), views<MatrixView>(receives));
  for (int r = 0; r < micro_batches; ++r) {
    Tensor& received = receives[static_cast<std::size_t>(r)];
    sum_ = sum_.defined() ? sum_.add_(received) : received;
  }
  for (const Parameter& parameter : parameters_) parameter.value.mutable_grad().reset();
}

void Ranks::finish_gradients() {
  if (engine_ == nullptr) return;
  if (!ordered_) {
    std::vector<Tensor> parts;
    for (int r = 0; r < size(); ++r) {
      std::vector<Tensor> gradients;
      for (const Parameter* parameter : of(r)) {
        const Tensor& gradient = parameter->value.grad();  // none where this rank had no micro-batch
        gradients.push_back(gradient.defined() ? gradient : torch::zeros_like(parameter->value));
      }
      parts.push_back(joined(gradients));
    }
    sum_ = torch::empty({elements_of(rank())});
    engine_->reduce_scatter(views<ConstMatrixView>(parts), view(sum_));
  }
  Index begin = 0;
  for (const Parameter& parameter : parameters_) {
    Tensor& gradient = parameter.value.mutable_grad();
    gradient.reset();
    if (!is_own(parameter)) continue;
    const Index count = parameter.value.numel();
    // The memory of the sum, but no view to autograd: zero_grad() detaches gradients in place.
    gradient = sum_.narrow(0, begin, count).view_as(parameter.value).variable_data();
    begin += count;
  }
  sum_.reset();
}

Tensor Ranks::all_norms(const std::vector<Tensor>& own) const {
  if (engine_ == nullptr) return torch::stack(own);
  Tensor all = torch::zeros({std::ssize(parameters_)});
  auto next = own.begin();
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (is_own(parameters_[i])) all[static_cast<Index>(i)] = *next++;
  engine_->all_reduce(view(all), Reduction::sum);
  return all;
}

void Ranks::share_weights() {
  if (engine_ == nullptr) return;
  std::vector<std::vector<Tensor>> weights(static_cast<std::size_t>(size()));
  std::vector<Tensor> parts;
  for (const Parameter& parameter : parameters_)
    weights[static_cast<std::size_t>(parameter.owner)].push_back(parameter.value);
  for (int r = 0; r < size(); ++r)
    parts.push_back(r == rank() ? joined(weights[static_cast<std::size_t>(r)])
                                : torch::empty({elements_of(r)}));
  const Tensor own = parts[static_cast<std::size_t>(rank())];
  engine_->all_gather(view(own), views<MatrixView>(parts));
  for (int r = 0; r < size(); ++r)
    if (r != rank()) split_into(parts[static_cast<std::size_t>(r)], weights[static_cast<std::size_t>(r)]);
}

void Ranks::move(Way way, std::vector<Tensor>& parts) const {
  const auto own = static_cast<std::size_t>(rank());
  const std::vector<Tensor> nothing(parts.size(), torch::empty({0}));
  std::vector<Tensor> sends = nothing, receives = nothing;
  const bool out = way == Way::from_first;
  if (is_first()) (out ? sends : receives) = parts;
  if (!is_first()) (out ? receives : sends)[0] = parts[own];
  // What the first rank has already stays where it is.
  if (is_first()) sends[0] = receives[0] = torch::empty({0});
  engine_->all_to_all(views<ConstMatrixView>(sends), views<MatrixView>(receives));
}

std::vector<Tensor> Ranks::states_of(int rank) {
  std::vector<Tensor> tensors;
  for (const Parameter* parameter : of(rank)) {
    const optim::ParameterState& state = optimizer_->state_of(parameter->value);
    for (const Tensor& tensor : {state.momentum_buffer, state.row_state, state.exp_avg, state.exp_avg_sq})
      if (tensor.defined()) tensors.push_back(tensor);
  }
  return tensors;
}

void Ranks::share_step_counts(Way way) {
  Tensor counts = torch::zeros({std::ssize(parameters_)}, torch::kDouble);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (way == Way::to_first ? is_own(parameters_[i]) : is_first())
      counts[static_cast<Index>(i)] = static_cast<double>(optimizer_->state_of(parameters_[i].value).step);
  }
  engine_->all_reduce(view(counts), Reduction::sum);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (is_own(parameters_[i]) || is_first())
      optimizer_->state_of(parameters_[i].value).step = counts[static_cast<Index>(i)].item<std::int64_t>();
  }
}

void Ranks::gather_states() {
  if (engine_ == nullptr) return;
  std::vector<Tensor> parts(static_cast<std::size_t>(size()), torch::empty({0}));
  for (int r = 1; r < size(); ++r)
    if (is_first() || r == rank()) parts[static_cast<std::size_t>(r)] = joined(states_of(r));
  move(Way::to_first, parts);
  for (int r = 1; r < size() && is_first(); ++r) split_into(parts[static_cast<std::size_t>(r)], states_of(r));
  share_step_counts(Way::to_first);
}

void Ranks::drop_states() {
  if (engine_ == nullptr) return;
  for (const Parameter& parameter : parameters_)
    if (!is_own(parameter)) optimizer_->state().erase(parameter.value.unsafeGetTensorImpl());
}

void Ranks::spread() {
  if (engine_ == nullptr) return;
  std::vector<Tensor> weights;
  for (const Parameter& parameter : parameters_) weights.push_back(parameter.value);
  const Tensor all = joined(weights);
  engine_->broadcast(view(all), 0);
  split_into(all, weights);

  std::vector<Tensor> parts(static_cast<std::size_t>(size()), torch::empty({0}));
  for (int r = 1; r < size(); ++r)
    if (is_first() || r == rank()) parts[static_cast<std::size_t>(r)] = joined(states_of(r));
  move(Way::from_first, parts);
  if (!is_first()) split_into(parts[static_cast<std::size_t>(rank())], states_of(rank()));
  share_step_counts(Way::from_first);
  drop_states();
}

std::map<std::string, Tensor> Ranks::gathered(std::map<std::string, Tensor> own) const {
  if (engine_ == nullptr || !any(!own.empty())) return own;
  std::vector<Tensor> parts;
  std::vector<std::vector<Tensor>> tensors(static_cast<std::size_t>(size()));
  for (const Parameter& parameter : parameters_) {
    if (!parameter.is_matrix || !(is_first() || is_own(parameter))) continue;
    Tensor& tensor = own[parameter.name];
    if (!tensor.defined()) tensor = torch::empty_like(parameter.value.detach());
    tensors[static_cast<std::size_t>(parameter.owner)].push_back(tensor);
  }
  for (const auto& list : tensors) parts.push_back(joined(list));
  move(Way::to_first, parts);
  if (!is_first()) return {};
  for (std::size_t r = 1; r < tensors.size(); ++r) split_into(parts[r], tensors[r]);
  return own;
}

void require_same_ranks(const Ranks& ranks, const TrainConfig& config, const std::string& text_sha256,
                        const std::string& initial_weights_sha256) {
  const std::string rank = "rank " + std::to_string(ranks.rank()) + " has ";
  ranks.require_same(to_toml(config), [&](const std::string& first) {
    return rank + first_difference(config, from_toml_text(first, "rank 0")) + " on rank 0";
  });
  ranks.require_same(text_sha256, [&](const std::string& first) {
    return rank + "other text than rank 0: sha256 " + text_sha256 + ", there " + first;
  });
  ranks.require_same(initial_weights_sha256, [&](const std::string&) {
    return rank + "other initial weights than rank 0: is it another build, or another version of torch?";
  });
}

}  // namespace aurora::trainer
