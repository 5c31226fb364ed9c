#include "train.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "atomic_file.hpp"
#include "aurora/torch/backend.hpp"
#include "aurora/version.hpp"
#include "checkpoint.hpp"
#include "device.hpp"
#include "evaluate.hpp"
#include "gradient.hpp"
#include "header_record.hpp"
#include "lock_file.hpp"
#include "machine_speed.hpp"
#include "model_size.hpp"
#include "neurons.hpp"
#include "ranks.hpp"
#include "run_folder.hpp"
#include "run_log.hpp"
#include "run_summary.hpp"
#include "schedule.hpp"
#include "session.hpp"
#include "stopwatch.hpp"
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

/// One training run: the state between steps, and what a step, a look at the neurons and a checkpoint do.
class Run {
 public:
  Run(const TrainConfig& config, const TrainHooks& hooks)
      : config_(config),
        hooks_(hooks),
        rule_(config.rule()),
        device_(device_of(config.device)),
        data_(config.data, config.validation, config.model.context + 1),
        model_(config.model, config.seed, device_),
        initial_weights_sha256_(weights_sha256(model_)),
        optimizer_(model_, rule_, config.adamw),
        ranks_(hooks.ranks, model_, optimizer_, config.reduction == "ordered"),
        backend_(device_.is_cpu() ? make_cpu_backend({.threads = at::get_num_threads()})
                                  : make_aten_backend(device_)),
        speed_(device_) {
    const Index bytes = data_.summary().training_bytes, needed = config.batch * config.model.context + 1;
    if (bytes < needed)
      throw std::invalid_argument(config.data.front() + ": the training text has " + std::to_string(bytes) +
                                  " bytes, one batch needs " + std::to_string(needed) +
                                  "; give more text, or a smaller train.batch or model.context");
    require_same_ranks(ranks_, config, data_.summary().sha256, initial_weights_sha256_);
    for (const auto& group : optimizer_.param_groups()) base_lr_.push_back(group.options().get_lr());
    const Index most = config.eval_tokens > 0 ? config.eval_tokens : kMostTokens;
    const Index count = data_.validation_sequences(
        config.model.context, std::max<Index>(1, most / config.model.context), validation_bytes_);
    validation_ = token_tensor(validation_bytes_, count);
  }

  /// Prepares the folder and the state to start, or to go on; returns the result of a run that is already at
  /// its end.
  std::optional<RunResult> open(const fs::path& folder, FolderMode mode);
  /// An error says what was lost, and is a std::runtime_error: the run had begun.
  RunResult run();

 private:
  Index steps_left() const { return config_.steps - state_.step; }
  double seconds() const { return (log_ ? log_->seconds_before() : 0) + clock_.seconds(); }
  /// Whether something that comes every so many steps, and at the last, comes after step number `step`.
  bool due(Index every, Index step) const {
    return step == config_.steps || (every > 0 && step % every == 0);
  }
  bool records_due() const { return state_.evaluation_due || state_.neurons_due; }
  bool stop_asked() const { return ranks_.any(hooks_.stop != nullptr && hooks_.stop->load()); }
  /// Of the first rank.
  std::optional<RunResult> open_folder(FolderMode mode);
  void write(const Json& record) {
    if (log_) log_->write(record);
  }
  void write_header();
  void load(const fs::path& checkpoint);
  RunResult go_on();
  void set_learning_rates();
  /// Why the run cannot go on after it; empty where it can.
  std::string step();
  /// Evaluation and neuron record of the step, where they are due; they stay so where the run is to stop.
  void record();
  void evaluate();
  void look_at_neurons();
  void write_neuron_records();
  void check_text();
  void save();
  std::string lost() const { return lost_steps(saved_step_, state_.step, checkpoint_); }
  std::string saved_although_text_is_gone();
  void report();
  RunResult end(RunEnd how, std::string message = {});

