#pragma once

#include <CLI/App.hpp>
#include <string>

namespace aurora::cli {

// The commands and their flags as the parser has them, in other forms than --help.

/// The page aurora(1) in man's macros.
std::string manual_page(const CLI::App& app);

/// A function for bash's `complete`: commands, flags, the values of those that have few, files else.
std::string bash_completion(const CLI::App& app);

/// The same for zsh's completion system, with what each flag means.
std::string zsh_completion(const CLI::App& app);

}  // namespace aurora::cli
