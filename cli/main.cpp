#include <fmt/format.h>
#include <utf8.h>

#include <CLI/Error.hpp>
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "aurora/backend.hpp"
#include "aurora/step.hpp"
#include "aurora/value_text.hpp"
#include "aurora/version.hpp"
#include "command.hpp"
#include "process.hpp"
#include "ranks.hpp"
#include "terminal.hpp"
#include "text_data.hpp"
#include "train.hpp"

namespace aurora::cli {

std::string first_line(std::string_view text) { return std::string(text.substr(0, text.find('\n'))); }

namespace {

/// Controls, what turns the direction of text, and what breaks lines: a terminal obeys these.
bool is_shown(char32_t code) {
  const auto between = [code](char32_t first, char32_t last) { return code >= first && code <= last; };
  return !(code < 0x20 || between(0x7F, 0x9F) || code == 0xAD || code == 0x61C || between(0x200B, 0x200F) ||
           between(0x2028, 0x202E) || between(0x2060, 0x206F) || code == 0xFEFF || between(0xFFF9, 0xFFFB) ||
           between(0xE0000, 0xE007F));
}

}  // namespace

std::string printable(std::string_view text) {
  const bool valid = trainer::is_utf8(text, false);
  std::string out;
  for (auto next = text.begin(); next != text.end();) {
    const auto begin = next;
    const std::uint32_t code = valid ? utf8::unchecked::next(next) : static_cast<unsigned char>(*next++);
    if (is_shown(code) && (valid || code < 0x80)) {
      out.append(begin, next);
    } else if (code < 0x80 || !valid) {
      out += fmt::format("\\x{:02x}", code);
    } else {
      out += fmt::format("\\u{{{:x}}}", code);
    }
  }
  return out;
}

long long integer(const std::string& flag, const std::string& text, long long least, long long most) {
  const Integers bounds{least, most};
  long long value = 0;
  if (!read_number(value, text, bounds))
    throw std::invalid_argument(fmt::format("{} must be {}: {}", flag, bounds.text(), text));
  return value;
}

double number(const std::string& flag, const std::string& text, double least) {
  const Numbers bounds{.low = least};
  double value = 0;
  if (!read_number(value, text, bounds))
    throw std::invalid_argument(fmt::format("{} must be {}: {}", flag, bounds.text(), text));
  return value;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* subcommand : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(subcommand->get_name());
  return names;
}

std::string version_text() {
  return fmt::format("aurora {}\nBLAS: {}\n{}\n", AURORA_VERSION, blas_description(),
                     first_line(trainer::torch_description()));
}

namespace {

/// The subcommand that was chosen, or the command itself.
const CLI::App& chosen_app(const CLI::App& app) {
  const auto subcommands = app.get_subcommands();
  return subcommands.empty() ? app : *subcommands.front();
}

std::string place(const CLI::App& app) {
  const CLI::App& chosen = chosen_app(app);
  return &chosen == &app ? "aurora" : "aurora " + chosen.get_name();
}

/// What CLI11 could not read, in one line.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& chosen = chosen_app(app);
  const auto unexpected = app.remaining(true);
  for (const auto& argument : unexpected) {
    if (argument.size() < 2 || argument.front() != '-') continue;
    std::vector<std::string> flags;
    for (const CLI::Option* option : chosen.get_options()) {
      for (const auto& name : option->get_lnames()) flags.push_back("--" + name);
    }
    const std::string flag = argument.substr(0, argument.find('='));
    return fmt::format("unknown flag {}: did you mean {}? (--help lists them all)", flag,
                       nearest(flag, flags));
  }
  if (!unexpected.empty()) {
    return fmt::format("unexpected argument '{}' (--help lists the flags)", unexpected.front());
  }
  std::string message = first_line(error.what());
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const std::string flag = message.substr(0, message.find(':'));
    return message.find("received") == std::string::npos ? fmt::format("{} needs a value", flag)
                                                         : fmt::format("{} is given more than once", flag);
  }
  return message;
}

/// A first argument that is neither a flag nor a subcommand; empty if there is none.
std::string unknown_subcommand(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return {};
  const std::vector<std::string> names = command_names(app);
  if (std::ranges::find(names, argv[1]) != names.end()) return {};
  return fmt::format("unknown command '{}': did you mean '{}'? (aurora --help lists them all)", argv[1],
                     nearest(argv[1], names));
}

int report_error(std::string_view where, std::string_view message, int code) {
  let_first_rank_speak();
  show(stderr, fmt::format("{}: {}\n", where, printable(first_line(message))));
  return code;
}

int run_command(int argc, char** argv) {
  CLI::App app(
      "Trains small language models with the Muon family of optimizers and shows how their neurons fare.",
      "aurora");
  Command chosen;
  bool version = false;
  app.add_flag("--version", version, "version, BLAS and its kernel, torch");
  add_train(app, chosen);
  add_compare(app, chosen);
  add_report(app, chosen);
  add_eval(app, chosen);
  add_sample(app, chosen);
  add_inspect(app, chosen);
  add_direction(app, chosen);
  add_bench(app, chosen);
  add_doctor(app, chosen);
  add_help(app, chosen);
  add_completion(app, chosen);
  app.require_subcommand(0, 1);  // a second name is an argument, as in help train

  if (const auto message = unknown_subcommand(app, argc, argv); !message.empty()) {
    return report_error("aurora", message, kUsage);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return report_error(place(app), usage_message(app, error), kUsage);
  }
  if (version) {
    fmt::print("{}", version_text());
    if (const auto warning = blas_warning(); !warning.empty())
      show(stderr, fmt::format("aurora: warning: {}\n", warning));
    return kGood;
  }
  if (!chosen) {
    return report_error("aurora",
                        fmt::format("name a command: {} (aurora help)", fmt::join(command_names(app), ", ")),
                        kUsage);
  }
  try {
    if (const std::string name = chosen_app(app).get_name(); name != "train") require_one_process(name);
    return chosen();
  } catch (const std::invalid_argument& error) {
    return report_error(place(app), error.what(), kUsage);
  } catch (const std::bad_alloc&) {
    return report_error(place(app), "not enough memory: a smaller model, batch or context needs less",
                        kFailed);
  } catch (const std::exception& error) {
    return report_error(place(app), error.what(), kFailed);
  }
}

}  // namespace
}  // namespace aurora::cli

int main(int argc, char** argv) {
  try {
    aurora::cli::fill_standard_descriptors();
    aurora::cli::require_stack();
    const int code = aurora::cli::run_command(argc, argv);
    if (std::fflush(stdout) != 0 && code == aurora::cli::kGood) {
      return aurora::cli::report_error("aurora", fmt::format("standard output: {}", std::strerror(errno)),
                                       aurora::cli::kFailed);
    }
    return code;
  } catch (const std::exception& error) {
    return aurora::cli::report_error("aurora", error.what(), aurora::cli::kFailed);
  }
}
