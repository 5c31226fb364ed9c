#pragma once

#include "comparison.hpp"
#include "run_groups.hpp"

namespace aurora::compare {

/// What the runs of a group came to.
OptimizerResult result_of(const Group& group);

/// The finished runs alone, as name, lr, seeds and validation_loss.
OptimizerResult losses_of(const std::string& name, const Runs& runs);

}  // namespace aurora::compare