  const TrainConfig& config_;
  const TrainHooks& hooks_;
  Rule rule_;
  at::Device device_;
  TextData data_;
  Model model_;
  std::string initial_weights_sha256_;
  optim::SpectralOptimizer optimizer_;
  Ranks ranks_;
  std::unique_ptr<Backend> backend_;
  MachineSpeed speed_;
  std::vector<double> base_lr_;
  std::vector<std::int64_t> validation_bytes_;
  torch::Tensor validation_;

  fs::path folder_;
  std::unique_ptr<LockFile> lock_;
  std::unique_ptr<RunLog> log_;  // of the first rank
  TrainerState state_;
  NamedTensors directions_;  // of the step, while its neuron record is due
  fs::path checkpoint_;
  Index saved_step_ = 0;    // of checkpoint_
  Index checked_step_ = 0;  // until here the text is known to be what it was
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
  std::optional<RunResult> ended = ranks_.is_first() ? open_folder(mode) : std::nullopt;
  bool has_ended = ended.has_value();
  ranks_.share(has_ended);
  if (has_ended && !ended) ended.emplace().end = RunEnd::already_finished;
  if (ended) return ended;
  ranks_.share(state_.step, state_.skipped_in_a_row, state_.evaluation_due, state_.neurons_due);
  first_step_ = saved_step_ = checked_step_ = state_.step;
  if (state_.step > 0) ranks_.spread();
  return {};
}

std::optional<RunResult> Run::open_folder(FolderMode mode) {
  const fs::path& folder = folder_;
  fs::create_directories(folder);
  lock_ = std::make_unique<LockFile>(folder);
  require_mode(folder, mode);
  // Without a checkpoint, going on is starting again.
  const bool starts_again = mode == FolderMode::resume && checkpoints(folder).empty();
  if (starts_again && hooks_.notice)
    hooks_.notice(folder.string() + " has no checkpoint yet: starting at step 0");
  if (starts_again || mode == FolderMode::overwrite) remove_run(folder);
  remove_unfinished(folder);

  state_.config = to_toml(config_);
  state_.data_sha256 = data_.summary().sha256;
  state_.training_bytes = data_.summary().training_bytes;
  if (const auto all = checkpoints(folder); !all.empty()) load(all.back());
  if (mode == FolderMode::resume && fs::exists(folder / "log.jsonl")) {
    const auto records = read_log(folder / "log.jsonl").records;
    if (steps_left() == 0 && !records.empty() && records.back().value("kind", "") == "summary") {
      RunResult result = summarize(records);
      result.end = RunEnd::already_finished;
      result.checkpoint = checkpoint_;
      return result;
    }
    std::vector<std::string> due;
    if (state_.evaluation_due) due.emplace_back("eval");
    if (state_.neurons_due) due.emplace_back("neurons");
    log_ = std::make_unique<RunLog>(folder, state_.step, due);
    if (records.empty()) write_header();
  } else {
    log_ = std::make_unique<RunLog>(folder);
    write_header();
  }
  atomic_write_text(folder / "config.toml", state_.config);
  return {};
}

void Run::load(const fs::path& checkpoint) {
  const TrainerState saved = read_trainer_state(checkpoint);
  require_same_run(config_, from_toml_text(saved.config, (checkpoint / "trainer_state.json").string()),
                   checkpoint);
  if (saved.data_sha256 != state_.data_sha256)
    throw std::invalid_argument(checkpoint.string() + ": the run was made from other text (sha256 " +
                                saved.data_sha256 + ", now " + state_.data_sha256 + ")");
  if (saved.training_bytes != 0 && saved.training_bytes != state_.training_bytes)
    throw std::invalid_argument(
        checkpoint.string() + ": the run was made with " + std::to_string(saved.training_bytes) +
        " bytes of the text for training, now " + std::to_string(state_.training_bytes));
  if (saved.step > config_.steps)
    throw std::invalid_argument("train.steps is " + std::to_string(config_.steps) + ", but " +
                                checkpoint.string() + " has taken " + std::to_string(saved.step));
  directions_ = load_checkpoint(checkpoint, saved, model_, optimizer_, rule_);
  checkpoint_ = checkpoint;
  state_.step = saved.step;
  state_.skipped_in_a_row = saved.skipped_in_a_row;
  state_.evaluation_due = saved.evaluation_due;
  state_.neurons_due = saved.neurons_due;
  if (!hooks_.notice) return;
  if (saved.files.empty())
    hooks_.notice(checkpoint.string() + " is of an older version, without checksums: taken as it is");
  if (steps_left() > 0) hooks_.notice("going on from " + checkpoint.string());
}

