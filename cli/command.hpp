#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <string>
#include <string_view>

namespace aurora::cli {

/// What the command returns to the shell.
inline constexpr int kGood = 0, kFailed = 1, kUsage = 2, kDiverged = 3, kStopped = 130;

/// Runs a subcommand whose flags have been read; returns an exit code.
using Command = std::function<int()>;

// Each adds one subcommand with its flags to `app`; when the user has chosen it, `chosen` is set to what runs
// it.
void add_train(CLI::App& app, Command& chosen);
void add_compare(CLI::App& app, Command& chosen);
void add_report(CLI::App& app, Command& chosen);
void add_eval(CLI::App& app, Command& chosen);
void add_sample(CLI::App& app, Command& chosen);
void add_inspect(CLI::App& app, Command& chosen);
void add_direction(CLI::App& app, Command& chosen);
void add_bench(CLI::App& app, Command& chosen);
void add_doctor(CLI::App& app, Command& chosen);

/// Name and version of the command, the BLAS with its kernel, torch.
std::string version_text();

/// The part before the first newline.
std::string first_line(std::string_view text);

/// Text from files, which may hold anything, for a terminal: bytes that are no UTF-8 and ASCII controls as
/// \xNN, other controls and what turns the direction of text as \u{NNNN}.
std::string printable(std::string_view text);

/// An integer between least and most. Throws std::invalid_argument that names the flag, the value and the
/// bounds.
long long integer(const std::string& flag, const std::string& text, long long least, long long most);

/// A finite number >= least. Errors as integer.
double number(const std::string& flag, const std::string& text, double least);

}  // namespace aurora::cli
