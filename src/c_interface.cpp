#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <vector>

#include "aurora/aurora.h"
#include "error.hpp"
#include "step_operands.hpp"

struct aurora_backend {
  std::unique_ptr<aurora::Backend> backend;
  std::string description;
  std::atomic<std::int64_t> skipped_steps = 0;
};

struct aurora_rule {
  aurora::Rule rule;
};

namespace {

using namespace aurora;

// Of a fixed size, because what tells an error must not fail.
thread_local std::array<char, 2048> last_error = {};

void keep_error(const char* text) noexcept {
  std::snprintf(last_error.data(), last_error.size(), "%s", text);
}

/// The body of a call: its status, or that of its exception. None leaves it.
template <class Work>
aurora_status status_of(Work&& work) noexcept {
  last_error[0] = '\0';
  try {
    return work();
  } catch (const std::invalid_argument& error) {
    keep_error(error.what());
    return AURORA_INVALID;
  } catch (const std::exception& error) {
    keep_error(error.what());
  } catch (...) {
    keep_error("[aurora] An exception that says nothing");
  }
  return AURORA_FAILED;
}

template <class T>
T& needed(std::string_view where, const char* what, T* pointer) {
  if (pointer == nullptr) fail(where, "NULL where something is needed: ", what);
  return *pointer;
}

/// Read as the integer that it is in memory: C may have put anything there.
DType dtype_in(std::string_view where, const char* what, std::size_t index, const aurora_matrix& matrix) {
  static_assert(sizeof(aurora_dtype) == sizeof(unsigned));
  unsigned number = 0;
  std::memcpy(&number, &matrix.dtype, sizeof number);
  switch (number) {
    case AURORA_FLOAT32:
      return DType::f32;
    case AURORA_FLOAT64:
      return DType::f64;
    case AURORA_BFLOAT16:
      return DType::bf16;
    default:
      fail(where, "There is no such element type: ", what, " ", index, ", ", number);
  }
}

/// views <- the matrices of one argument.
template <class View>
void read(std::vector<View>& views, std::string_view where, const char* what, const aurora_matrix* matrices,
          std::size_t count) {
  views.clear();
  if (count == 0) return;
  needed(where, what, matrices);
  if (count > std::numeric_limits<std::ptrdiff_t>::max() / sizeof(aurora_matrix)) {
    fail(where, "More matrices than memory can hold: ", count);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const aurora_matrix& from = matrices[i];
    View& view = views.emplace_back();
    view.data = from.data, view.rows = from.rows, view.cols = from.cols;
    view.row_stride = from.row_stride, view.col_stride = from.col_stride;
    view.dtype = dtype_in(where, what, i, from);
  }
}

/// Lists of this thread that keep their memory from call to call; they hold nothing between calls.
struct Lists {
  std::vector<ConstMatrixView> gradients;
  std::vector<MatrixView> states, other_states, written;
  std::vector<Extent> extents;
};
Lists& lists_of_this_thread() {
  thread_local Lists lists;
  return lists;
}

/// Tells of the first gradient with an Inf or NaN, without allocating.
aurora_status not_finite(Backend& backend, const char* where, std::span<const ConstMatrixView> gradients) {
  std::size_t i = 0;
  while (i < gradients.size() && all_finite(backend, checked(where, "gradient", gradients[i]))) ++i;
  if (i == gradients.size()) {
    std::snprintf(last_error.data(), last_error.size(),
                  "[aurora::%s] Nothing was written, a gradient is larger than its state can hold", where);
  } else {
    std::snprintf(last_error.data(), last_error.size(),
                  "[aurora::%s] Nothing was written, there is an Inf or NaN: gradient %zu", where, i);
  }
  return AURORA_NOT_FINITE;
}

aurora_status status_of_step(aurora_backend& on, const char* where,
                             std::span<const ConstMatrixView> gradients, const StepReport& report) {
  if (report.applied) return AURORA_OK;
  ++on.skipped_steps;
  return not_finite(*on.backend, where, gradients);
}

/// Checks pairs of gradient and direction as direction does, before the first is written.
void require_directions(std::vector<ConstMatrixView>& gradients, std::vector<MatrixView>& directions,
                        std::vector<Extent>& extents) {
  extents.clear();
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    ConstMatrixView& g = gradients[i] = checked("direction", "gradient", gradients[i]);
    MatrixView& u = directions[i] = checked("direction", "direction", directions[i]);
    if (!same_shape(g, u) || g.dtype != u.dtype || !is_wide(g.dtype)) {
      fail("direction", "Shapes and types must be equal, float32 or float64: number ", i, ", ", shape_text(g),
           " ", name(g.dtype), " vs ", shape_text(u), " ", name(u.dtype));
    }
    extents.push_back({g, false, "gradient", i});
    extents.push_back({u, true, "direction", i});
  }
  require_apart("direction", extents);
}

}  // namespace

