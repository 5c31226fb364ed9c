#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "aurora/value_text.hpp"
#include "command.hpp"
#include "compare_results.hpp"
#include "comparison.hpp"
#include "design.hpp"
#include "export.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {

struct Flags {
  std::string folder;
  std::optional<std::string> exported;
};

void export_results(const std::vector<compare::ExpansionResult>& results, const std::string& folder) {
  if (results.size() > 1) {
    compare::export_comparison(results, folder);
  } else {
    compare::export_comparison(results.front().comparison, folder);
  }
  fmt::print("exported: {}\n", folder);
}

int write_report(const Flags& flags) {
  const std::string& folder = flags.folder;
  if (flags.exported && flags.exported->empty())
    throw std::invalid_argument("--export is empty: name a folder");
  const auto results = compare::write_report(folder);
  for (const auto& [expansion, comparison] : results) {
    if (results.size() > 1) fmt::print("{}\n", bold("expansion " + number_text(expansion), stdout));
    fmt::print("{}\n", wrapped(printable(compare::answer(comparison)), stdout));
  }
  fmt::print("report: {}\n", (std::filesystem::path(folder) / "report.html").string());
  if (flags.exported) export_results(results, *flags.exported);
  for (const auto& [expansion, comparison] : results) print_warnings(comparison, "report");
  return kGood;
}

}  // namespace

void add_report(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "report", "report.html and summary.json of any folder of runs, also while they still run");
  const auto flags = std::make_shared<Flags>();
  command->add_option("folder", flags->folder, "folder of a comparison, or one with run folders in it")
      ->required();
  command->add_option(
      "--export", flags->exported,
      "folder for what a paper takes: CSV and SVG of every figure, tables, LaTeX, environment.json");
  command->callback([flags, &chosen] { chosen = [flags] { return write_report(*flags); }; });
}

}  // namespace aurora::cli
