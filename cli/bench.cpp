#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "aurora/diagnostics.hpp"
#include "aurora/step.hpp"
#include "bench_inputs.hpp"
#include "command.hpp"
#include "config.hpp"
#include "json_line.hpp"
#include "safetensors.hpp"
#include "stage_clock.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {

using Clock = std::chrono::steady_clock;

constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();
constexpr Index kLargestSide = 1 << 16;

struct Flags {
  std::vector<std::string> shapes, threads = {"0"},
                                   optimizers = {"adamw", "muon", "aurora", "aurora:balance=carried"};
  std::string family = "pow1+logn", in, matrices = "4", rounds = "5";
  bool json = false, quiet = false;
};

/// Matrices of one shape that make one step.
struct Input {
  std::string name;
  Index rows, cols;
  std::vector<std::vector<float>> gradients;
};

struct Measurement {
  double step_ms, gflops;                            // median of the rounds; FLOPs of the stages below
  std::array<StageTime, kStageNames.size()> stages;  // of one matrix on one thread
  std::string pipeline;
  double row_norm_cv = kNotDefined, orthogonality_error = kNotDefined, alignment = kNotDefined;
};

struct Row {
  const Input* input;
  std::string optimizer;
  int threads;
  double gemm_gflops;  // rows x cols by cols x cols, in the same run
  Measurement measured;
};

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::pair<Index, Index> shape_of(const std::string& text) {
  Index rows = 0, cols = 0;
  const char* end = text.data() + text.size();
  const auto [x, first] = std::from_chars(text.data(), end, rows);
  const bool good = first == std::errc() && x != end && *x == 'x';
  const auto [stop, second] = std::from_chars(good ? x + 1 : end, end, cols);
  if (!good || second != std::errc() || stop != end || std::min(rows, cols) < 2 ||
      std::max(rows, cols) > kLargestSide) {
    throw std::invalid_argument(
        fmt::format("--shapes wants ROWSxCOLS with sides from 2 to {}: {}", kLargestSide, text));
  }
  return {rows, cols};
}

/// The hidden matrices of the presets, each shape once.
std::vector<std::string> preset_shapes() {
  std::vector<std::string> shapes;
  for (const auto& preset : trainer::preset_names()) {
    trainer::TrainConfig config;
    trainer::apply_preset(config, preset);
    const Index width = config.model.width, neurons = config.model.neurons();
    for (const auto& [rows, cols] : {std::pair{neurons, width}, {width, width}, {width, neurons}}) {
      auto shape = fmt::format("{}x{}", rows, cols);
      if (std::ranges::find(shapes, shape) == shapes.end()) shapes.push_back(std::move(shape));
    }
  }
  return shapes;
}

std::vector<Input> inputs_of_file(const std::string& path) {
  const trainer::SafetensorsFile file{std::filesystem::path(path)};
  std::vector<Input> inputs;
  for (const auto& entry : file.tensors()) {
    if (entry.shape.size() != 2 || !trainer::is_floating(entry.dtype)) continue;
    const Index rows = entry.shape[0], cols = entry.shape[1];
    if (std::min(rows, cols) < 2 || std::max(rows, cols) > kLargestSide) continue;
    std::vector<double> values(static_cast<std::size_t>(rows * cols));
    trainer::values_as_double(entry, 0, values);
    const auto as_float = [](double value) { return static_cast<float>(value); };
    std::vector<float> gradient(values.size());
    std::ranges::transform(values, gradient.begin(), as_float);
    if (!std::ranges::all_of(gradient, [](float value) { return std::isfinite(value); }))
      throw std::runtime_error(fmt::format("{}: tensor '{}' has an Inf or NaN as float32", path, entry.name));
    inputs.push_back({.name = entry.name, .rows = rows, .cols = cols, .gradients = {std::move(gradient)}});
  }
  if (inputs.empty())
    throw std::runtime_error(
        fmt::format("{}: no matrix in it: a step needs a 2-D tensor of F64, F32, F16 or BF16", path));
  return inputs;
}

std::vector<Input> inputs_of(Backend& backend, const Flags& flags) {
  if (!flags.in.empty()) return inputs_of_file(flags.in);
  const auto matrices = static_cast<std::uint64_t>(integer("--matrices", flags.matrices, 1, 1024));
  std::vector<Input> inputs;
  for (const auto& text : flags.shapes.empty() ? preset_shapes() : flags.shapes) {
    const auto [rows, cols] = shape_of(text);
    Input& input =
        inputs.emplace_back(Input{.name = flags.family, .rows = rows, .cols = cols, .gradients = {}});
    for (std::uint64_t seed = 0; seed < matrices; ++seed)
      input.gradients.push_back(family_matrix(backend, flags.family, rows, cols, seed));
  }
  return inputs;
}

