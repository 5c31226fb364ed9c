#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "command.hpp"
#include "comparison.hpp"
#include "design.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {

int write_report(const std::string& folder) {
  const auto results = compare::write_report(folder);
  for (const auto& [expansion, comparison] : results) {
    if (results.size() > 1) fmt::print("{}\n", bold("expansion " + compare::number_text(expansion), stdout));
    fmt::print("{}\n", printable(compare::answer(comparison)));
  }
  fmt::print("report: {}\n", (std::filesystem::path(folder) / "report.html").string());
  std::fflush(stdout);
  for (const auto& [expansion, comparison] : results) {
    for (const std::string& warning : comparison.warnings)
      cli::show(stderr, fmt::format("aurora report: warning: {}\n", printable(warning)));
  }
  return kGood;
}

}  // namespace

void add_report(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "report", "report.html and summary.json of any folder of runs, also while they still run");
  const auto folder = std::make_shared<std::string>();
  command->add_option("folder", *folder, "folder of a comparison, or one with run folders in it")->required();
  command->callback([folder, &chosen] { chosen = [folder] { return write_report(*folder); }; });
}

}  // namespace aurora::cli
