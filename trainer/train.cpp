#include "train.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <ctime>
#include <limits>

#include "atomic_file.hpp"
#include "aurora/torch/backend.hpp"
#include "build_commit.hpp"
#include "checkpoint.hpp"
#include "device.hpp"
#include "evaluate.hpp"
#include "gradient.hpp"
#include "lock_file.hpp"
#include "machine_speed.hpp"
#include "model_size.hpp"
#include "neurons.hpp"
#include "run_folder.hpp"
#include "run_log.hpp"
#include "run_summary.hpp"
#include "schedule.hpp"
#include "session.hpp"
#include "text_data.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();
constexpr Index kMostTokens = Index{1} << 27;  // of an evaluation: 1 GiB as int64
constexpr Index kDiagnosisTokens = 2048;       // of the batch that neuron activations come from
constexpr Index kHashedSequences = 1 << 16;    // the first, for the header's data_order_sha256
constexpr Index kSkippedStepsEnd = 10;         // so many in a row end a run

class Stopwatch {
 public:
  double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }
  double seconds() const { return milliseconds() / 1000; }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// AdamW for the whole model takes the one set of AdamW options, [adamw].
OptimizerOptions rule_of(const TrainConfig& config) {
  if (std::holds_alternative<AdamWOptions>(config.optim)) return config.adamw;
  return config.optim;
}

double lr_of(const OptimizerOptions& rule) {
  return std::visit([](const auto& options) { return options.lr; }, rule);
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  gmtime_r(&now, &fields);
  std::array<char, sizeof "2026-01-01T00:00:00Z"> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &fields);
  return text.data();
}

/// {"model": {"width": "128", ...}, ...}, values as they stand in config.toml.
Json nested(const std::vector<Setting>& list) {
  Json json;
  for (const Setting& setting : list) {
    const auto dot = setting.key.find('.');
    Json value = Json::parse(setting.value, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) value = setting.value;
    json[setting.key.substr(0, dot)][setting.key.substr(dot + 1)] = std::move(value);
  }
  return json;
}

/// One training run: the state between steps, and what a step, a look at the neurons and a checkpoint do.
class Run {
 public:
  Run(const TrainConfig& config, const TrainHooks& hooks)
      : config_(config),
        hooks_(hooks),
        rule_(rule_of(config)),
        device_(device_of(config.device)),
        data_(config.data, config.validation, config.model.context + 1),
        model_(config.model, config.seed, device_),
        initial_weights_sha256_(weights_sha256(model_)),
        optimizer_(model_, rule_, config.adamw),
        backend_(device_.is_cpu() ? make_cpu_backend() : make_aten_backend(device_)),
        speed_(device_) {
    backend_->set_threads(at::get_num_threads());
    const Index bytes = data_.summary().training_bytes, needed = config.batch * config.model.context + 1;
    if (bytes < needed)
      throw std::invalid_argument(config.data.front() + ": the training text has " + std::to_string(bytes) +
                                  " bytes, one batch needs " + std::to_string(needed) +
                                  "; give more text, or a smaller train.batch or model.context");
    for (const auto& group : optimizer_.param_groups()) base_lr_.push_back(group.options().get_lr());
    const Index most = config.eval_tokens > 0 ? config.eval_tokens : kMostTokens;
    const Index count = data_.validation_sequences(
        config.model.context, std::max<Index>(1, most / config.model.context), validation_bytes_);
    validation_ = token_tensor(validation_bytes_, count);
  }

  /// Prepares the folder and the state to start, or to go on; returns the result of a run that is already at
  /// its end.
  std::optional<RunResult> open(const fs::path& folder, FolderMode mode);
  RunResult run();

 private:
  Index steps_left() const { return config_.steps - state_.step; }
  double seconds() const { return log_->seconds_before() + clock_.seconds(); }
  /// Whether something that comes every so many steps, and at the last, comes after step number `step`.
  bool due(Index every, Index step) const {
    return step == config_.steps || (every > 0 && step % every == 0);
  }
  void write_header();
  void set_learning_rates();
  void step();
  void evaluate();
  void look_at_neurons();
  void save();
  void report();
  RunResult end(RunEnd how, std::string message = {});

  const TrainConfig& config_;
  const TrainHooks& hooks_;
  OptimizerOptions rule_;
  at::Device device_;
  TextData data_;
  Model model_;
  std::string initial_weights_sha256_;
  optim::SpectralOptimizer optimizer_;
  std::unique_ptr<Backend> backend_;
  MachineSpeed speed_;
  std::vector<double> base_lr_;
  std::vector<std::int64_t> validation_bytes_;
  torch::Tensor validation_;

  fs::path folder_;
  std::unique_ptr<LockFile> lock_;
  std::unique_ptr<RunLog> log_;
  TrainerState state_;
  fs::path checkpoint_;
  Stopwatch clock_;
  Index first_step_ = 0;  // of this process
  double factor_ = 1;     // of the learning rates in the last step
  double loss_ = kNotDefined;
  Index skipped_steps_ = 0;                // as the optimizer counts them
  double step_ms_ = 0, optimizer_ms_ = 0;  // sums of this process
  Progress shown_{.dead = kNotDefined, .starved = kNotDefined, .validation_loss = kNotDefined};
};

