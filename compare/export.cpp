#include "export.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "atomic_file.hpp"
#include "aurora/value_text.hpp"
#include "design.hpp"
#include "report_figures.hpp"
#include "report_text.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// A file of comma-separated values, its first line the names.
class Csv {
 public:
  explicit Csv(const std::vector<std::string>& names) { line(names); }

  void line(const std::vector<std::string>& fields) {
    for (std::size_t i = 0; i < fields.size(); ++i) text_ += (i > 0 ? "," : "") + csv_field(fields[i]);
    text_ += '\n';
  }
  void write(const fs::path& file) const { trainer::atomic_write_text(file, text_); }

 private:
  std::string text_;
};

std::string field(double value) { return std::isfinite(value) ? number_text(value) : ""; }

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<std::string> fields(const Estimate& value) {
  return {field(value.mean), field(value.low), field(value.high)};
}

/// A name as a file can have it.
std::string file_name(std::string name) {
  std::ranges::replace_if(
      name, [](unsigned char c) { return std::isalnum(c) == 0 && c != '.'; }, '-');
  return name;
}

struct Measure {
  const char* name;
  Estimate OptimizerResult::*value;
};
constexpr Measure kMeasures[] = {{"val_loss", &OptimizerResult::validation_loss},
                                 {"bits_per_byte", &OptimizerResult::bits_per_byte},
                                 {"starved", &OptimizerResult::starved},
                                 {"dead", &OptimizerResult::dead},
                                 {"update_row_norm_cv", &OptimizerResult::update_row_norm_cv}};

void write_optimizers(const Comparison& comparison, const fs::path& folder) {
  std::vector<std::string> names = {"optimizer", "lr", "seeds", "diverged"};
  for (const Measure& measure : kMeasures)
    for (const char* part : {"", "_low", "_high"}) names.push_back(std::string(measure.name) + part);
  Csv optimizers(joined(names, {"step_ms", "optimizer_ms", "optimizer_share", "tokens_per_second"}));
  names = {"optimizer", "seed"};
  for (const Measure& measure : kMeasures) names.emplace_back(measure.name);
  Csv runs(names);
  for (const OptimizerResult& result : comparison.optimizers) {
    std::vector<std::string> line = {result.name, field(result.lr), std::to_string(result.seeds.size()),
                                     std::to_string(result.diverged.size())};
    for (const Measure& measure : kMeasures) line = joined(line, fields(result.*measure.value));
    optimizers.line(joined(line, {field(result.step_ms), field(result.optimizer_ms),
                                  field(result.optimizer_share), field(result.tokens_per_second)}));
    for (std::size_t i = 0; i < result.seeds.size(); ++i) {
      std::vector<std::string> run = {result.name, std::to_string(result.seeds[i])};
      for (const Measure& measure : kMeasures) run.push_back(field((result.*measure.value).values.at(i)));
      runs.line(run);
    }
  }
  optimizers.write(folder / "optimizers.csv");
  runs.write(folder / "runs.csv");
}

void write_differences(const Comparison& comparison, const fs::path& folder) {
  Csv csv({"rates", "a", "b", "seeds", "val_loss", "low", "high", "holm_low", "holm_high", "holm_p"});
  const auto add = [&](const char* rates, const std::vector<Difference>& differences) {
    for (const Difference& one : differences) {
      const auto line = joined({rates, one.a, one.b, std::to_string(one.seeds)}, fields(one.validation_loss));
      csv.line(joined(line, {field(one.adjusted.low), field(one.adjusted.high), field(one.adjusted.p)}));
    }
  };
  add("result", comparison.differences);
  if (comparison.equal_rates) {
    add(comparison.equal_rates->of_the_sweep ? "configured, seeds of the sweep" : "configured",
        comparison.equal_rates->differences);
  }
  csv.write(folder / "differences.csv");
}

void write_sweep(const Comparison& comparison, const fs::path& folder) {
  Csv csv({"optimizer", "factor", "lr", "others", "finished", "running", "diverged", "val_loss", "starved",
           "dead"});
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const SweptRate& rate : result.swept) {
      std::string others;
      for (const auto& [key, value] : rate.others)
        others += (others.empty() ? "" : " ") + key + "=" + number_text(value);
      csv.line({result.name, field(rate.factor), field(rate.lr), others, std::to_string(rate.finished),
                std::to_string(rate.running), std::to_string(rate.diverged), field(rate.validation_loss),
                field(rate.starved), field(rate.dead)});
    }
  }
  csv.write(folder / "sweep.csv");
}

void write_hyperparameters(const Comparison& comparison, const fs::path& folder) {
  const auto unequal = unequal_hyperparameters(comparison);
  Csv csv({"optimizer", "setting", "value", "equal"});
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const auto& [key, value] : result.hyperparameters)
      csv.line({result.name, key, value, std::ranges::find(unequal, key) == unequal.end() ? "yes" : "no"});
  }
  csv.write(folder / "hyperparameters.csv");
}

