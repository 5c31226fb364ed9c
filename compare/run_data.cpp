#include "run_data.hpp"

#include <limits>
#include <map>
#include <stdexcept>

#include "run_log.hpp"
#include "statistics.hpp"

namespace aurora::compare {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();

const Json& member(const Json& object, const char* key) {
  static const Json none;
  const auto found = object.find(key);  // end() where `object` is no object
  return found == object.end() ? none : *found;
}

double number(const Json& value) { return value.is_number() ? value.get<double>() : kNotDefined; }

/// Whole numbers of logs are small; anything else is as good as none.
Index whole(const Json& value) {
  return value.is_number_integer() || value.is_number_unsigned() ? value.get<Index>() : -1;
}

std::vector<double> numbers(const Json& list) {
  std::vector<double> values;
  if (!list.is_array()) return values;
  for (const Json& value : list) values.push_back(number(value));
  return values;
}

std::vector<double> mean_of(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> mean;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) mean.push_back((a[i] + b[i]) / 2);
  return mean;
}

LayerRecord layer_record(const Json& record) {
  const Json &gate = member(record, "gate"), &up = member(record, "up");
  const auto starved = [](const Json& matrix) { return number(member(member(matrix, "starved"), "0.1")); };
  return {.dead = number(member(member(record, "dead"), "0.1")),
          .starved = (starved(gate) + starved(up)) / 2,
          .leverage_gate_up = mean_of(numbers(member(gate, "leverage")), numbers(member(up, "leverage"))),
          .leverage_down = numbers(member(member(record, "down"), "leverage"))};
}

}  // namespace

double swept_lr(const trainer::TrainConfig& config) {
  return lr_of(config.rule());
}

std::string text_of(std::string_view sha256, Index training_bytes, Index validation_bytes) {
  return "sha256 " + std::string(sha256) + " of " + std::to_string(training_bytes) + " + " +
         std::to_string(validation_bytes) + " bytes";
}

std::string text_of(const RunData& run) {
  const Json& data = member(run.header, "data");
  const Json& sha256 = member(data, "sha256");
  if (!sha256.is_string()) return {};
  return text_of(sha256.get<std::string>(), whole(member(data, "training_bytes")),
                 whole(member(data, "validation_bytes")));
}

RunData read_run(const std::filesystem::path& folder) {
  RunData run;
  run.folder = folder;
  run.config = trainer::from_toml(folder / "config.toml");
  const auto file = folder / "log.jsonl";
  auto contents = trainer::read_damaged_log(file);
  run.header = Json::object();
  if (contents.incomplete)
    run.warnings.push_back(file.string() + ": the last line is cut off; the last whole line counts");
  if (const auto bad = contents.bad_lines.size(); bad > 0) {
    run.warnings.push_back(
        file.string() + ": " + std::to_string(bad) + (bad == 1 ? " line is" : " lines are") +
        " no record and left out, the first is line " + std::to_string(contents.bad_lines[0]));
  }

  run.result = trainer::summarize(contents.records);
  std::map<Index, double> seconds_of_step;
  std::vector<double> step_ms, optimizer_ms;
  for (const Json& record : contents.records) {
    const std::string kind = record["kind"];
    const Index step = whole(member(record, "step"));
    if (kind == "header" && run.header.empty()) {
      run.header = record;
    } else if (kind == "train") {
      seconds_of_step[step] = number(member(record, "seconds"));
      step_ms.push_back(number(member(record, "step_ms")));
      optimizer_ms.push_back(number(member(record, "optimizer_ms")));
    } else if (kind == "eval") {
      run.validation.push_back({step, number(member(record, "seconds")), number(member(record, "loss"))});
    } else if (kind == "neurons") {
      if (run.neurons.empty() || run.neurons.back().step != step) {
        const auto found = seconds_of_step.find(step);
        run.neurons.push_back({step, found == seconds_of_step.end() ? kNotDefined : found->second, {}});
      }
      run.neurons.back().layers.push_back(layer_record(record));
    }
  }
  const auto is_nan = [](double value) { return value != value; };
  std::erase_if(step_ms, is_nan);
  std::erase_if(optimizer_ms, is_nan);
  run.step_ms = median(std::move(step_ms));
  run.optimizer_ms = median(std::move(optimizer_ms));
  if (!contents.records.empty()) {
    const std::string last = contents.records.back()["kind"];
    if (last == "summary") run.state = RunState::finished;
    if (last == "diverged") run.state = RunState::diverged;
  }
  return run;
}

}  // namespace aurora::compare
