#include <algorithm>
#include <cmath>

#include "atomic_file.hpp"
#include "aurora/value_text.hpp"
#include "comparison.hpp"
#include "design.hpp"

namespace aurora::compare {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

template <class Interval>
Json interval_json(const Interval& value) {
  return std::isfinite(value.low) ? Json({value.low, value.high}) : Json(nullptr);
}

Json estimate_json(const Estimate& value) {
  Json values = Json::array();
  for (const double one : value.values) values.push_back(number(one));
  return {{"mean", number(value.mean)}, {"ci95", interval_json(value)}, {"values", std::move(values)}};
}

Json difference_json(const Difference& difference) {
  return {{"a", difference.a},
          {"b", difference.b},
          {"val_loss", estimate_json(difference.validation_loss)},
          {"seeds", difference.seeds},
          {"holm", {{"ci95", interval_json(difference.adjusted)}, {"p", number(difference.adjusted.p)}}}};
}

Json differences_json(const std::vector<Difference>& differences) {
  Json list = Json::array();
  for (const Difference& one : differences) list.push_back(difference_json(one));
  return list;
}

Json swept_json(const SweptRate& rate) {
  return {{"factor", rate.factor},
          {"lr", rate.lr},
          {"val_loss", number(rate.validation_loss)},
          {"settings", Json(rate.others)},
          {"finished", rate.finished},
          {"running", rate.running},
          {"diverged", rate.diverged},
          {"starved", number(rate.starved)},
          {"dead", number(rate.dead)}};
}

Json equal_rates_json(const std::optional<EqualRates>& rates) {
  if (!rates) return nullptr;
  Json optimizers = Json::object();
  for (const OptimizerResult& result : rates->optimizers) {
    optimizers[result.name] = {{"val_loss", estimate_json(result.validation_loss)},
                               {"lr", number(result.lr)},
                               {"seeds", result.seeds}};
  }
  return {{"seeds_of", rates->of_the_sweep ? "sweep" : "result"},
          {"optimizers", std::move(optimizers)},
          {"differences", differences_json(rates->differences)}};
}

Json hyperparameters_json(const OptimizerResult& result) {
  Json values = Json::object();
  for (const auto& [key, value] : result.hyperparameters) values[key] = value;
  return values;
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.is_directory()) found.push_back(entry.path());
  return found;
}

/// The expansion factors of DIR/expansion-<e>, in order.
std::vector<std::pair<double, fs::path>> expansions_of(const fs::path& folder) {
  std::vector<std::pair<double, fs::path>> found;
  constexpr std::string_view prefix = "expansion-";
  for (const fs::path& path : folders_in(folder)) {
    const std::string name = path.filename().string();
    if (!name.starts_with(prefix)) continue;
    const std::string text = name.substr(prefix.size());
    char* end = nullptr;
    const double expansion = std::strtod(text.c_str(), &end);
    if (!text.empty() && *end == '\0' && std::isfinite(expansion)) found.emplace_back(expansion, path);
  }
  std::ranges::sort(found);
  return found;
}

double header_expansion(const Json& config) {
  const auto model = config.find("model");
  if (model == config.end()) return std::numeric_limits<double>::quiet_NaN();
  const auto expansion = model->find("expansion");
  return expansion != model->end() && expansion->is_number() ? expansion->get<double>()
                                                             : std::numeric_limits<double>::quiet_NaN();
}

void write_pair(const fs::path& folder, const Json& object, const std::string& page) {
  trainer::atomic_write_text(folder / "summary.json",
                             object.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  trainer::atomic_write_text(folder / "report.html", page);
}

}  // namespace

nlohmann::ordered_json data_json(const Comparison& comparison) {
  return {{"files", comparison.data_files},
          {"bytes", comparison.data_bytes},
          {"validation_bytes", comparison.validation_bytes},
          {"evaluated_tokens", comparison.eval_tokens},
          {"sha256", comparison.data_sha256}};
}

nlohmann::ordered_json summary(const Comparison& comparison) {
  Json optimizers = Json::object();
  for (const OptimizerResult& result : comparison.optimizers) {
    Json diverged_at = Json::array(), swept = Json::array();
    for (const auto& [seed, step] : result.diverged) diverged_at.push_back({{"seed", seed}, {"step", step}});
    for (const SweptRate& rate : result.swept) swept.push_back(swept_json(rate));
    optimizers[result.name] = {{"val_loss", estimate_json(result.validation_loss)},
                               {"bits_per_byte", estimate_json(result.bits_per_byte)},
                               {"dead", estimate_json(result.dead)},
                               {"starved", estimate_json(result.starved)},
                               {"update_row_norm_cv", estimate_json(result.update_row_norm_cv)},
                               {"step_ms", number(result.step_ms)},
                               {"optimizer_ms", number(result.optimizer_ms)},
                               {"optimizer_share", number(result.optimizer_share)},
                               {"tokens_per_second", number(result.tokens_per_second)},
                               {"lr", number(result.lr)},
                               {"seeds", result.seeds},
                               {"running", result.running},
                               {"diverged", result.diverged.size()},
                               {"diverged_at", std::move(diverged_at)},
                               {"swept", std::move(swept)},
                               {"persistence",
                                {{"ever", estimate_json(result.persistence.ever)},
                                 {"at_end", estimate_json(result.persistence.at_end)},
                                 {"lasting", estimate_json(result.persistence.lasting)},
                                 {"revived", estimate_json(result.persistence.revived)}}},
                               {"hyperparameters", hyperparameters_json(result)}};
  }
  return {{"answer", answer(comparison)},
          {"optimizers", std::move(optimizers)},
          {"differences", differences_json(comparison.differences)},
          {"equal_rates", equal_rates_json(comparison.equal_rates)},
          {"not_equal", unequal_hyperparameters(comparison)},
          {"incomparable", comparison.incomparable},
          {"baseline", comparison.baseline},
          {"steps", comparison.steps},
          {"tokens_per_step", comparison.tokens_per_step},
          {"parameters", comparison.parameters},
          {"data", data_json(comparison)},
          {"seeds", comparison.seeds},
          {"initial_weights_sha256", comparison.initial_weights_sha256},
          {"data_order_sha256", comparison.data_order_sha256},
          {"complete", comparison.complete},
          {"warnings", comparison.warnings},
          {"command", comparison.command},
          {"version", comparison.version},
          {"commit", comparison.commit},
          {"device", comparison.device},
          {"device_name", comparison.device_name},
          {"wait_policy", comparison.wait_policy},
          {"threads", comparison.threads},
          {"blas", comparison.blas},
          {"torch", comparison.torch}};
}

std::vector<ExpansionResult> write_report(const fs::path& folder) {
  std::vector<ExpansionResult> results;
  const auto expansions = expansions_of(folder);
  if (expansions.empty()) {
    Comparison comparison = read_comparison(folder);
    write_pair(folder, summary(comparison), report_html(comparison));
    const double expansion = header_expansion(comparison.config);
    results.push_back({expansion, std::move(comparison)});
    return results;
  }
  Json summaries = Json::object();
  for (const auto& [expansion, path] : expansions) {
    Comparison comparison = read_comparison(path);
    Json object = summary(comparison);
    write_pair(path, object, report_html(comparison));
    summaries[number_text(expansion)] = std::move(object);
    results.push_back({expansion, std::move(comparison)});
  }
  write_pair(folder, {{"expansions", std::move(summaries)}}, report_html(results));
  return results;
}

}  // namespace aurora::compare
