#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "atomic_file.hpp"
#include "aurora/diagnostics.hpp"
#include "aurora/step.hpp"
#include "command.hpp"
#include "json_line.hpp"
#include "safetensors.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {

struct Flags {
  std::string in, out, optimizer = "aurora", threads = "0";
  std::vector<std::string> settings;
  bool json = false;
};

struct Report {
  std::string name, dtype;
  Index rows, cols;
  double row_norm_cv, orthogonality_error, alignment;
};

/// Why a tensor has no direction; empty where it has one.
std::string reason_to_skip(const trainer::TensorEntry& entry) {
  if (entry.shape.size() != 2) return fmt::format("{} dimensions, not 2", entry.shape.size());
  if (entry.dtype != "F32" && entry.dtype != "F64") return entry.dtype + ", not F32 or F64";
  if (entry.shape[0] == 0 || entry.shape[1] == 0) return "no elements";
  return {};
}

Rule options_of(const Flags& flags) {
  Rule options = parse_variant(flags.optimizer);
  for (const auto& setting : flags.settings) {
    const auto equals = setting.find('=');
    if (equals == std::string::npos) {
      throw std::invalid_argument(fmt::format("--set wants optim.KEY=VALUE: {}", setting));
    }
    if (!setting.starts_with("optim.")) {
      throw std::invalid_argument(
          fmt::format("--set of a direction takes only keys of the optimizer, optim.KEY=VALUE: {}", setting));
    }
    set_hyperparameter(options, setting.substr(6, equals - 6), setting.substr(equals + 1));
  }
  validate(options);
  if (!takes_matrices(options)) {
    std::string names;
    for (const Rule& rule : all_rules()) {
      if (takes_matrices(rule)) names += (names.empty() ? "" : ", ") + std::string(name(rule));
    }
    throw std::invalid_argument(fmt::format(
        "--optimizer {} has no direction: it works element by element; name one of the matrix optimizers ({})",
        name(options), names));
  }
  return options;
}

/// The direction of `options` from an empty state.
void write_direction(Backend& backend, const Rule& options, ConstMatrixView gradient, MatrixView direction) {
  const Index state_size = row_state_size(options, gradient.rows, gradient.cols);
  std::vector<double> state_memory(static_cast<std::size_t>(state_size), 0.0);
  MatrixView row_state;
  if (state_size > 0) row_state = row_major(state_memory.data(), state_size, 1);
  aurora::direction(backend, options, gradient, direction, row_state);
}

template <class T>
Report direction_of_tensor(Backend& backend, const Rule& options,
                           const trainer::TensorEntry& entry, std::vector<std::byte>& bytes) {
  const Index rows = entry.shape[0], cols = entry.shape[1];
  const auto count = static_cast<std::size_t>(rows * cols);
  std::vector<T> gradient(count), direction(count);  // the file's bytes need not be aligned
  std::memcpy(gradient.data(), entry.bytes.data(), count * sizeof(T));
  const auto gradient_view = row_major(static_cast<const T*>(gradient.data()), rows, cols);
  const auto direction_view = row_major(direction.data(), rows, cols);
  if (!all_finite(backend, gradient_view)) {
    throw std::runtime_error(
        fmt::format("tensor '{}' has an Inf or NaN, which has no direction", entry.name));
  }
  write_direction(backend, options, gradient_view, direction_view);
  bytes.resize(count * sizeof(T));
  std::memcpy(bytes.data(), direction.data(), bytes.size());
  return {.name = entry.name,
          .dtype = entry.dtype,
          .rows = rows,
          .cols = cols,
          .row_norm_cv = row_norm_cv(backend, direction_view),
          .orthogonality_error = orthogonality_error(backend, direction_view).max_abs,
          .alignment =
              std::inner_product(gradient.begin(), gradient.end(), direction.begin(), 0.0, std::plus<>(),
                                 [](T g, T u) { return static_cast<double>(g) * static_cast<double>(u); })};
}

