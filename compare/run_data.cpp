#include "run_data.hpp"

#include <algorithm>
#include <limits>
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

std::vector<Index> indices(const Json& list) {
  std::vector<Index> values;
  if (!list.is_array()) return values;
  for (const Json& value : list)
    if (whole(value) >= 0) values.push_back(whole(value));
  return values;
}

LayerRecord layer_record(const Json& record) {
  const Json &gate = member(record, "gate"), &up = member(record, "up");
  const auto starved = [](const Json& matrix) { return number(member(member(matrix, "starved"), "0.1")); };
  const bool listed = member(gate, "starved_neurons").is_array();
  return {.neurons = listed ? whole(member(record, "neurons")) : -1,
          .dead = number(member(member(record, "dead"), "0.1")),
          .starved = (starved(gate) + starved(up)) / 2,
          .leverage_gate_up = mean_of(numbers(member(gate, "leverage")), numbers(member(up, "leverage"))),
          .leverage_down = numbers(member(member(record, "down"), "leverage")),
          .starved_gate = indices(member(gate, "starved_neurons")),
          .starved_up = indices(member(up, "starved_neurons")),
          .dead_neurons = indices(member(record, "dead_neurons"))};
}

/// Whether the record has the numbers that a run's summary is made of.
bool well_formed(const Json& record) {
  const std::string kind = record["kind"];
  if (kind == "train" || kind == "eval") return whole(member(record, "step")) > 0;
  if (kind != "neurons") return true;
  return whole(member(record, "step")) > 0 && whole(member(record, "layer")) >= 0 &&
         member(record, "dead").is_object() && member(member(record, "gate"), "starved").is_object() &&
         member(member(record, "up"), "starved").is_object();
}

}  // namespace

double swept_lr(const trainer::TrainConfig& config) {
  return std::visit([](const auto& options) { return options.lr; }, config.optim);
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
  const auto malformed = std::erase_if(contents.records, [](const Json& r) { return !well_formed(r); });
  if (const auto bad = contents.bad_lines.size() + malformed; bad > 0) {
    run.warnings.push_back(
        file.string() + ": " + std::to_string(bad) + (bad == 1 ? " line is" : " lines are") +
        " no record and left out" +
        (contents.bad_lines.empty() ? "" : ", the first is line " + std::to_string(contents.bad_lines[0])));
  }

  run.result = trainer::summarize(contents.records);
  std::vector<double> step_ms, optimizer_ms, product_ms;
  for (const Json& record : contents.records) {
    const std::string kind = record["kind"];
    const Index step = whole(member(record, "step"));
    if (kind == "header" && run.header.empty()) {
      run.header = record;
    } else if (kind == "train") {
      step_ms.push_back(number(member(record, "step_ms")));
      optimizer_ms.push_back(number(member(record, "optimizer_ms")));
    } else if (kind == "eval") {
      run.validation.push_back({step, number(member(record, "loss"))});
      run.eval_tokens = std::max<Index>(whole(member(record, "tokens")), 0);
      if (const double ms = number(member(record, "product_ms")); ms > 0) product_ms.push_back(ms);
    } else if (kind == "neurons") {
      if (run.neurons.empty() || run.neurons.back().step != step) run.neurons.push_back({step, {}});
      run.neurons.back().layers.push_back(layer_record(record));
    }
  }
  run.step_ms = median(std::move(step_ms));
  run.optimizer_ms = median(std::move(optimizer_ms));
  run.product_ms = product_ms.size() < kLeastProducts ? kNotDefined : median(std::move(product_ms));
  if (!contents.records.empty()) {
    const std::string last = contents.records.back()["kind"];
    if (last == "summary") run.state = RunState::finished;
    if (last == "diverged") run.state = RunState::diverged;
  }
  return run;
}

}  // namespace aurora::compare