/// Weights, gradients and state of one optimizer, from zero.
class Bench {
 public:
  Bench(const Rule& options, const Input& input) : options_(options), input_(input) {
    const std::size_t count = input.gradients.size();
    const auto size = static_cast<std::size_t>(input.rows * input.cols);
    const auto state_size = static_cast<std::size_t>(row_state_size(options, input.rows, input.cols));
    for (auto* memory : {&weights_, &first_, &second_, &directions_})
      memory->assign(count, std::vector<float>(size, 0.0F));
    row_states_.assign(count, std::vector<float>(state_size, 0.0F));
  }

  void step(Backend& backend, std::size_t count, bool keep_directions = false) {
    std::vector<ConstMatrixView> g;
    for (std::size_t i = 0; i < count; ++i)
      g.push_back(row_major(input_.gradients[i].data(), input_.rows, input_.cols));
    const auto views = [&](std::vector<std::vector<float>>& memory, Index rows, Index cols) {
      std::vector<MatrixView> list;
      for (std::size_t i = 0; i < count && !memory[i].empty(); ++i)
        list.push_back(row_major(memory[i].data(), rows, cols));
      return list;
    };
    const auto w = views(weights_, input_.rows, input_.cols), m = views(first_, input_.rows, input_.cols);
    if (const auto* adamw = std::get_if<AdamWOptions>(&options_)) {
      adamw_step(backend, *adamw, ++steps_,
                 {.gradients = g,
                  .exp_avgs = m,
                  .exp_avg_sqs = views(second_, input_.rows, input_.cols),
                  .weights = w});
      return;
    }
    const auto r = views(row_states_, static_cast<Index>(row_states_.front().size()), 1);
    const auto u = keep_directions ? views(directions_, input_.rows, input_.cols) : std::vector<MatrixView>{};
    aurora::step(
        backend, options_,
        {.gradients = g, .momentum_buffers = m, .weights = w, .row_states = r, .directions = u});
  }

  ConstMatrixView direction() const {
    return row_major(directions_.front().data(), input_.rows, input_.cols);
  }
  bool has_direction() const { return takes_matrices(options_); }

 private:
  Rule options_;
  const Input& input_;
  std::int64_t steps_ = 0;
  std::vector<std::vector<float>> weights_, first_, second_, directions_, row_states_;
};

/// What the stages say of the way that was taken.
std::string pipeline_of(const StageClock& clock) {
  if (clock.of(Stage::svd).calls > 0) return "exact-svd";
  if (clock.of(Stage::eigen).calls > 0) return clock.widest() == DType::f64 ? "exact-eigen" : "eigen f32";
  if (clock.of(Stage::cholesky).calls > 0) return "exact-halley";
  return clock.of(Stage::product).calls > 0 ? "products" : "elementwise";
}

Measurement measure(Backend& backend, const Rule& options, const Input& input, int rounds) {
  Bench bench(options, input);
  const std::size_t count = input.gradients.size();
  bench.step(backend, count, true);  // the first step, which is never timed
  Measurement result{};
  if (bench.has_direction()) {
    result.row_norm_cv = row_norm_cv(backend, bench.direction());
    result.orthogonality_error = orthogonality_error(backend, bench.direction()).max_abs;
    std::vector<double> direction(input.gradients.front().size());
    backend.download(bench.direction(), direction);
    result.alignment =
        std::inner_product(direction.begin(), direction.end(), input.gradients.front().begin(), 0.0);
  }
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto start = Clock::now();
    bench.step(backend, count);
    times.push_back(milliseconds_since(start));
  }
  result.step_ms = median(times);
  const auto single = make_cpu_backend();
  StageClock clock(*single);
  for (int round = 0; round < 2; ++round) {
    clock.reset();
    bench.step(clock, 1);
  }
  double flops = 0;
  for (std::size_t s = 0; s < kStageNames.size(); ++s) {
    result.stages[s] = clock.of(static_cast<Stage>(s));
    flops += result.stages[s].flops;
  }
  result.gflops = flops * static_cast<double>(count) / result.step_ms / 1e6;
  result.pipeline = pipeline_of(clock);
  return result;
}

