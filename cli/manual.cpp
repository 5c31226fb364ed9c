#include "manual.hpp"

#include <fmt/format.h>

#include <map>
#include <vector>

#include "aurora/rules.hpp"
#include "aurora/version.hpp"
#include "config.hpp"
#include "train_flags.hpp"

namespace aurora::cli {

namespace {

using Apps = std::vector<const CLI::App*>;
using Options = std::vector<const CLI::Option*>;

Apps commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

Options flags_of(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return option->nonpositional(); });
}

Options arguments_of(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return option->get_positional(); });
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

/// The values of flags that have few.
std::string values_of(const std::string& flag) {
  std::string values;
  if (flag == "--optimizer" || flag == "--optimizers")
    for (const std::string& name : rule_names()) values += (values.empty() ? "" : " ") + name;
  if (flag == "--preset")
    for (const auto& name : trainer::preset_names()) values += (values.empty() ? "" : " ") + name;
  if (flag == "--dtype") values = "f32 bf16";
  if (flag == "--device") values = "cpu cuda";
  return values;
}

/// The values of a command's argument that has few.
std::string argument_values(const CLI::App& app, const CLI::App& command) {
  if (command.get_name() == "completion") return "bash zsh";
  std::string names;
  if (command.get_name() == "help")
    for (const CLI::App* other : commands_of(app)) names += (names.empty() ? "" : " ") + other->get_name();
  return names;
}

std::string flag_list(const CLI::App& command) {
  std::string list;
  for (const CLI::Option* option : flags_of(command))
    for (const auto& name : option->get_lnames()) list += (list.empty() ? "--" : " --") + name;
  return list;
}

