#include "aurora/torch/ranks.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>

#include "pieces.hpp"
#include "place_error.hpp"
#include "views.hpp"

namespace aurora::optim {
namespace {

using at::Tensor;

MatrixView packed_view(const Tensor& tensor) {
  const Index count = tensor.numel();
  return {count == 0 ? nullptr : tensor.mutable_data_ptr(), 1, count, count, 1, 1, 0, dtype_of(tensor)};
}

/// The texts of all ranks.
std::vector<std::string> texts_of_all(const Ranks& ranks, const std::string& own) {
  const auto options = at::TensorOptions(ranks.device).dtype(at::kDouble);
  const auto size = ranks.collectives->size();
  const Tensor lengths = at::empty({size}, options),
               length = at::full({1}, static_cast<double>(own.size()), options);
  std::vector<MatrixView> parts;
  for (int r = 0; r < size; ++r) parts.push_back(packed_view(lengths.narrow(0, r, 1)));
  ranks.collectives->all_gather(packed_view(length), parts);
  const Tensor on_host = lengths.cpu();

  const auto words_of = [](std::size_t bytes) { return static_cast<std::int64_t>(bytes / 8 + 1); };
  Tensor text = at::zeros({words_of(own.size())}, at::kDouble);
  std::memcpy(text.mutable_data_ptr(), own.data(), own.size());
  text = text.to(ranks.device);
  std::vector<Tensor> received;
  parts.clear();
  for (int r = 0; r < size; ++r) {
    const auto bytes = static_cast<std::size_t>(on_host[r].item<double>());
    parts.push_back(packed_view(received.emplace_back(at::empty({words_of(bytes)}, options))));
  }
  ranks.collectives->all_gather(packed_view(text), parts);
  std::vector<std::string> texts;
  for (int r = 0; r < size; ++r) {
    const Tensor words = received[static_cast<std::size_t>(r)].cpu();
    texts.emplace_back(static_cast<const char*>(words.const_data_ptr()),
                       static_cast<std::size_t>(on_host[r].item<double>()));
  }
  return texts;
}

std::string name_of(const Place& place) {
  if (!place.name.empty()) return std::string(place.name);
  return "group " + std::to_string(place.group) + ", parameter " + std::to_string(place.index);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

/// FNV-1a, as a number that double holds.
double hash_of(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return static_cast<double>(hash >> 12);
}

/// The bits of a tensor, added up.
std::int64_t fingerprint(const Tensor& tensor) {
  const auto type = tensor.element_size() == 8   ? at::kLong
                    : tensor.element_size() == 4 ? at::kInt
                                                 : at::kShort;
  return tensor.contiguous().view(type).sum(at::kLong).item<std::int64_t>();
}

/// What a rank says of its step, a line each: the parameters that have gradients, the hyperparameters of
/// their groups, and in the first step what weights and gradients of replicated parameters are.
struct Account {
  std::string parameters, hyperparameters, values;
};

Account account_of(const Ranks& ranks, std::span<const SharedDue> due) {
  Account account;
  const GroupOptions* last = nullptr;
  for (const SharedDue& each : due) {
    if (each.ranks != &ranks) continue;
    const Place& place = each.due.place;
    account.parameters += name_of(place) + "\n";
    if (last != &place.options) {
      last = &place.options;
      account.hyperparameters += std::string(name(last->rule)) + " of group " + std::to_string(place.group);
      for (const auto& entry : hyperparameters(last->rule))
        account.hyperparameters += ", " + entry.name + "=" + entry.value;
      account.hyperparameters += '\n';
    }
    if (!ranks.has_stepped && each.share->replicated) {
      account.values += name_of(place) + " has weights " +
                        std::to_string(fingerprint(place.parameter.detach())) + ", gradient " +
                        std::to_string(fingerprint(each.due.gradient)) + "\n";
    }
  }
  return account;
}

/// The first line that two ranks do not share: "rank 0: ...; rank 2: ...". Empty where there is none.
struct Difference {
  std::string here, there;
  int rank = 0;
};
std::optional<Difference> first_difference(const std::vector<std::vector<std::string>>& lines) {
  for (std::size_t r = 1; r < lines.size(); ++r) {
    if (lines[r] == lines[0]) continue;
    const auto [a, b] = std::mismatch(lines[0].begin(), lines[0].end(), lines[r].begin(), lines[r].end());
    return Difference{a == lines[0].end() ? "" : *a, b == lines[r].end() ? "" : *b, static_cast<int>(r)};
  }
  return std::nullopt;
}

constexpr char kSeparator = '\x1e';

std::string section(const std::string& text, std::size_t index) {
  std::size_t begin = 0;
  for (; index > 0; --index) begin = text.find(kSeparator, begin) + 1;
  return text.substr(begin, text.find(kSeparator, begin) - begin);
}

/// Why these ranks cannot step, from what all of them say; empty where they can.
std::string disagreement(const std::vector<std::string>& texts) {
  const auto sections = [&](std::size_t index) {
    std::vector<std::vector<std::string>> all;
    for (const auto& text : texts) all.push_back(lines_of(section(text, index)));
    return all;
  };
  for (std::size_t r = 0; r < texts.size(); ++r) {
    if (const auto error = section(texts[r], 0); !error.empty())
      return "Rank " + std::to_string(r) + ": " + error;
  }
  if (const auto found = first_difference(sections(1))) {
    const auto ranks = sections(1);
    const auto other = static_cast<std::size_t>(found->rank);
    const auto lacks = [&](std::size_t rank, const std::string& line) {
      return !line.empty() && std::find(ranks[rank].begin(), ranks[rank].end(), line) == ranks[rank].end();
    };
    const bool other_lacks = lacks(other, found->here);
    if (!other_lacks && !lacks(0, found->there)) {
      return "Parameters come in another order on rank " + std::to_string(found->rank) + ": '" +
             found->there + "' where rank 0 has '" + found->here + "'";
    }
    const std::size_t without = other_lacks ? other : 0, with = other_lacks ? 0 : other;
    return "The parameter '" + (other_lacks ? found->here : found->there) + "' has a gradient on rank " +
           std::to_string(with) + " and none on rank " + std::to_string(without) +
           ": nobody steps. Ranks share a step, so all of them need a gradient, zeros where there is none";
  }
  if (const auto found = first_difference(sections(2))) {
    return "Hyperparameters differ. Rank 0: " + found->here + "; rank " + std::to_string(found->rank) + ": " +
           found->there;
  }
  if (const auto found = first_difference(sections(3))) {
    return "Ranks have other values of a parameter that they share. Rank 0: " + found->here + "; rank " +
           std::to_string(found->rank) + ": " + found->there +
           " (sums of their bits). Let DistributedDataParallel make weights and gradients equal, or say "
           "process_group=None, of a group of parameters or of the optimizer, and every rank steps its own";
  }
  return {};
}

/// The weights of owned parameters, from their owners to all: packed, in as many rounds as the chunks of the
/// rank that has most.
void spread_weights(Ranks& ranks, std::span<const SharedDue> due) {
  const int size = ranks.collectives->size();
  std::vector<std::vector<std::vector<const SharedDue*>>> rounds;  // [round][owner]
  std::vector<std::size_t> round_of(static_cast<std::size_t>(size));
  std::vector<std::int64_t> bytes_of(static_cast<std::size_t>(size));
  for (const SharedDue& each : due) {
    if (each.ranks != &ranks || each.share->kind != Share::Kind::owned) continue;
    const auto owner = static_cast<std::size_t>(each.share->owner);
    const auto bytes = static_cast<std::int64_t>(each.due.place.parameter.nbytes());
    if (bytes_of[owner] > 0 && bytes_of[owner] + bytes > ranks.options.chunk_bytes) {
      ++round_of[owner];
      bytes_of[owner] = 0;
    }
    bytes_of[owner] += bytes;
    if (rounds.size() <= round_of[owner])
      rounds.resize(round_of[owner] + 1,
                    std::vector<std::vector<const SharedDue*>>(static_cast<std::size_t>(size)));
    rounds[round_of[owner]][owner].push_back(&each);
  }
  for (auto& round : rounds) {  // wide elements first: all lie as their type asks
    for (auto& parameters : round) {
      std::ranges::stable_sort(parameters, std::greater{}, [](const SharedDue* each) {
        return each->due.place.parameter.element_size();
      });
    }
  }
  for (const auto& round : rounds) {
    std::vector<Tensor> packed;
    std::vector<MatrixView> parts;
    const auto words_of = [](const SharedDue* each) {  // of two bytes
      return static_cast<std::int64_t>(each->due.place.parameter.nbytes()) / 2;
    };
    for (const auto& parameters : round) {
      std::int64_t words = 0;
      for (const auto* each : parameters) words += words_of(each);
      packed.push_back(at::empty({words}, at::TensorOptions(ranks.device).dtype(at::kBFloat16)));
      parts.push_back(packed_view(packed.back()));
    }
    const auto own = static_cast<std::size_t>(ranks.collectives->rank());
    const auto for_each_slice = [&](std::size_t owner, auto&& visit) {
      std::int64_t at = 0;
      for (const auto* each : round[owner]) {
        const Tensor weight = each->due.place.parameter.detach();
        const auto words = words_of(each);
        visit(weight, packed[owner]
                          .narrow(0, at, words)
                          .view(at::kByte)
                          .view(weight.scalar_type())
                          .view(weight.sizes()));
        at += words;
      }
    };
    for_each_slice(own, [](const Tensor& weight, const Tensor& slice) { slice.copy_(weight); });
    ranks.collectives->all_gather(parts[own], parts);
    for (std::size_t owner = 0; owner < round.size(); ++owner) {
      if (owner == own) continue;
      for_each_slice(owner, [](const Tensor& weight, const Tensor& slice) {
        weight.copy_(slice);
        weight.unsafeGetTensorImpl()->bump_version();
      });
    }
  }
}

/// Runs an exchange; its error gets the step.
template <class Work>
void in_step(std::int64_t step, Work&& work) {
  try {
    work();
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string(error.what()) + "; in step " + std::to_string(step));
  }
}

}  // namespace

std::int64_t Box::count() const {
  std::int64_t elements = 1;
  for (const auto length : size) elements *= length;
  return elements;
}

bool Box::empty() const { return count() == 0; }

bool SharedDue::is_here() const {
  if (ranks == nullptr || share->kind == Share::Kind::alone) return true;
  return share->kind == Share::Kind::owned && share->owner == ranks->collectives->rank();
}

bool agree(std::span<Ranks* const> groups, std::span<const SharedDue> due, const Verdict& verdict) {
  std::vector<Account> accounts;
  for (Ranks* ranks : groups) {
    ranks->bytes_of_step = -ranks->collectives->bytes_sent();
    accounts.push_back(verdict.error.empty() ? account_of(*ranks, due) : Account{});
  }
  bool finite = verdict.finite, possible = verdict.error.empty();
  in_step(verdict.step, [&] {
    for (int pass = 0; pass < (groups.size() > 1 ? 2 : 1); ++pass) {
      for (std::size_t g = 0; g < groups.size(); ++g) {
        const auto [parameters, hyperparameters, values] = accounts[g];
        const double a = hash_of(parameters), b = hash_of(hyperparameters), c = hash_of(values);
        const bool is_known = verdict.error.empty();  // who has an error says nothing else
        const double none = 0;
        Tensor votes =
            at::tensor({finite ? 1.0 : 0.0, possible ? 1.0 : 0.0, is_known ? a : none, is_known ? -a : none,
                        is_known ? b : none, is_known ? -b : none, is_known ? c : none, is_known ? -c : none},
                       at::kDouble)
                .to(groups[g]->device);
        groups[g]->collectives->all_reduce(packed_view(votes), Reduction::minimum);
        votes = votes.cpu();
        const auto vote = [&](int i) { return votes[i].item<double>(); };
        finite = vote(0) != 0;
        possible = vote(1) != 0 && vote(2) == -vote(3) && vote(4) == -vote(5) && vote(6) == -vote(7);
      }
    }
    if (possible) return;
    std::string why;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const auto& [parameters, hyperparameters, values] = accounts[g];
      const std::string own =
          verdict.error + kSeparator + parameters + kSeparator + hyperparameters + kSeparator + values;
      const std::string found = disagreement(texts_of_all(*groups[g], own));
      if (why.empty()) why = found;
    }
    if (why.empty()) why = "Another rank cannot step";
    fail("ranks", why, "; in step ", verdict.step);
  });
  for (std::size_t g = 0; g < groups.size(); ++g) {
    groups[g]->has_stepped = groups[g]->has_stepped || !accounts[g].parameters.empty();
  }
  return finite;
}

void step_shared(Backends& backends, std::span<Ranks* const> groups, std::span<const SharedDue> due,
                 std::int64_t step) {
  in_step(step, [&] {
    for (Ranks* ranks : groups) step_pieces(backends, *ranks, due);
    std::vector<Due> here;
    for (const SharedDue& each : due) {
      if (!each.is_here()) continue;
      if (each.due.place.parameter.numel() > 0) {
        here.push_back(each.due);
      } else if (each.due.state->device_step.defined()) {
        each.due.state->device_step.add_(1);
      } else {
        ++each.due.state->step;
      }
    }
    step_groups(backends, StepGate{}, here);
    for (Ranks* ranks : groups) spread_weights(*ranks, due);
    for (Ranks* ranks : groups) ranks->bytes_of_step += ranks->collectives->bytes_sent();
  });
}

}  // namespace aurora::optim
