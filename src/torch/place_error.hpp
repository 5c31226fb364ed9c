#pragma once

#include "../error.hpp"
#include "aurora/torch/step.hpp"

namespace aurora::optim {

/// Its shape where it has one of plain numbers.
inline std::string shape_text(const torch::Tensor& tensor) {
  try {
    return c10::str(tensor.sizes());
  } catch (const std::exception&) {
    return "of its own";
  }
}

/// Throws std::invalid_argument "[aurora::optim] RULE: group 0, parameter 1 'name', shape [2, 3], rule muon".
template <class... Values>
[[noreturn]] void fail_at(const Place& place, const Values&... rule) {
  std::ostringstream text;
  (text << ... << rule);
  text << ": group " << place.group << ", parameter " << place.index;
  if (!place.name.empty()) text << " '" << place.name << "'";
  fail("optim", text.str(), ", shape ",
       place.whole.empty() ? shape_text(place.parameter)
                           : c10::str(at::IntArrayRef(place.whole.data(), place.whole.size())),
       ", rule ", name(place.options.rule));
}

}  // namespace aurora::optim