/// Text in man's macros: no line that begins with a control character, hyphens that can be copied.
std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) {
      out += std::string("\\&") + c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string option_entry(const CLI::Option& option) {
  std::string text = ".TP\n\\fB" + roff(option.get_name(/*positional=*/false, /*all_options=*/true)) + "\\fR";
  if (option.get_positional()) text = ".TP\n\\fI" + roff(option.get_name(/*positional=*/true)) + "\\fR";
  if (!option.get_positional() && takes_value(option)) text += " \\fIVALUE\\fR";
  if (const auto standard = option.get_default_str(); !standard.empty())
    text += " (default " + roff(standard) + ")";
  return text + "\n" + roff(option.get_description()) + "\n";
}

std::string command_section(const CLI::App& command) {
  std::string text = ".SS aurora " + roff(command.get_name());
  for (const CLI::Option* argument : arguments_of(command))
    text += " " + roff(argument->get_name(/*positional=*/true));
  text += "\n" + roff(command.get_description()) + ".\n";
  for (const CLI::Option* argument : arguments_of(command)) text += option_entry(*argument);
  for (const auto& group : command.get_groups()) {
    Options options;
    for (const CLI::Option* option : flags_of(command))
      if (option->get_group() == group && !option->check_name("--help")) options.push_back(option);
    if (options.empty()) continue;
    text += ".PP\n\\fB" + roff(group) + "\\fR\n";
    for (const CLI::Option* option : options) text += option_entry(*option);
  }
  return text;
}

/// Inside single quotes of a shell and inside zsh's brackets.
std::string zsh_quoted(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else if (c == '[' || c == ']' || c == ':' || c == '\\') {
      out += std::string("\\") + c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string zsh_flags(const CLI::App& app, const CLI::App& command) {
  std::string text;
  for (const CLI::Option* option : flags_of(command)) {
    for (const auto& name : option->get_lnames()) {
      const std::string values = values_of("--" + name);
      const std::string kind = values.empty() ? "_files" : "(" + values + ")";
      text += fmt::format("        '--{}[{}]{}' \\\n", name, zsh_quoted(option->get_description()),
                          takes_value(*option) ? ":value:" + kind : "");
    }
  }
  const std::string values = argument_values(app, command);
  return text + fmt::format("        '*:argument:{}'\n", values.empty() ? "_files" : "(" + values + ")");
}

}  // namespace

std::string manual_page(const CLI::App& app) {
  std::string text = ".TH AURORA 1 \"\" \"aurora " AURORA_VERSION
                     "\" \"User Commands\"\n.SH NAME\naurora \\- " +
                     roff(app.get_description()) +
                     "\n.SH SYNOPSIS\n\\fBaurora\\fR \\fICOMMAND\\fR [\\fIFLAGS\\fR]\n.br\n"
                     "\\fBaurora help\\fR [\\fICOMMAND\\fR]\n.SH COMMANDS\n";
  for (const CLI::App* command : commands_of(app)) text += command_section(*command);
  return text +
         ".SH EXIT STATUS\n"
         ".TP\n0\ngood\n.TP\n1\nfailed\n.TP\n2\na flag or an argument is wrong\n.TP\n3\nthe training "
         "diverged; of "
         "compare, all runs did\n.TP\n130\nstopped by Ctrl\\-C or SIGTERM, after saving\n"
         ".SH ENVIRONMENT\n"
         ".TP\n\\fBOMP_WAIT_POLICY\\fR, \\fBGOMP_SPINCOUNT\\fR\nhow threads wait for each other. Where "
         "neither is set, "
         "aurora lets them sleep soon, so that other processes lose little and cost little.\n"
         ".TP\n\\fBNO_COLOR\\fR\nset to anything: no colours\n";
}

std::string bash_completion(const CLI::App& app) {
  std::string names, flags, values, arguments;
  for (const CLI::App* command : commands_of(app)) {
    names += (names.empty() ? "" : " ") + command->get_name();
    flags += fmt::format("    {}) flags='{}' ;;\n", command->get_name(), flag_list(*command));
    if (const auto few = argument_values(app, *command); !few.empty())
      arguments += fmt::format("    {}) values='{}' ;;\n", command->get_name(), few);
    for (const CLI::Option* option : flags_of(*command)) {
      for (const auto& name : option->get_lnames()) {
        const std::string flag = "--" + name, few = values_of(flag);
        if (!few.empty() && values.find("    " + flag + ")") == std::string::npos)
          values += fmt::format("    {}) values='{}' ;;\n", flag, few);
      }
    }
  }
  return fmt::format(
      R"(# Completion of aurora for bash: source <(aurora completion bash)
_aurora() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} flags='' values=''
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '{0} {1}' -- "$word"))
    return
  fi
  case ${{COMP_WORDS[COMP_CWORD - 1]}} in
{2}  esac
  if [[ -z $values && $word != -* ]]; then
    case ${{COMP_WORDS[1]}} in
{3}    esac
  fi
  if [[ -n $values ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$word"))
    return
  fi
  if [[ $word != -* ]]; then
    COMPREPLY=($(compgen -f -- "$word"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{4}  esac
  COMPREPLY=($(compgen -W "$flags" -- "$word"))
}}
complete -o filenames -F _aurora aurora
)",
      names, flag_list(app), values, arguments, flags);
}

std::string zsh_completion(const CLI::App& app) {
  std::string names, cases;
  for (const CLI::App* command : commands_of(app)) {
    names += fmt::format("    '{}:{}'\n", command->get_name(), zsh_quoted(command->get_description()));
    cases += fmt::format("    {})\n      _arguments \\\n{}      ;;\n", command->get_name(),
                         zsh_flags(app, *command));
  }
  return fmt::format(
      R"(#compdef aurora
# Completion of aurora for zsh: source <(aurora completion zsh), or a file _aurora in a folder of $fpath
_aurora() {{
  local -a commands=(
{}  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=${{words[2]}}
  shift words
  ((CURRENT--))
  case $command in
{}  esac
}}
compdef _aurora aurora
)",
      names, cases);
}

}  // namespace aurora::cli