void Run::write_header() {
  write(
      header_record(config_, device_, data_.summary(),
                    {.initial_weights = initial_weights_sha256_,
                     .data_order = data_.order_sha256(config_.seed, kHashedSequences, config_.model.context)},
                    ranks_.size()));
}

RunResult Run::run() {
  std::string what;
  try {
    return go_on();
  } catch (const TextGone& error) {
    what = error.what() + saved_although_text_is_gone();
  } catch (const c10::Error& error) {
    what = first_line(error) + lost();
  } catch (const std::bad_alloc&) {
    what = kOutOfMemory + lost();
  } catch (const std::exception& error) {
    what = error.what() + lost();
  }
  throw std::runtime_error(what);
}

RunResult Run::go_on() {
  record();
  while (steps_left() > 0 && !records_due()) {
    if (std::string message = step(); !message.empty()) return end(RunEnd::diverged, std::move(message));
    if (config_.save_momentum > 0 && due(config_.save_momentum, state_.step))
      ranks_.first_with_all_states([&] { save_momentum(folder_, state_.step, model_, optimizer_); });
    record();
    // A checkpoint of weights that lost their way would not be a good one.
    if (steps_left() == 0 && !state_.evaluation_due && !std::isfinite(shown_.validation_loss))
      return end(RunEnd::diverged, "the validation loss after the last step is not finite");
    const bool stop = stop_asked();
    if (stop || due(config_.save_every, state_.step)) save();
    report();
    if (stop) break;
  }
  return end(steps_left() > 0 || records_due() ? RunEnd::interrupted : RunEnd::finished);
}

std::string Run::saved_although_text_is_gone() {
  if (saved_step_ == state_.step) return "";
  if (ranks_.size() > 1) return lost();  // the others may be anywhere in a step
  try {
    log_->sync();
    checkpoint_ = save_checkpoint(folder_, state_, model_, optimizer_, rule_, directions_);
  } catch (const std::exception& error) {
    return "; saving failed too: " + std::string(error.what()) + lost();
  }
  return "; saved in " + checkpoint_.string() + ", but the text of the steps after " +
         std::to_string(checked_step_) + " cannot be checked any more";
}

void Run::set_learning_rates() {
  factor_ = schedule_factor(state_.step, config_.steps, config_.warmup, config_.cooldown);
  auto base = base_lr_.begin();
  for (auto& group : optimizer_.param_groups()) group.options().set_lr(*base++ * factor_);
}