extern "C" {

int aurora_abi_version(void) { return AURORA_ABI_VERSION; }

const char* aurora_last_error(void) { return last_error.data(); }

aurora_status aurora_backend_create_cpu(int threads, aurora_backend** backend) {
  return status_of([&] {
    aurora_backend*& result = needed("backend_create_cpu", "backend", backend);
    auto made = std::make_unique<aurora_backend>();
    made->backend = make_cpu_backend({.threads = threads});
    made->description = made->backend->description();
    result = made.release();
    return AURORA_OK;
  });
}

aurora_status aurora_backend_create_cuda(int device, void* /*stream*/, aurora_backend** backend) {
  return status_of([&]() -> aurora_status {
    needed("backend_create_cuda", "backend", backend);
    fail("backend_create_cuda", "This library was built without CUDA: device ", device);
  });
}

void aurora_backend_destroy(aurora_backend* backend) { delete backend; }

const char* aurora_backend_description(const aurora_backend* backend) {
  return backend == nullptr ? "" : backend->description.c_str();
}

aurora_status aurora_backend_skipped_steps(aurora_backend* backend, int64_t* count) {
  return status_of([&] {
    const aurora_backend& on = needed("backend_skipped_steps", "backend", backend);
    needed("backend_skipped_steps", "count", count) = on.skipped_steps;
    return AURORA_OK;
  });
}

aurora_status aurora_rule_create(const char* variant, aurora_rule** rule) {
  return status_of([&] {
    const char* text = &needed("rule_create", "variant", variant);
    aurora_rule*& result = needed("rule_create", "rule", rule);
    result = std::make_unique<aurora_rule>(aurora_rule{parse_variant(text)}).release();
    return AURORA_OK;
  });
}

aurora_status aurora_rule_set(aurora_rule* rule, const char* name, double value) {
  return status_of([&] {
    Rule& old = needed("rule_set", "rule", rule).rule;
    const char* key = &needed("rule_set", "name", name);
    Rule changed = old;
    set_hyperparameter_value(changed, key, value);
    validate(changed);
    old = changed;
    return AURORA_OK;
  });
}

void aurora_rule_destroy(aurora_rule* rule) { delete rule; }

int64_t aurora_rule_row_state_size(const aurora_rule* rule, int64_t rows, int64_t cols) {
  std::int64_t size = -1;
  status_of([&] {
    const Rule& of = needed("rule_row_state_size", "rule", rule).rule;
    if (rows < 1 || cols < 1) fail("rule_row_state_size", "There is no such matrix: ", rows, "x", cols);
    size = row_state_size(of, rows, cols);
    return AURORA_OK;
  });
  return size;
}

aurora_status aurora_step(aurora_backend* backend, const aurora_rule* rule, size_t count,
                          const aurora_matrix* gradients, const aurora_matrix* momentum_buffers,
                          const aurora_matrix* row_states, const aurora_matrix* weights) {
  return status_of([&] {
    aurora_backend& on = needed("step", "backend", backend);
    const Rule& by = needed("step", "rule", rule).rule;
    auto& [g, m, r, w, extents] = lists_of_this_thread();
    read(g, "step", "gradients", gradients, count);
    read(m, "step", "momentum_buffers", momentum_buffers, count);
    read(r, "step", "row_states", row_states, row_states == nullptr ? 0 : count);
    read(w, "step", "weights", weights, count);
    return status_of_step(
        on, "step", g,
        step(*on.backend, by, {.gradients = g, .momentum_buffers = m, .weights = w, .row_states = r}));
  });
}

aurora_status aurora_adamw_step(aurora_backend* backend, const aurora_rule* rule, int64_t step, size_t count,
                                const aurora_matrix* gradients, const aurora_matrix* exp_avgs,
                                const aurora_matrix* exp_avg_sqs, const aurora_matrix* weights) {
  return status_of([&] {
    aurora_backend& on = needed("adamw_step", "backend", backend);
    const Rule& by = needed("adamw_step", "rule", rule).rule;
    const auto* options = std::get_if<AdamWOptions>(&by);
    if (options == nullptr) fail("adamw_step", "The rule must be adamw, not ", name(by));
    auto& [g, m, v, w, extents] = lists_of_this_thread();
    read(g, "adamw_step", "gradients", gradients, count);
    read(m, "adamw_step", "exp_avgs", exp_avgs, count);
    read(v, "adamw_step", "exp_avg_sqs", exp_avg_sqs, count);
    read(w, "adamw_step", "weights", weights, count);
    return status_of_step(on, "adamw_step", g, adamw_step(*on.backend, *options, step, {g, m, v, w}));
  });
}

aurora_status aurora_direction(aurora_backend* backend, const aurora_rule* rule, size_t count,
                               const aurora_matrix* gradients, const aurora_matrix* directions) {
  return status_of([&] {
    Backend& on = *needed("direction", "backend", backend).backend;
    const Rule& by = needed("direction", "rule", rule).rule;
    if (!takes_matrices(by)) fail("direction", "This rule has no directions: ", name(by));
    Lists& lists = lists_of_this_thread();
    auto& g = lists.gradients;
    auto& u = lists.written;
    read(g, "direction", "gradients", gradients, count);
    read(u, "direction", "directions", directions, count);
    require_directions(g, u, lists.extents);
    if (!look(on, g, DType::f64).open) return not_finite(on, "direction", g);
    const Index all = std::ssize(g);
    on.for_each_part({&all, 1}, [&](Backend& part, std::size_t, Index begin, Index end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        const ScratchFrame frame(part);
        MatrixView state = {};
        if (const Index size = row_state_size(by, g[i].rows, g[i].cols); size > 0) {
          state = part.scratch(size, 1, 1, g[i].dtype);
          part.fill(0.0, state);
        }
        direction(part, by, g[i], u[i], state);
      }
    });
    return AURORA_OK;
  });
}

}  // extern "C"