/// GFLOP/s of float32 products of the input's shape with a square matrix, one on each thread.
double gemm_rate(Backend& backend, const Input& input, int threads, int rounds) {
  const Index m = std::max(input.rows, input.cols), n = std::min(input.rows, input.cols);
  const auto& a = input.gradients.front();
  const std::vector<float> b(static_cast<std::size_t>(n * n), 0.5F);
  const Index products = threads;
  std::vector<std::vector<float>> c(static_cast<std::size_t>(products), std::vector<float>(a.size()));
  std::vector<double> times;
  for (int round = 0; round <= rounds; ++round) {
    const auto start = Clock::now();
    backend.for_each_part({&products, 1}, [&](Backend& part, std::size_t, Index i, Index) {
      part.multiply(1.0, row_major(a.data(), m, n), row_major(b.data(), n, n), 0.0,
                    row_major(c[static_cast<std::size_t>(i)].data(), m, n));
    });
    times.push_back(milliseconds_since(start));
  }
  return 2e-6 * static_cast<double>(products * m * n * n) / median(times);
}

/// What is being measured and the time left: a moving line on a terminal, else a line every few seconds.
class BenchProgress {
 public:
  explicit BenchProgress(bool quiet) : quiet_(quiet), moving_(is_terminal(stderr)) {}
  BenchProgress(const BenchProgress&) = delete;
  BenchProgress& operator=(const BenchProgress&) = delete;
  ~BenchProgress() {
    if (moving_ && !quiet_) cli::show(stderr, "\r\x1b[K");
  }
  void show(std::size_t done, std::size_t all, const std::string& what) {
    if (quiet_ || (!moving_ && milliseconds_since(last_) < 5000)) return;
    last_ = Clock::now();
    const double seconds = milliseconds_since(start_) / 1000,
                 share = static_cast<double>(done) / static_cast<double>(all);
    const std::string left = done == 0 ? "" : ", left " + duration(seconds / share - seconds);
    cli::show(stderr, fmt::format("{}{}/{}  {}{}{}", moving_ ? "\r\x1b[K" : "", done + 1, all, what, left,
                                  moving_ ? "" : "\n"));
  }

 private:
  bool quiet_, moving_;
  Clock::time_point start_ = Clock::now(), last_ = Clock::now();
};

std::string number_or_dash(double value, const char* format) {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "-";
}

std::string stages_text(const Measurement& measured) {
  std::string text;
  for (std::size_t s = 0; s < kStageNames.size(); ++s) {
    const StageTime& stage = measured.stages[s];
    if (stage.calls == 0) continue;
    text += fmt::format("{}{} {:.2f}", text.empty() ? "" : ", ", kStageNames[s], stage.milliseconds);
    if (stage.flops > 0) text += fmt::format(" ({:.0f})", stage.flops / stage.milliseconds / 1e6);
  }
  return text;
}

void print_table(const Flags& flags, const std::vector<Row>& rows) {
  fmt::print("{}; input {}\n\n", blas_description(), flags.in.empty() ? flags.family : flags.in);
  std::size_t name_width = 9, input_width = 5;
  for (const Row& row : rows) {
    name_width = std::max(name_width, row.optimizer.size());
    if (!flags.in.empty()) input_width = std::max(input_width, row.input->name.size());
  }
  const auto label = [&](const Row& row) { return flags.in.empty() ? std::string() : row.input->name; };
  if (flags.in.empty()) input_width = 0;
  fmt::print("{:<{}}{:>10}  {:<{}}  {:>7}  {:>9}  {:>9}  {:>8}  {:>6}  {:<12}  {:>8}  {:>8}  {:>9}\n", "",
             input_width, "shape", "optimizer", name_width, "threads", "ms/step", "ms/matrix", "GFLOP/s",
             "% gemm", "pipeline", "row CV", "|U'U-I|", "<G,U>");
  for (const Row& row : rows) {
    const Measurement& m = row.measured;
    const auto count = static_cast<double>(row.input->gradients.size());
    fmt::print("{:<{}}{:>10}  {:<{}}  {:>7}  {:>9.3f}  {:>9.3f}  {:>8}  {:>6}  {:<12}  {:>8}  {:>8}  {:>9}\n",
               label(row), input_width, fmt::format("{}x{}", row.input->rows, row.input->cols), row.optimizer,
               name_width, row.threads, m.step_ms, m.step_ms / count,
               m.gflops > 0 ? fmt::format("{:.0f}", m.gflops) : "-",
               m.gflops > 0 ? fmt::format("{:.0f}", 100 * m.gflops / row.gemm_gflops) : "-", m.pipeline,
               number_or_dash(m.row_norm_cv, "{:.2g}"), number_or_dash(m.orthogonality_error, "{:.1e}"),
               number_or_dash(m.alignment, "{:.5g}"));
  }
  fmt::print("\nms of one matrix on one thread by stage, in brackets GFLOP/s:\n");
  for (const Row& row : rows) {
    if (row.threads != rows.front().threads) continue;
    fmt::print("{:<{}}{:>10}  {:<{}}  {}\n", label(row), input_width,
               fmt::format("{}x{}", row.input->rows, row.input->cols), row.optimizer, name_width,
               stages_text(row.measured));
  }
}

