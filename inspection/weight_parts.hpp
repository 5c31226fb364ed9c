#pragma once

#include <vector>

#include "aurora/dimensions.hpp"
#include "safetensors.hpp"

namespace aurora::trainer {

/// One matrix of a stored weight, in memory of its own: float64, [out, in] and packed.
class WeightPart {
 public:
  /// `index` counts as matrix_shapes does. Batch axes come before all others. Reads one slice along them.
  WeightPart(const TensorEntry& weight, const Dimensions& dimensions, Index index);
  const TensorEntry& entry() const { return entry_; }

 private:
  std::vector<double> values_;
  TensorEntry entry_;
};

}  // namespace aurora::trainer
