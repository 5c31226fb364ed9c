#include "run_all.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "lock_file.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// The text that all runs read, and the newest run that says so.
struct CommonText {
  std::string text, run;

  void require_same(const std::string& here, const std::string& place) {
    if (here.empty()) return;
    if (!text.empty() && text != here)
      throw std::invalid_argument(place + " is not the text of " + run + ": " + here + ", there " + text +
                                  "; runs on different text cannot be compared: name another --out");
    text = here;
    run = place;
  }
};

/// The text of a configuration in words.
std::string named(const trainer::TrainConfig& config) {
  if (config.data.empty()) return "no text";
  return config.data.front() + (config.data.size() > 1 ? " and others" : "");
}

/// What the folder already says of the run, if it is this run.
void look_up(PlannedRun& run, const trainer::TrainConfig& config, CommonText& text) {
  if (!fs::exists(run.folder / "config.toml")) return;
  require_equal(config, run.folder);
  if (!fs::exists(run.folder / "log.jsonl")) return;
  const RunData data = read_run(run.folder);
  text.require_same(text_of(data), run.folder.string());
  if (data.state == RunState::running) return;
  run.state = data.state;
  run.found = true;
  run.step = run.timed_steps = data.result.step;
  run.validation_loss = data.result.validation_loss;
  run.seconds = data.result.seconds;
}

/// Runs of the sweep, or of the result, that are there already.
void look_up_all(const Design& design, std::vector<PlannedRun>& runs, bool sweep, CommonText& text) {
  for (PlannedRun& run : runs)
    if ((run.purpose == Purpose::sweep) == sweep) look_up(run, config_of(design, run), text);
}

bool sweep_has_ended(std::span<const PlannedRun> runs) {
  return std::ranges::all_of(
      runs, [](const PlannedRun& run) { return run.purpose != Purpose::sweep || ended(run); });
}

/// The runs of a sweep that goes on, before those of the result; false where there is none.
bool add_next_points(const Design& design, const fs::path& folder, std::vector<PlannedRun>& runs,
                     CommonText& text) {
  bool added = false;
  for (std::size_t i = 0; i < design.contenders.size(); ++i) {
    const auto point = next_point(design.sweep, design.contenders[i].config, tried_points(runs, i));
    if (!point) continue;
    added = true;
    for (PlannedRun& run : planned_runs(design, folder, i, *point)) {
      look_up(run, config_of(design, run), text);
      const auto results = std::ranges::find(runs, Purpose::result, &PlannedRun::purpose);
      runs.insert(results, std::move(run));
    }
  }
  return added;
}

void require_extension_of_what_is_there(const Design& design, const fs::path& folder) {
  validate(design);
  for (const Contender& contender : design.contenders) trainer::validate(contender.config);
  if (const std::optional<Design> before = read_design(folder)) require_extension(*before, design, folder);
}

/// The runs of one call, and what making them does.
class Runs {
 public:
  Runs(const Design& design, const fs::path& folder, const Train& train, const RunAllHooks& hooks, int jobs)
      : design_(design),
        folder_(folder),
        train_(train),
        hooks_(hooks),
        jobs_(jobs),
        runs_(planned_runs(design, folder)) {
    look_up_all(design, runs_, /*sweep=*/true, text_);
    while (sweep_has_ended(runs_) && add_next_points(design, folder, runs_, text_)) {}
    if (sweep_has_ended(runs_)) place();
  }

  /// False where it was stopped.
  bool make_all() {
    do {
      if (!make(/*sweep=*/true)) return false;
    } while (add_next_points(design_, folder_, runs_, text_));
    if (!placed_) place();
    return make(/*sweep=*/false);
  }

  std::vector<PlannedRun> take() { return std::move(runs_); }

 private:
  void place() {
    place_results(design_, folder_, runs_);
    look_up_all(design_, runs_, /*sweep=*/false, text_);
    placed_ = true;
  }

  bool stopped() const { return hooks_.stop != nullptr && hooks_.stop->load(); }

