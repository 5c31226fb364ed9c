#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "matrix_statistics.hpp"
#include "weight_roles.hpp"

namespace aurora::trainer {

struct InspectedMatrix {
  std::string name;  // of the weight; of one cut in several matrices NAME[0], NAME[1], ...
  std::string dtype;
  Index rows, cols;  // as stored; of one of several [out, in]
  WeightRole role;
  MatrixStatistics weight;
  std::optional<MatrixStatistics> momentum;  // of what stands under `momentum_name`
  std::string momentum_name;                 // "momentum_buffer", or "exp_avg" of what AdamW steps
};

/// By what a matrix is judged: its momentum where there is one.
const MatrixStatistics& judged(const InspectedMatrix& matrix);

/// Worth a look: a hidden matrix of which at least a twentieth of the neurons is starved at 0.1, or any
/// matrix with an Inf or NaN.
bool suspicious(const InspectedMatrix& matrix);

struct Inspection {
  std::vector<InspectedMatrix> matrices;  // hidden ones first, then by starved share, the largest first
  std::map<std::string, Index> skipped;   // why, and how many tensors
};

struct InspectOptions {
  int threads = 1;
  std::filesystem::path momentum;  // another file with tensors NAME.momentum_buffer; empty: none
  /// Share of the work done, matrices done and to do; not called by two threads at once.
  std::function<void(double share, Index done, Index total)> progress;
};

/// Measures every weight matrix that open_model finds at `path`: weights cut in several (fused, stacked; by
/// weight_roles with the config.json beside them) one matrix after the other, one thread each for small ones, all threads
/// for large ones. The momentum of NAME is NAME.momentum_buffer (or .momentum, .moment1, .exp_avg) in the
/// same files, in optimizer.safetensors beside them, or in options.momentum; without its weight it counts as
/// a matrix of its own. Memory at most: threads x 64 MiB, or the largest matrix as stored and measuring_bytes
/// of it. Throws std::runtime_error that names the file or the tensor, also where there is no matrix at all.
Inspection inspect(const std::filesystem::path& path, const InspectOptions& options);

}  // namespace aurora::trainer
