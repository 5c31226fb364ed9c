#pragma once

#include "../error.hpp"
#include "aurora/torch/step.hpp"

namespace aurora::optim {

/// Throws std::invalid_argument "[aurora::optim] RULE: group 0, parameter 1 'name', shape [2, 3], rule muon".
template <class... Values>
[[noreturn]] void fail_at(const Place& place, const Values&... rule) {
  std::ostringstream text;
  (text << ... << rule);
  text << ": group " << place.group << ", parameter " << place.index;
  if (!place.name.empty()) text << " '" << place.name << "'";
  fail("optim", text.str(), ", shape ", place.parameter.sizes(), ", rule ", name(place.options.rule));
}

}  // namespace aurora::optim