  bool make(bool sweep) {
    std::vector<std::size_t> waiting;
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      if ((runs_[i].purpose == Purpose::sweep) != sweep) continue;
      if (ended(runs_[i])) {
        write_once();
      } else {
        waiting.push_back(i);
      }
    }
    if (jobs_ > 1) {
      make_side_by_side(waiting);
    } else {
      make_one_by_one(waiting);
    }
    return !interrupted_ && !(stopped() && !std::ranges::all_of(runs_, ended));
  }

  void require_common_text(const trainer::TrainConfig& config) {
    if (hooks_.text) text_.require_same(hooks_.text(config), named(config));
  }

  Task task_of(const PlannedRun& run) const {
    return {.config = config_of(design_, run),
            .folder = run.folder,
            .mode = fs::is_directory(run.folder) ? trainer::FolderMode::resume : trainer::FolderMode::fresh};
  }

  void make_one_by_one(const std::vector<std::size_t>& waiting) {
    for (const std::size_t i : waiting) {
      if (interrupted_ || stopped()) return;
      const Task task = task_of(runs_[i]);
      require_common_text(task.config);
      Start start;
      const trainer::RunResult result = train_(
          task.config, task.folder, task.mode,
          {.progress = [&](const trainer::Progress& progress) { take_step(runs_[i], start, progress); },
           .notice = hooks_.notice,
           .stop = hooks_.stop});
      take_end(runs_[i], result);
    }
  }

  void make_side_by_side(const std::vector<std::size_t>& waiting) {
    std::vector<Task> tasks;
    for (const std::size_t i : waiting) tasks.push_back(task_of(runs_[i]));
    std::vector<Start> starts(tasks.size());
    run_side_by_side(
        tasks, jobs_, train_,
        {.begin = [&](std::size_t task) { require_common_text(tasks[task].config); },
         .progress =
             [&](std::size_t task, const trainer::Progress& progress) {
               take_step(runs_[waiting[task]], starts[task], progress);
             },
         .end = [&](std::size_t task,
                    const trainer::RunResult& result) { take_end(runs_[waiting[task]], result); },
         .notice = hooks_.notice,
         .stop = hooks_.stop});
  }

  /// The first step that this call saw of a run, which is not timed.
  struct Start {
    Index step = -1;
    Clock::time_point time = {};
  };

  void take_step(PlannedRun& run, Start& start, const trainer::Progress& progress) {
    write_once();
    if (start.step < 0) start = {.step = progress.step, .time = Clock::now()};
    run.state = RunState::running;
    run.step = progress.step;
    run.loss = progress.loss;
    run.validation_loss = progress.validation_loss;
    run.timed_steps = progress.step - start.step;
    run.seconds = std::chrono::duration<double>(Clock::now() - start.time).count();
    if (hooks_.progress) hooks_.progress(runs_, run);
  }

  void take_end(PlannedRun& run, const trainer::RunResult& result) {
    write_once();
    run.step = result.step;
    run.validation_loss = result.validation_loss;
    if (result.end == trainer::RunEnd::interrupted) {
      interrupted_ = true;
      return;
    }
    run.state = result.end == trainer::RunEnd::diverged ? RunState::diverged : RunState::finished;
    if (hooks_.progress) hooks_.progress(runs_, run);
  }

  void write_once() {
    if (!written_) write_design(design_, folder_);
    written_ = true;
  }

  const Design& design_;
  const fs::path& folder_;
  const Train& train_;
  const RunAllHooks& hooks_;
  int jobs_;
  std::vector<PlannedRun> runs_;
  CommonText text_;
  bool placed_ = false, written_ = false, interrupted_ = false;
};

}  // namespace

Outcome run_all(const Design& design, const fs::path& folder, const Train& train, const RunAllHooks& hooks,
                int jobs) {
  require_extension_of_what_is_there(design, folder);
  fs::create_directories(folder);
  const trainer::LockFile lock(folder);
  Runs runs(design, folder, train, hooks, jobs);
  const bool whole = runs.make_all();
  return {.interrupted = !whole, .runs = runs.take()};
}

std::vector<PlannedRun> look_up(const Design& design, const fs::path& folder) {
  require_extension_of_what_is_there(design, folder);
  std::vector<PlannedRun> runs = planned_runs(design, folder);
  CommonText text;
  look_up_all(design, runs, /*sweep=*/true, text);
  while (sweep_has_ended(runs) && add_next_points(design, folder, runs, text)) {}
  if (!sweep_has_ended(runs)) return runs;
  for (PlannedRun& run : runs) {
    if (run.purpose != Purpose::result) continue;
    run.point =
        best_point(design.sweep, design.contenders[run.contender].config, tried_points(runs, run.contender));
    // At another point it is still to be made: run_all() moves it out of the way.
    if (fs::exists(run.folder / "config.toml") &&
        !setting_difference(trainer::from_toml(run.folder / "config.toml"), config_of(design, run)))
      look_up(run, config_of(design, run), text);
  }
  return runs;
}

}  // namespace aurora::compare