std::optional<RunResult> Run::open(const fs::path& folder, FolderMode mode) {
  folder_ = folder;
  fs::create_directories(folder);
  lock_ = std::make_unique<LockFile>(folder);
  require_mode(folder, mode);
  // Without a checkpoint, going on is starting again.
  const bool starts_again = mode == FolderMode::resume && checkpoints(folder).empty();
  if (starts_again && hooks_.notice)
    hooks_.notice(folder.string() + " has no checkpoint yet: starting at step 0");
  if (starts_again || mode == FolderMode::overwrite) remove_run(folder);
  remove_unfinished(folder);

  state_ = {.config = to_toml(config_), .data_sha256 = data_.summary().sha256};
  if (const auto all = checkpoints(folder); !all.empty()) {
    checkpoint_ = all.back();
    const TrainerState saved = load_checkpoint(checkpoint_, model_, optimizer_, rule_);
    if (saved.data_sha256 != state_.data_sha256)
      throw std::invalid_argument(checkpoint_.string() + ": the run was made from other text (sha256 " +
                                  saved.data_sha256 + ", now " + state_.data_sha256 + ")");
    if (saved.step > config_.steps)
      throw std::invalid_argument("train.steps is " + std::to_string(config_.steps) + ", but " +
                                  checkpoint_.string() + " has taken " + std::to_string(saved.step));
    state_.step = first_step_ = saved.step;
    state_.skipped_in_a_row = saved.skipped_in_a_row;
    if (hooks_.notice && steps_left() > 0) hooks_.notice("going on from " + checkpoint_.string());
  }
  if (mode == FolderMode::resume && fs::exists(folder / "log.jsonl")) {
    const auto records = read_log(folder / "log.jsonl").records;
    if (steps_left() == 0 && !records.empty() && records.back().value("kind", "") == "summary") {
      RunResult result = summarize(records);
      result.end = RunEnd::already_finished;
      result.checkpoint = checkpoint_;
      return result;
    }
    log_ = std::make_unique<RunLog>(folder, state_.step);
    if (records.empty()) write_header();
  } else {
    log_ = std::make_unique<RunLog>(folder);
    write_header();
  }
  atomic_write_text(folder / "config.toml", state_.config);
  return {};
}

void Run::write_header() {
  log_->write(
      {{"kind", "header"},
       {"version", AURORA_VERSION},
       {"commit", build_commit()},
       {"optimizer", name(rule_)},
       {"seed", config_.seed},
       {"device", device_.str()},
       {"device_name", device_name(device_)},
       {"threads", at::get_num_threads()},
       {"wait_policy", wait_policy()},
       {"load", load_average()},
       {"blas", blas_description()},
       {"torch", TORCH_VERSION},
       {"parameters", parameter_count(config_.model)},
       {"tokens_per_step", tokens_per_step(config_)},
       {"data",
        {{"files", data_.summary().files},
         {"bytes", data_.summary().bytes},
         {"training_bytes", data_.summary().training_bytes},
         {"validation_bytes", data_.summary().validation_bytes},
         {"sha256", data_.summary().sha256}}},
       {"initial_weights_sha256", initial_weights_sha256_},
       {"data_order_sha256", data_.order_sha256(config_.seed, kHashedSequences, config_.model.context)},
       {"started", utc_now()},
       {"config", nested(settings(config_))}});
}

RunResult Run::run() {
  while (steps_left() > 0) {
    step();
    if (!std::isfinite(loss_))
      return end(RunEnd::diverged, "the loss of step " + std::to_string(state_.step) + " is not finite");
    if (state_.skipped_in_a_row >= kSkippedStepsEnd)
      return end(RunEnd::diverged, "the gradient was not finite in " + std::to_string(kSkippedStepsEnd) +
                                       " steps in a row, until step " + std::to_string(state_.step));
    if (due(config_.eval_every, state_.step)) evaluate();
    if (due(diagnose_interval(config_), state_.step)) look_at_neurons();
    if (config_.save_momentum > 0 && due(config_.save_momentum, state_.step))
      save_momentum(folder_, state_.step, model_, optimizer_);
    // A checkpoint of weights that lost their way would not be a good one.
    if (steps_left() == 0 && !std::isfinite(shown_.validation_loss))
      return end(RunEnd::diverged, "the validation loss after the last step is not finite");
    const bool stop = hooks_.stop != nullptr && hooks_.stop->load();
    if (stop || due(config_.save_every, state_.step)) save();
    report();
    if (stop && steps_left() > 0) return end(RunEnd::interrupted);
  }
  return end(RunEnd::finished);
}

void Run::set_learning_rates() {
  factor_ = schedule_factor(state_.step, config_.steps, config_.warmup, config_.cooldown);
  auto base = base_lr_.begin();
  for (auto& group : optimizer_.param_groups()) group.options().set_lr(*base++ * factor_);
}