/// A whole file under its name, or nothing.
void write_file(const std::filesystem::path& file, std::span<const trainer::TensorEntry> tensors) {
  const auto temporary = trainer::temporary_name(file);
  try {
    trainer::write_safetensors(temporary, tensors);
    trainer::atomic_rename(temporary, file);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
}

void print_table(const std::vector<Report>& reports) {
  std::size_t width = 4;
  for (const auto& report : reports) width = std::max(width, printable(report.name).size());
  fmt::print("{:<{}}  {:>13}  {:>5}  {:>11}  {:>19}  {:>11}\n", "name", width, "shape", "dtype",
             "row-norm CV", "orthogonality error", "<G,U>");
  for (const auto& report : reports) {
    fmt::print("{:<{}}  {:>13}  {:>5}  {:>11.4g}  {:>19.3g}  {:>11.5g}\n", printable(report.name), width,
               fmt::format("{}x{}", report.rows, report.cols), report.dtype, report.row_norm_cv,
               report.orthogonality_error, report.alignment);
  }
}

void print_json(const Flags& flags, const std::vector<Report>& reports,
                const std::vector<std::pair<std::string, std::string>>& skipped) {
  nlohmann::ordered_json object = {{"optimizer", flags.optimizer}, {"out", flags.out}};
  object["tensors"] = nlohmann::ordered_json::array();
  for (const auto& report : reports) {
    object["tensors"].push_back({{"name", report.name},
                                 {"shape", {report.rows, report.cols}},
                                 {"dtype", report.dtype},
                                 {"row_norm_cv", report.row_norm_cv},
                                 {"orthogonality_error", report.orthogonality_error},
                                 {"alignment", report.alignment}});
  }
  object["skipped"] = nlohmann::ordered_json::array();
  for (const auto& [name, reason] : skipped)
    object["skipped"].push_back({{"name", name}, {"reason", reason}});
  fmt::print("{}", json_line(object));
}

int direction(const Flags& flags) {
  if (flags.in.empty()) throw std::invalid_argument("--in is missing: name a safetensors file of gradients");
  if (flags.out.empty()) throw std::invalid_argument("--out is missing: name the safetensors file to write");
  const Rule options = options_of(flags);
  auto threads = static_cast<int>(integer("--threads", flags.threads, 0, 4096));
  if (threads == 0) threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const auto backend = make_cpu_backend({.threads = threads});

  const trainer::SafetensorsFile file{std::filesystem::path(flags.in)};
  std::vector<Report> reports;
  std::vector<std::pair<std::string, std::string>> skipped;
  std::vector<std::vector<std::byte>> memory;
  std::vector<trainer::TensorEntry> directions;
  for (const auto& entry : file.tensors()) {
    if (auto reason = reason_to_skip(entry); !reason.empty()) {
      skipped.emplace_back(entry.name, std::move(reason));
      continue;
    }
    auto& bytes = memory.emplace_back();
    reports.push_back(entry.dtype == "F32" ? direction_of_tensor<float>(*backend, options, entry, bytes)
                                           : direction_of_tensor<double>(*backend, options, entry, bytes));
    file.require_whole();
    directions.push_back({entry.name, entry.dtype, entry.shape, bytes});
  }
  if (directions.empty()) {
    throw std::runtime_error(
        fmt::format("{}: no matrix in it: a direction needs a 2-D tensor of F32 or F64", flags.in));
  }
  write_file(flags.out, directions);
  for (const auto& [name, reason] : skipped)
    show(stderr, fmt::format("skipped '{}': {}\n", printable(name), printable(reason)));
  if (flags.json) {
    print_json(flags, reports, skipped);
  } else {
    print_table(reports);
  }
  return kGood;
}

}  // namespace

void add_direction(CLI::App& app, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("direction", "the direction alone, for every matrix of a safetensors file");
  const auto flags = std::make_shared<Flags>();
  command->add_option("--in", flags->in, "safetensors file of gradients, F32 or F64");
  command->add_option("--out", flags->out, "safetensors file to write, same names, shapes and types");
  command->add_option("--optimizer", flags->optimizer, "a matrix optimizer, NAME or NAME:KEY=VALUE+KEY=VALUE")
      ->capture_default_str();
  command->add_option("--set", flags->settings, "optim.KEY=VALUE")->allow_extra_args(false);
  command->add_option("--threads", flags->threads, "threads; 0: one per core")->capture_default_str();
  command->add_flag("--json", flags->json, "results as one JSON object");
  command->callback([flags, &chosen] { chosen = [flags] { return direction(*flags); }; });
}

}  // namespace aurora::cli
