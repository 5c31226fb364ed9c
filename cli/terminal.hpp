#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace aurora::cli {

bool is_terminal(std::FILE* stream);

/// Writes text for people. Where that fails (a full disk, a closed or dead terminal) the work goes on.
void show(std::FILE* stream, std::string_view text);

/// Columns of the terminal behind `stream`; 80 where that is unknown.
int terminal_columns(std::FILE* stream);
/// Its rows; 24 where that is unknown.
int terminal_rows(std::FILE* stream);

/// Whether colours are welcome: a terminal that is not "dumb", and NO_COLOR unset or empty (no-color.org).
bool wants_color(std::FILE* stream);

/// `text` in bold for `stream`, or as it is where colours are not welcome.
std::string bold(std::string_view text, std::FILE* stream);

/// "25,300": rounded, with thousands set apart.
std::string grouped(double value);

/// "41 s", "3 min 05 s", "2 h 07 min".
std::string duration(double seconds);

/// "2.0 %" of a share in [0, 1]; "-" where it is not defined.
std::string percent(double share);

/// `word` as a shell reads it back.
std::string shell_word(const std::string& word);

}  // namespace aurora::cli
