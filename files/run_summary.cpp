#include "run_summary.hpp"

#include <limits>

namespace aurora::trainer {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kNotDefined = std::numeric_limits<double>::quiet_NaN();

double number(const Json& record, const std::string& key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number() ? found->get<double>() : kNotDefined;
}

struct Mean {
  double sum = 0;
  int count = 0;
  void add(double value) { sum += value, ++count; }
  double value() const { return count > 0 ? sum / count : kNotDefined; }
};

}  // namespace

RunResult summarize(std::span<const Json> records) {
  RunResult result;
  result.validation_loss = result.bits_per_byte = kNotDefined;
  double tokens = 0, step_ms = 0, optimizer_ms = 0;
  Index neuron_step = -1;
  Mean dead, starved, cv;
  for (const Json& record : records) {
    const auto kind = record.value("kind", "");
    if (kind == "train") {
      result.step = record.value("step", result.step);
      tokens += number(record, "tokens");
      step_ms += number(record, "step_ms");
      optimizer_ms += number(record, "optimizer_ms");
    } else if (kind == "eval") {
      result.validation_loss = number(record, "loss");
      result.bits_per_byte = number(record, "bits_per_byte");
    } else if (kind == "neurons") {
      if (const auto step = record.value("step", Index{0}); step != neuron_step) {
        neuron_step = step;
        dead = starved = cv = {};
      }
      dead.add(number(record.at("dead"), "0.1"));
      for (const char* matrix : {"gate", "up"}) {
        starved.add(number(record.at(matrix).at("starved"), "0.1"));
        cv.add(number(record.at(matrix), "update_row_norm_cv"));
      }
    }
    if (const double seconds = number(record, "seconds"); seconds > result.seconds) result.seconds = seconds;
  }
  result.dead = dead.value();
  result.starved = starved.value();
  result.update_row_norm_cv = cv.value();
  result.tokens_per_second = step_ms > 0 ? 1000 * tokens / step_ms : kNotDefined;
  result.optimizer_share = step_ms > 0 ? optimizer_ms / step_ms : kNotDefined;
  return result;
}

Json summary_record(const RunResult& result) {
  return {{"kind", "summary"},
          {"steps", result.step},
          {"val_loss", result.validation_loss},
          {"bits_per_byte", result.bits_per_byte},
          {"dead", result.dead},
          {"starved", result.starved},
          {"update_row_norm_cv", result.update_row_norm_cv},
          {"tokens_per_second", result.tokens_per_second},
          {"optimizer_share", result.optimizer_share},
          {"seconds", result.seconds}};
}

}  // namespace aurora::trainer