nlohmann::ordered_json finite(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

void print_json(const Flags& flags, const std::vector<Row>& rows) {
  nlohmann::ordered_json object = {{"blas", blas_description()},
                                   {"input", flags.in.empty() ? flags.family : flags.in}};
  object["rows"] = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    const Measurement& m = row.measured;
    nlohmann::ordered_json stages = nlohmann::ordered_json::object();
    for (std::size_t s = 0; s < kStageNames.size(); ++s) {
      if (m.stages[s].calls == 0) continue;
      stages[std::string(kStageNames[s])] = {{"ms", m.stages[s].milliseconds},
                                             {"gflop", m.stages[s].flops / 1e9}};
    }
    object["rows"].push_back({{"name", row.input->name},
                              {"shape", {row.input->rows, row.input->cols}},
                              {"optimizer", row.optimizer},
                              {"threads", row.threads},
                              {"matrices", row.input->gradients.size()},
                              {"step_ms", m.step_ms},
                              {"matrix_ms", m.step_ms / static_cast<double>(row.input->gradients.size())},
                              {"gflops", m.gflops},
                              {"gemm_gflops", row.gemm_gflops},
                              {"pipeline", m.pipeline},
                              {"row_norm_cv", finite(m.row_norm_cv)},
                              {"orthogonality_error", finite(m.orthogonality_error)},
                              {"alignment", finite(m.alignment)},
                              {"stages", stages}});
  }
  fmt::print("{}", json_line(object));
}

int bench(const Flags& flags) {
  const int rounds = static_cast<int>(integer("--rounds", flags.rounds, 1, 10000));
  std::vector<int> threads;
  for (const auto& text : flags.threads) {
    const auto count = static_cast<int>(integer("--threads", text, 0, 4096));
    threads.push_back(count == 0 ? static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))
                                 : count);
  }
  if (!flags.in.empty() && !flags.shapes.empty())
    throw std::invalid_argument("--in and --shapes exclude each other: a file has its own shapes");
  std::vector<Rule> optimizers;
  for (const auto& text : flags.optimizers) {
    optimizers.push_back(parse_variant(text));
    validate(optimizers.back());
  }
  const std::vector<Input> inputs = inputs_of(*make_cpu_backend(), flags);
  std::vector<Row> rows;
  {
    BenchProgress progress(flags.quiet);
    const std::size_t all = inputs.size() * threads.size() * optimizers.size();
    for (const Input& input : inputs) {
      for (const int count : threads) {
        const auto backend = make_cpu_backend({.threads = count});
        const double rate = gemm_rate(*backend, input, count, rounds);
        for (std::size_t o = 0; o < optimizers.size(); ++o) {
          progress.show(rows.size(), all,
                        fmt::format("{}x{} {}", input.rows, input.cols, flags.optimizers[o]));
          rows.push_back(
              {&input, flags.optimizers[o], count, rate, measure(*backend, optimizers[o], input, rounds)});
        }
      }
    }
  }
  flags.json ? print_json(flags, rows) : print_table(flags, rows);
  return kGood;
}

}  // namespace

void add_bench(CLI::App& app, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("bench", "what a step costs on this machine, and how good its direction is");
  const auto flags = std::make_shared<Flags>();
  command->add_option("--shapes", flags->shapes, "ROWSxCOLS,... (default: the matrices of the presets)")
      ->delimiter(',');
  command->add_option("--threads", flags->threads, "thread counts, 1,2; 0: one per core")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--optimizers", flags->optimizers, "NAME or NAME:KEY=VALUE+KEY=VALUE, ...")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--family", flags->family, "kind of matrix: gauss, pow1+logn, pow.5+t2, clustered, sparse")
      ->capture_default_str();
  command->add_option("--in", flags->in,
                      "safetensors file whose matrices are the gradients, each a step of its own");
  command->add_option("--matrices", flags->matrices, "matrices of one shape in a step")
      ->capture_default_str();
  command->add_option("--rounds", flags->rounds, "steps that are timed; the median counts")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "results as one JSON object");
  command->add_flag("--quiet", flags->quiet, "no progress");
  command->callback([flags, &chosen] { chosen = [flags] { return bench(*flags); }; });
}

}  // namespace aurora::cli
