#pragma once

#include <torch/torch.h>

#include <array>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "aurora/ranks.hpp"
#include "aurora/torch/optimizer.hpp"
#include "config.hpp"
#include "model.hpp"

namespace aurora::trainer {

/// The processes that train one model together, as one of them sees them: all have all weights, and every
/// parameter has an owner, which alone has its optimizer state and steps it. Gradients go in, weights come
/// out. One rank owns everything, and nothing here costs it anything.
///
/// Micro-batch m of a step is that of rank m mod size(). A sum in the order of micro-batches has the bits of
/// one rank: of losses always, of gradients where they are `ordered`.
class Ranks {
 public:
  /// This process alone: whom tests and evaluations hand over.
  Ranks() = default;
  /// `engine` may be null: then it is this process alone, too.
  Ranks(Collectives* engine, const Model& model, optim::SpectralOptimizer& optimizer, bool ordered);
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int size() const { return engine_ == nullptr ? 1 : engine_->size(); }
  int rank() const { return engine_ == nullptr ? 0 : engine_->rank(); }
  /// The rank that writes and speaks.
  bool is_first() const { return rank() == 0; }
  /// Bytes that this rank has sent to others.
  Index bytes_sent() const { return engine_ == nullptr ? 0 : engine_->bytes_sent(); }

  /// Whether it is so on any rank.
  bool any(bool here) const;
  bool all(bool here) const { return !any(!here); }
  /// Whole numbers and flags <- those of the first rank.
  template <class... Values>
  void share(Values&... values) const {
    std::array<std::int64_t, sizeof...(Values)> numbers = {static_cast<std::int64_t>(values)...};
    share_numbers(numbers);
    std::size_t next = 0;
    ((values = static_cast<Values>(numbers[next++])), ...);
  }
  /// The text of the first rank that has one.
  std::string first_of(const std::string& text) const;
  /// Throws std::invalid_argument on all ranks where one has another text than the first rank: what `explain`
  /// says there of the first rank's.
  void require_same(const std::string& text,
                    const std::function<std::string(const std::string& first)>& explain) const;

  /// How many of `count` parts of a step, or of an evaluation, are this rank's.
  Index own_count(Index count) const { return (count - rank() + size() - 1) / size(); }
  /// Of all `count` parts, in their order, from numbers of the parts of each rank: a float32 vector on the
  /// device of the numbers.
  torch::Tensor in_order(const std::vector<torch::Tensor>& own, Index count) const;

  /// To be called when each rank has done the backward pass of its next micro-batch, where it has one more:
  /// `micro_batches` of them have.
  void add_gradients(Index micro_batches);
  /// Then the gradients of own parameters are the sums over all ranks, and those of others undefined.
  void finish_gradients();
  /// The norms of all gradients, in the order of the parameters, from those of own ones.
  torch::Tensor all_norms(const std::vector<torch::Tensor>& own) const;
  /// Every rank gets the weights that their owners have stepped.
  void share_weights();

  /// work() on the first rank, while the optimizer there has the states of all parameters.
  template <class Work>
  void first_with_all_states(const Work& work) {
    gather_states();
    if (is_first()) work();
    drop_states();
  }
  /// Every owner gets its state from the first rank, and every rank the weights.
  void spread();
  /// The first rank gets the tensors of all matrices; the others nothing.
  std::map<std::string, torch::Tensor> gathered(std::map<std::string, torch::Tensor> own) const;

 private:
  struct Parameter {
    std::string name;
    torch::Tensor value;
    int owner;
    bool is_matrix;
  };
  bool is_own(const Parameter& parameter) const { return parameter.owner == rank(); }
  void share_numbers(std::span<std::int64_t> numbers, int root = 0) const;
  void gather_states();
  void drop_states();
  std::string text_of(int root, const std::string& own) const;
  /// The parameters of a rank.
  std::vector<const Parameter*> of(int rank) const;
  Index elements_of(int rank) const;
  /// One packed vector from each rank to the first, or from the first to each.
  enum class Way : std::uint8_t { to_first, from_first };
  void move(Way way, std::vector<torch::Tensor>& parts) const;
  std::vector<torch::Tensor> states_of(int rank);
  void share_step_counts(Way way);

  Collectives* engine_ = nullptr;
  optim::SpectralOptimizer* optimizer_ = nullptr;
  bool ordered_ = false;
  std::vector<Parameter> parameters_;  // in the order of the model
  torch::Tensor sum_;                  // of own gradients, while a step adds them in order
};

/// Throws std::invalid_argument on all ranks, with the first difference, where they are not to train the same
/// model in the same way on the same text.
void require_same_ranks(const Ranks& ranks, const TrainConfig& config, const std::string& text_sha256,
                        const std::string& initial_weights_sha256);

}  // namespace aurora::trainer
