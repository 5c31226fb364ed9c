#pragma once

#include <span>
#include <string>
#include <vector>

#include "run_data.hpp"

namespace aurora::compare {

/// A row of gate or up that was starved, or a neuron that was dead, in at least one neuron record of a run.
struct NeuronFate {
  std::uint64_t seed;
  Index layer;
  std::string what;  // "gate", "up": starved rows; "dead": a dead neuron
  Index neuron;
  Index first;  // step of the first record in which it was
  Index since;  // step of the first of the unbroken last records; -1 where it is not any more at the last
  int records;  // in which it was
  int revived;  // times that it was in a record and not in the next
};

/// By layer, what and neuron.
std::vector<NeuronFate> neuron_fates(const RunData& run);

/// What became of the rows of gate and up of a run, in shares of all of them.
struct Persistence {
  double ever;     // starved in at least one record
  double at_end;   // in the last
  double lasting;  // in the last, without a break since half of the steps or longer
  double revived;  // in an earlier one and not in the last
};

/// NaN where records do not list neurons by number or there are none.
Persistence persistence(const RunData& run, std::span<const NeuronFate> fates);

}  // namespace aurora::compare