void write_neurons(const Comparison& comparison, const fs::path& folder) {
  Csv fates({"optimizer", "seed", "layer", "what", "neuron", "first", "since", "records", "revived"});
  Csv layers({"optimizer", "step", "layer", "starved", "dead"});
  for (const OptimizerResult& result : comparison.optimizers) {
    for (const NeuronFate& fate : result.fates) {
      fates.line({result.name, std::to_string(fate.seed), std::to_string(fate.layer), fate.what,
                  std::to_string(fate.neuron), std::to_string(fate.first),
                  fate.since < 0 ? "" : std::to_string(fate.since), std::to_string(fate.records),
                  std::to_string(fate.revived)});
    }
    for (std::size_t record = 0; record < result.neuron_steps.size(); ++record) {
      for (std::size_t layer = 0; layer < result.starved_by_layer.size(); ++layer)
        layers.line({result.name, std::to_string(result.neuron_steps[record]), std::to_string(layer),
                     field(result.starved_by_layer[layer][record]),
                     field(result.dead_by_layer[layer][record])});
    }
  }
  fates.write(folder / "neurons.csv");
  layers.write(folder / "starved-by-layer.csv");
  for (const OptimizerResult& result : comparison.optimizers) {
    if (const auto map = starved_map(comparison, result))
      trainer::atomic_write_text(folder / ("starved-by-layer-" + file_name(result.name) + ".svg"),
                                 standalone_svg(*map));
  }
}

void write_figure(const std::string& name, const Chart& chart, const fs::path& folder) {
  Csv csv({"optimizer", chart.x.label, chart.y.label, "low", "high", "at"});
  for (const Series& series : chart.series) {
    for (const Point& point : series.points)
      csv.line({series.name, field(point.x), field(point.y), field(point.low), field(point.high), point.at});
  }
  csv.write(folder / (name + ".csv"));
  trainer::atomic_write_text(folder / (name + ".svg"), standalone_svg(chart));
}

void write_json(const fs::path& file, const Json& object) {
  trainer::atomic_write_text(file, object.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Json environment(const Comparison& comparison) {
  return {{"machine", comparison.device_name}, {"device", comparison.device},
          {"threads", comparison.threads},     {"wait_policy", comparison.wait_policy},
          {"blas", comparison.blas},           {"torch", comparison.torch},
          {"aurora", comparison.version},      {"commit", comparison.commit},
          {"started", comparison.started},     {"command", comparison.command},
          {"answer", answer(comparison)},      {"warnings", comparison.warnings},
          {"data", data_json(comparison)},     {"config", comparison.config}};
}

std::string latex(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\textbackslash{}";
    } else if (c == '~' || c == '^') {
      out += std::string("\\") + c + "{}";
    } else if (std::string_view("&%$#_{}").find(c) != std::string_view::npos) {
      out += std::string("\\") + c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string latex_number(double value, int decimals, bool with_sign = false) {
  return std::isfinite(value)
             ? fmt::format(fmt::runtime(with_sign ? "${:+.{}f}$" : "${:.{}f}$"), value, decimals)
             : "--";
}

std::string latex_interval(double low, double high, int decimals) {
  return std::isfinite(low) ? fmt::format("$[{:.{}f},\\,{:.{}f}]$", low, decimals, high, decimals) : "--";
}

}  // namespace

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string latex_table(const Comparison& comparison) {
  std::string text = fmt::format(
      "% Validation loss in nats per token, its difference to {} with Holm's 95 % interval, shares in "
      "percent.\n"
      "\\begin{{tabular}}{{lrrrrrrr}}\n\\hline\n"
      "optimizer & lr & loss & difference & 95\\,\\% & starved & dead & ms/step \\\\\n\\hline\n",
      comparison.baseline);
  for (const OptimizerResult& result : comparison.optimizers) {
    const Difference* found = against_baseline(comparison, result.name);
    text += fmt::format(
        "{} & {} & {} & {} & {} & {} & {} & {} \\\\\n", latex(result.name),
        std::isfinite(result.lr) ? number_text(result.lr) : "--",
        latex_number(result.validation_loss.mean, kLossDecimals),
        found == nullptr ? "--"
                         : latex_number(found->validation_loss.mean, kLossDecimals, /*with_sign=*/true),
        found == nullptr ? "--" : latex_interval(found->adjusted.low, found->adjusted.high, kLossDecimals),
        latex_number(100 * result.starved.mean, 1), latex_number(100 * result.dead.mean, 1),
        latex_number(result.step_ms, 1));
  }
  return text + "\\hline\n\\end{tabular}\n";
}

void export_comparison(const Comparison& comparison, const fs::path& folder) {
  fs::create_directories(folder);
  for (const auto& [name, chart] : charts_of(comparison)) write_figure(name, chart, folder);
  write_optimizers(comparison, folder);
  write_differences(comparison, folder);
  write_sweep(comparison, folder);
  write_hyperparameters(comparison, folder);
  write_neurons(comparison, folder);
  trainer::atomic_write_text(folder / "results.tex", latex_table(comparison));
  write_json(folder / "environment.json", environment(comparison));
}

void export_comparison(const std::vector<ExpansionResult>& expansions, const fs::path& folder) {
  fs::create_directories(folder);
  if (const auto chart = gain_chart(expansions)) write_figure("gain", *chart, folder);
  if (const auto chart = starved_by_expansion_chart(expansions)) write_figure("starved", *chart, folder);
  for (const ExpansionResult& result : expansions)
    export_comparison(result.comparison, folder / ("expansion-" + number_text(result.expansion)));
}

}  // namespace aurora::compare