void Run::step() {
  const Stopwatch step_clock;
  const Index sequences = config_.batch * config_.accumulate;
  std::vector<std::int64_t> bytes(static_cast<std::size_t>(sequences * (config_.model.context + 1)));
  data_.training_sequences(config_.seed, state_.step * sequences, sequences, config_.model.context, bytes);
  optimizer_.zero_grad();
  const torch::Tensor loss = accumulate_gradients(model_, token_tensor(bytes, sequences), config_.accumulate,
                                                  config_.dtype == "bf16");
  const torch::Tensor norm = clip_gradients(model_.parameters(), config_.clip);
  set_learning_rates();
  optimizer_.keep_directions(due(diagnose_interval(config_), state_.step + 1));
  DeviceInterval optimizer_interval(device_);
  optimizer_.step();
  optimizer_interval.end();

  // Here, and nowhere else in a step, the host waits for the device.
  const torch::Tensor numbers = torch::stack({loss, norm.to(torch::kFloat64)}).cpu();
  loss_ = numbers[0].item<double>();
  const auto grad_norm = numbers[1].item<double>();
  const double optimizer_ms = optimizer_interval.milliseconds();
  // A finite norm has no Inf and no NaN below it: there is nothing to ask the device for.
  const auto skipped_before = skipped_steps_;
  if (!std::isfinite(grad_norm)) skipped_steps_ = optimizer_.skipped_steps();
  const bool skipped = skipped_steps_ > skipped_before;
  ++state_.step;
  state_.skipped_in_a_row = skipped ? state_.skipped_in_a_row + 1 : 0;

  const double step_ms = step_clock.milliseconds();
  step_ms_ += step_ms;
  optimizer_ms_ += optimizer_ms;
  const Index tokens = tokens_per_step(config_);
  log_->write({{"kind", "train"},
               {"step", state_.step},
               {"loss", loss_},
               {"matrix_lr", lr_of(rule_) * factor_},
               {"adamw_lr", config_.adamw.lr * factor_},
               {"grad_norm", grad_norm},
               {"tokens", tokens},
               {"step_ms", step_ms},
               {"optimizer_ms", optimizer_ms},
               {"tokens_per_second", 1000 * static_cast<double>(tokens) / step_ms},
               {"seconds", seconds()},
               {"skipped", skipped}});
}

void Run::evaluate() {
  const Evaluation result = mean_loss(model_, validation_, config_.batch, config_.dtype == "bf16");
  shown_.validation_loss = result.loss;
  log_->write({{"kind", "eval"},
               {"step", state_.step},
               {"loss", result.loss},
               {"bits_per_byte", result.bits_per_byte},
               {"tokens", result.tokens},
               {"product_ms", speed_.product_ms()},
               {"seconds", seconds()}});
}

void Run::look_at_neurons() {
  const Index count = std::clamp<Index>(kDiagnosisTokens / config_.model.context, 1, validation_.size(0));
  const auto layers =
      neuron_health(model_, optimizer_, *backend_, validation_.narrow(0, 0, count), config_.dtype == "bf16");
  std::vector<Json> records;
  for (const LayerHealth& layer : layers) {
    records.push_back(neuron_record(layer, state_.step, std::ssize(records)));
    log_->write(records.back());
  }
  const RunResult means = summarize(records);
  shown_.dead = means.dead;
  shown_.starved = means.starved;
}

void Run::save() {
  log_->sync();
  checkpoint_ = save_checkpoint(folder_, state_, model_, optimizer_, rule_);
  keep_newest(folder_, config_.keep);
}

void Run::report() {
  if (!hooks_.progress) return;
  const double done = static_cast<double>(state_.step - first_step_);
  shown_.step = state_.step;
  shown_.steps = config_.steps;
  shown_.loss = loss_;
  shown_.tokens_per_second = 1000 * done * static_cast<double>(tokens_per_step(config_)) / step_ms_;
  shown_.seconds_left = clock_.seconds() / done * static_cast<double>(steps_left());
  shown_.optimizer_share = optimizer_ms_ / step_ms_;
  hooks_.progress(shown_);
}

RunResult Run::end(RunEnd how, std::string message) {
  RunResult result = summarize(read_log(folder_ / "log.jsonl").records);
  result.end = how;
  result.message = std::move(message);
  result.checkpoint = checkpoint_;
  result.seconds = seconds();
  if (how == RunEnd::finished) log_->write(summary_record(result));
  if (how == RunEnd::diverged)
    log_->write({{"kind", "diverged"}, {"step", result.step}, {"message", result.message}});
  log_->sync();
  return result;
}

}  // namespace

RunResult train(const TrainConfig& config, const fs::path& folder, FolderMode mode, const TrainHooks& hooks) {
  return with_plain_errors([&] {
    validate(config);
    if (device_of(config.device).is_cpu()) require_memory(config);
    require_mode(folder, mode);
    if (mode == FolderMode::resume) require_same_run(config, folder);
    set_up_torch(config.threads);
    Run run(config, hooks);
    if (auto result = run.open(folder, mode)) return *result;
    return run.run();
  });
}

}  // namespace aurora::trainer
