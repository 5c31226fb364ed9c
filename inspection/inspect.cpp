#include "inspect.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <tuple>

#include "tensor_set.hpp"
#include "weight_parts.hpp"

namespace aurora::trainer {
namespace {

/// Matrices up to this much memory are measured side by side, one for each thread.
constexpr Index kSideBySideBytes = Index{64} << 20;
constexpr double kSuspiciousShare = 0.05;

constexpr std::array<std::string_view, 4> kMomenta = {".momentum_buffer", ".momentum", ".moment1",
                                                      ".exp_avg"};
constexpr std::array<std::string_view, 5> kOtherState = {".second_momentum_buffer", ".exp_avg_sq",
                                                         ".variance", ".variance_neuron", ".moment2"};

/// The end of a state tensor's name that is in `ends`; empty for other names.
std::string_view state_end(std::string_view name, std::span<const std::string_view> ends) {
  for (const std::string_view end : ends)
    if (name.ends_with(end)) return end;
  return {};
}

std::string shape_text(std::span<const Index> shape) {
  std::string text;
  for (const Index side : shape) text.append(text.empty() ? "" : "x").append(std::to_string(side));
  return text;
}

/// Why a tensor is no matrix to measure; empty where it is.
std::string reason_to_skip(const TensorEntry& entry) {
  if (!state_end(entry.name, kOtherState).empty()) return "other optimizer state";
  if (entry.shape.size() < 2) return "fewer than 2 dimensions";
  if (!is_floating(entry.dtype)) return "dtype " + entry.dtype;
  if (entry.bytes.empty()) return "no elements";
  return {};
}

/// The same, where its role is known.
std::string reason_to_skip(const TensorEntry& entry, const std::optional<WeightRole>& role) {
  if (!role) return std::to_string(entry.shape.size()) + " dimensions";
  const auto shapes = role->cut() ? matrix_shapes(entry.shape, role->dimensions)
                                  : std::vector<MatrixShape>{{entry.shape[0], entry.shape[1]}};
  const bool large = std::ranges::any_of(
      shapes, [](const MatrixShape& shape) { return std::min(shape.rows, shape.cols) > kLongestShortSide; });
  return large ? "both sides above " + std::to_string(kLongestShortSide) : "";
}

/// The config.json beside the weights, where it can be read.
ModelConfiguration configuration_beside(const PlacedTensor& weight) {
  std::ifstream file(weight.file->path().parent_path() / "config.json");
  const auto config =
      std::make_shared<nlohmann::json>(nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false));
  if (!config->is_object()) return {};
  ModelConfiguration model;
  if (const auto type = config->find("model_type"); type != config->end() && type->is_string())
    model.model_type = *type;
  model.number = [config](const std::string& name) -> std::optional<Index> {
    const auto found = config->find(name);
    if (found == config->end()) return std::nullopt;
    if (found->is_boolean()) return found->get<bool>() ? 1 : 0;
    return found->is_number_integer() ? std::optional(found->get<Index>()) : std::nullopt;
  };
  return model;
}

[[noreturn]] void fail(const PlacedTensor& tensor, const std::string& what) {
  throw std::runtime_error(tensor.file->path().string() + ": tensor " + tensor.entry->name + " " + what);
}

struct Job {
  PlacedTensor tensor;
  const InspectedMatrix* matrix;
  Index index;  // which of the weight's matrices
  MatrixStatistics* result;

  Index rows() const { return matrix->rows; }
  Index cols() const { return matrix->cols; }
  Index bytes() const { return std::ssize(tensor.entry->bytes) + measuring_bytes(rows(), cols()); }
  /// About how long it takes: products with all elements, and an eigen-decomposition.
  double cost() const {
    const auto longer = static_cast<double>(std::max(rows(), cols()));
    const auto shorter = static_cast<double>(std::min(rows(), cols()));
    return longer * shorter * (4 * shorter + 200) + 20 * shorter * shorter * shorter;
  }
};

/// The momentum of a weight, or nothing. Throws where its shape is another.
std::optional<PlacedTensor> momentum_of(const PlacedTensor& weight,
                                        std::span<const TensorSet* const> places) {
  for (const std::string_view end : kMomenta) {
    const std::string name = weight.entry->name + std::string(end);
    for (const TensorSet* place : places) {
      const auto found = place->find(name);
      if (!found) continue;
      if (found->entry->shape != weight.entry->shape)
        fail(*found,
             "is " + shape_text(found->entry->shape) + ", its weight is " + shape_text(weight.entry->shape));
      if (!is_floating(found->entry->dtype))
        fail(*found, "has dtype " + found->entry->dtype + ", not F64, F32, F16 or BF16");
      return found;
    }
  }
  return {};
}

/// Measures one matrix and gives its memory back.
void run(Backend& backend, const Job& job) {
  const TensorEntry& entry = *job.tensor.entry;
  try {
    const WeightRole& role = job.matrix->role;
    *job.result = role.cut()
                      ? measure(backend, WeightPart(entry, role.dimensions, job.index).entry(), role.axis)
                      : measure(backend, entry, role.axis);
    job.tensor.file->require_whole();
  } catch (const std::bad_alloc&) {
    fail(job.tensor, shape_text(entry.shape) + " needs " + std::to_string(job.bytes() >> 20) +
                         " MiB of memory, which is not there");
  } catch (const std::exception& error) {
    fail(job.tensor, "cannot be measured: " + std::string(error.what()));
  }
  job.tensor.file->release(entry);
}

/// Runs all jobs; the largest begin first, so that no thread is left with a large one at the end.
void run_jobs(std::vector<Job> jobs, const InspectOptions& options) {
  std::ranges::sort(jobs, std::ranges::greater{}, &Job::cost);
  double cost = 0;
  for (const Job& job : jobs) cost += job.cost();
  const auto total = std::ssize(jobs);

  std::mutex mutex;
  double cost_done = 0;
  Index done = 0;
  const auto run_one = [&](Backend& backend, const Job& job) {
    run(backend, job);
    const std::lock_guard lock(mutex);
    cost_done += job.cost();
    ++done;
    if (options.progress) options.progress(cost_done / cost, done, total);
  };

  const auto small = std::stable_partition(jobs.begin(), jobs.end(),
                                           [](const Job& job) { return job.bytes() > kSideBySideBytes; });
  for (const bool large : {true, false}) {
    const std::span<const Job> part =
        large ? std::span<const Job>(jobs.begin(), small) : std::span<const Job>(small, jobs.end());
    const auto backend = make_cpu_backend({.threads = options.threads});  // gives its memory back
    if (large) {
      for (const Job& job : part) run_one(*backend, job);
    } else {
      const Index count = std::ssize(part);
      backend->for_each_part({&count, 1}, [&](Backend& one, std::size_t, Index begin, Index end) {
        for (Index i = begin; i < end; ++i) run_one(one, part[static_cast<std::size_t>(i)]);
      });
    }
  }
}

}  // namespace

