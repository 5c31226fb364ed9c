#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "aurora/rules.hpp"
#include "command.hpp"
#include "manual.hpp"

namespace aurora::cli {

namespace {

const CLI::App& command_of(const CLI::App& app, const std::string& name) {
  const auto names = command_names(app);
  if (std::ranges::find(names, name) == names.end()) {
    throw std::invalid_argument(
        fmt::format("there is no command '{}'; did you mean '{}'? (aurora help lists them all)", name,
                    nearest(name, names)));
  }
  return *app.get_subcommand(name);
}

}  // namespace

void add_help(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("help", "what the commands are for, and the flags of one");
  const auto name = std::make_shared<std::string>();
  const auto manual = std::make_shared<bool>(false);
  command->add_option("command", *name, "a command; none: all of them");
  command->add_flag("--man", *manual, "the manual page of all commands, as man reads it");
  command->callback([&app, name, manual, &chosen] {
    chosen = [&app, name, manual] {
      if (*manual) {
        fmt::print("{}", manual_page(app));
      } else if (name->empty()) {
        // App::help() would go on to the command that was chosen, which is this one.
        fmt::print("{}", app.get_formatter()->make_help(&app, app.get_name(), CLI::AppFormatMode::Normal));
      } else {
        // The command's usage line names its parent by itself.
        fmt::print("{}", command_of(app, *name).help("aurora"));
      }
      return kGood;
    };
  });
}

void add_completion(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "completion", "what a shell needs to complete commands and flags: source <(aurora completion bash)");
  const auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash or zsh")->required();
  command->callback([&app, shell, &chosen] {
    chosen = [&app, shell] {
      if (*shell != "bash" && *shell != "zsh")
        throw std::invalid_argument("the shell is bash or zsh, not '" + *shell + "'");
      fmt::print("{}", *shell == "bash" ? bash_completion(app) : zsh_completion(app));
      return kGood;
    };
  });
}

}  // namespace aurora::cli
