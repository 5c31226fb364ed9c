#pragma once

#include <torch/serialize/input-archive.h>
#include <torch/serialize/output-archive.h>

#include <string>

#include "../error.hpp"
#include "aurora/torch/optimizer.hpp"

// What optimizers and their states have in torch's archives.
namespace aurora::optim {

template <class State, class Visit>
void for_each_tensor(State& state, Visit&& visit) {
  visit("momentum_buffer", state.momentum_buffer);
  visit("row_state", state.row_state);
  visit("exp_avg", state.exp_avg);
  visit("exp_avg_sq", state.exp_avg_sq);
}

inline std::int64_t read_count(torch::serialize::InputArchive& archive, const std::string& key) {
  c10::IValue value;
  if (!archive.try_read(key, value) || !value.isInt()) fail("optim", "The archive lacks the number ", key);
  return value.toInt();
}

}  // namespace aurora::optim
