#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "aurora/backend.hpp"
#include "aurora/rules.hpp"
#include "aurora/version.hpp"
#include "command.hpp"
#include "json_line.hpp"
#include "terminal.hpp"
#include "train.hpp"

namespace aurora::cli {

namespace {

/// Cores this process may run on.
int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

double memory_gib() {
  return static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE)) /
         (1 << 30);
}

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}", __clang_version__);
#else
  return fmt::format("g++ {}", __VERSION__);
#endif
}

/// What keeps training here from the best there is.
std::vector<std::string> shortcomings(std::size_t devices) {
  std::vector<std::string> found;
  if (const auto warning = blas_warning(); !warning.empty()) found.push_back(warning);
  if (std::string_view(AURORA_BUILD_TYPE) != "Release") {
    found.push_back(
        fmt::format("a {} build is slow: configure with cmake --preset release", AURORA_BUILD_TYPE));
  }
  if (devices < 2) found.emplace_back("GPU training: torch sees no device but the CPU");
  return found;
}

int doctor(bool json) {
  const auto devices = trainer::devices();
  const auto missing = shortcomings(devices.size());
  std::vector<std::pair<std::string, std::string>> facts = {
      {"version", AURORA_VERSION},
      {"build", AURORA_BUILD_TYPE},
      {"compiler", compiler()},
      {"blas", blas_description()},
      {"torch", trainer::torch_description().substr(std::string_view("torch ").size())},
      {"cores", fmt::format("{} usable of {}", usable_cores(), sysconf(_SC_NPROCESSORS_ONLN))},
      {"memory", fmt::format("{:.1f} GiB", memory_gib())},
  };
  const AuroraOptions defaults;
  for (const auto& [device, name] : devices) {
    const std::string polar = method_text(defaults, device == "cpu" ? Device::cpu : Device::accelerator);
    facts.emplace_back(device, fmt::format("{}; polar=auto: {}", name.empty() ? "unknown" : name, polar));
  }
  if (json) {
    nlohmann::ordered_json object;
    for (const auto& [name, value] : facts) object[name] = value;
    object["missing"] = missing;
    fmt::print("{}", json_line(object));
    return kGood;
  }
  constexpr std::size_t kIndent = 10;
  for (const auto& [name, value] : facts) {
    std::string indented;
    for (const char c : value) {
      indented += c;
      if (c == '\n') indented.append(kIndent, ' ');
    }
    fmt::print("{:<{}}{}\n", name, kIndent, indented);
  }
  for (const auto& line : missing) fmt::print("{:<{}}{}\n", "missing", kIndent, line);
  return kGood;
}

}  // namespace

void add_doctor(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("doctor", "build, BLAS, torch and machine, and what is missing");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "results as one JSON object");
  command->callback([json, &chosen] { chosen = [json] { return doctor(*json); }; });
}

}  // namespace aurora::cli