const MatrixStatistics& judged(const InspectedMatrix& matrix) {
  return matrix.momentum ? *matrix.momentum : matrix.weight;
}

bool suspicious(const InspectedMatrix& matrix) {
  if (matrix.weight.non_finite > 0 || (matrix.momentum && matrix.momentum->non_finite > 0)) return true;
  return matrix.role.hidden && judged(matrix).starved[1] >= kSuspiciousShare;
}

Inspection inspect(const std::filesystem::path& path, const InspectOptions& options) {
  ModelTensors model = open_model(path);
  TensorSet named;
  if (!options.momentum.empty()) named.add(options.momentum);
  const std::array<const TensorSet*, 3> momentum_places = {&named, &model.weights, &model.state};

  Inspection inspection;
  std::vector<PlacedTensor> weights;
  std::vector<NamedShape> shapes;
  for (const auto& [name, tensor] : model.weights.tensors()) {
    std::string_view stem = name;
    if (const auto end = state_end(name, kMomenta); !end.empty()) {
      stem.remove_suffix(end.size());
      if (model.weights.find(stem)) continue;  // measured with its weight
    }
    if (const std::string reason = reason_to_skip(*tensor.entry); !reason.empty()) {
      ++inspection.skipped[reason];
      continue;
    }
    weights.push_back(tensor);
    shapes.push_back({stem, tensor.entry->shape});
  }
  const auto roles = weights.empty() ? std::vector<std::optional<WeightRole>>{}
                                     : weight_roles(shapes, configuration_beside(weights.front()));
  std::size_t count = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const TensorEntry& entry = *weights[i].entry;
    if (const std::string reason = reason_to_skip(entry, roles[i]); !reason.empty()) {
      ++inspection.skipped[reason];
    } else {
      count += roles[i]->cut() ? matrix_shapes(entry.shape, roles[i]->dimensions).size() : 1;
    }
  }
  if (count == 0)
    throw std::runtime_error(path.string() +
                             ": no weight matrix in it: a 2-D tensor of F64, F32, F16 or BF16");

  std::vector<Job> jobs;
  inspection.matrices.reserve(count);  // jobs point into it
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const TensorEntry& entry = *weights[i].entry;
    if (!reason_to_skip(entry, roles[i]).empty()) continue;
    const WeightRole& role = *roles[i];
    const auto parts = role.cut() ? matrix_shapes(entry.shape, role.dimensions)
                                  : std::vector<MatrixShape>{{entry.shape[0], entry.shape[1]}};
    const auto momentum = momentum_of(weights[i], momentum_places);
    for (Index part = 0; part < std::ssize(parts); ++part) {
      const auto [rows, cols] = parts[static_cast<std::size_t>(part)];
      InspectedMatrix& matrix = inspection.matrices.emplace_back(
          InspectedMatrix{.name = entry.name + (role.cut() ? "[" + std::to_string(part) + "]" : ""),
                          .dtype = entry.dtype,
                          .rows = rows,
                          .cols = cols,
                          .role = role,
                          .weight = {},
                          .momentum = {},
                          .momentum_name = {}});
      jobs.push_back({weights[i], &matrix, part, &matrix.weight});
      if (!momentum) continue;
      matrix.momentum_name = momentum->entry->name.substr(entry.name.size() + 1);
      jobs.push_back({*momentum, &matrix, part, &matrix.momentum.emplace()});
    }
  }
  run_jobs(std::move(jobs), options);

  std::ranges::stable_sort(inspection.matrices, {}, [](const InspectedMatrix& matrix) {
    const MatrixStatistics& by = judged(matrix);
    if (by.non_finite > 0) return std::tuple(false, false, 0.0, 0.0, 0.0);
    return std::tuple(true, !matrix.role.hidden, -by.starved[1], -by.starved[2], by.leverage[0]);
  });
  return inspection;
}

}  // namespace aurora::trainer