std::string Run::step() {
  const Stopwatch step_clock;
  if (hooks_.step_begins) hooks_.step_begins(state_.step + 1);
  optimizer_.zero_grad();
  const torch::Tensor loss = accumulate_gradients(model_, own_tokens(data_, config_, state_.step, ranks_),
                                                  config_.accumulate, config_.dtype == "bf16", ranks_);
  const torch::Tensor norm = clip_gradients(model_.parameters(), config_.clip, ranks_);
  set_learning_rates();
  const bool neurons_due = due(diagnose_interval(config_), state_.step + 1);
  optimizer_.keep_directions(neurons_due);
  DeviceInterval optimizer_interval(device_);
  std::string lost_state;
  try {
    optimizer_.step();
  } catch (const std::exception&) {
    // The gradients were looked at, so what has no direction is the momentum.
    lost_state = not_finite_state(model_, optimizer_, rule_);
    if (lost_state.empty()) throw;
  }
  if (lost_state = ranks_.first_of(lost_state); !lost_state.empty()) {
    ++state_.step;  // the one that failed
    return "the optimizer state " + lost_state + " is not finite in step " + std::to_string(state_.step);
  }
  ranks_.share_weights();
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
  state_.evaluation_due = due(config_.eval_every, state_.step);
  state_.neurons_due = neurons_due;
  directions_ = neurons_due ? ranks_.gathered(kept_directions(model_, optimizer_)) : NamedTensors{};

  const double step_ms = step_clock.milliseconds();
  step_ms_ += step_ms;
  optimizer_ms_ += optimizer_ms;
  const Index tokens = tokens_per_step(config_);
  write({{"kind", "train"},
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
  if (!std::isfinite(loss_)) return "the loss of step " + std::to_string(state_.step) + " is not finite";
  if (state_.skipped_in_a_row >= kSkippedStepsEnd)
    return "the gradient was not finite in " + std::to_string(kSkippedStepsEnd) +
           " steps in a row, until step " + std::to_string(state_.step);
  return "";
}

void Run::record() {
  if (state_.evaluation_due && !stop_asked()) evaluate();
  if (state_.neurons_due && !stop_asked()) look_at_neurons();
}

void Run::evaluate() {
  check_text();
  const auto result =
      mean_loss(model_, validation_, config_.batch, config_.dtype == "bf16", ranks_, hooks_.stop);
  if (!result) return;
  shown_.validation_loss = result->loss;
  write({{"kind", "eval"},
         {"step", state_.step},
         {"loss", result->loss},
         {"bits_per_byte", result->bits_per_byte},
         {"tokens", result->tokens},
         {"product_ms", speed_.product_ms()},
         {"seconds", seconds()}});
  state_.evaluation_due = false;
}

void Run::look_at_neurons() {
  ranks_.first_with_all_states([&] { write_neuron_records(); });
  ranks_.share(state_.neurons_due);
}

void Run::write_neuron_records() {
  const Index count = std::clamp<Index>(kDiagnosisTokens / config_.model.context, 1, validation_.size(0));
  const auto layers = neuron_health(model_, optimizer_, directions_, *backend_,
                                    validation_.narrow(0, 0, count), config_.dtype == "bf16", hooks_.stop);
  if (!layers) return;
  state_.neurons_due = false;
  directions_.clear();
  std::vector<Json> records;
  for (const LayerHealth& layer : *layers) {
    records.push_back(neuron_record(layer, state_.step, std::ssize(records)));
    write(records.back());
  }
  const RunResult means = summarize(records);
  shown_.dead = means.dead;
  shown_.starved = means.starved;
}

void Run::check_text() {
  data_.require_unchanged();
  checked_step_ = state_.step;
}

void Run::save() {
  check_text();
  ranks_.first_with_all_states([&] {
    log_->sync();
    checkpoint_ = save_checkpoint(folder_, state_, model_, optimizer_, rule_, directions_);
    keep_newest(folder_, config_.keep);
  });
  saved_step_ = state_.step;
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
  RunResult result;
  if (log_) result = summarize(read_log(folder_ / "log.jsonl").records);
  result.end = how;
  result.step = state_.step;
  result.message = std::move(message);
  result.checkpoint = checkpoint_;
  result.seconds = seconds();
  if (how == RunEnd::finished) write(summary_record(result));
  if (how == RunEnd::diverged)
    write({{"kind", "diverged"}, {"step", result.step}, {"message", result.message}});
  if (log_) log_->sync();
  return result;
}

}  // namespace

RunResult train(const TrainConfig& config, const fs::path& folder, FolderMode mode, const TrainHooks& hooks) {
  return with_plain_errors([&] {
    validate(config);
    const bool several = hooks.ranks != nullptr && hooks.ranks->size() > 1;
    if (device_of(config.device).is_cpu()) {
      require_memory(config);
    } else if (several) {
      throw std::invalid_argument("several ranks train on CPUs, and train.device is " + config.device +
                                  ": leave out --device, or start one process");
    }
    if (!several || hooks.ranks->rank() == 0) {
      require_mode(folder, mode);
      if (mode == FolderMode::resume) require_same_run(config, folder);
    }
    set_up_torch(config.threads > 0 ? config.threads : hooks.threads);
    Run run(config, hooks);
    if (auto result = run.open(folder, mode)) return *result;
    return run.run();
  });
}

}  // namespace aurora::trainer
