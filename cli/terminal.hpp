#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

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

/// What `text` takes on a terminal: its characters, if it is UTF-8.
std::size_t display_width(std::string_view text);

/// `text` without its middle, "adamw:be...=0.99", at most `columns` wide; at least 5 of them are needed.
std::string shortened(std::string_view text, std::size_t columns);

/// Lines of at most `columns`, broken between words; a longer word stays whole.
std::string wrapped(std::string_view text, std::size_t columns);
/// The same for the terminal behind `stream`; as it is where that is none.
std::string wrapped(std::string_view text, std::FILE* stream);

/// Cells of text under heads. Without heads only rows.
struct Table {
  std::vector<std::string> heads;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> left = {0};  // these columns are aligned left, the others right
};
/// The heads, then a line for each row: columns two spaces apart, no spaces at the end.
std::vector<std::string> lines_of(const Table& table);
/// How many of the first columns fit into `room`, at least one.
std::size_t columns_within(const Table& table, std::size_t room);
/// The first `count` columns alone.
Table first_columns(const Table& table, std::size_t count);
/// Prints the table, the heads in bold, in as many parts as the terminal's width asks for, each with the
/// first column.
void print(const Table& table, std::FILE* stream);

/// "25,300": rounded, with thousands set apart.
std::string grouped(double value);

/// "41 s", "3 min 05 s", "2 h 07 min".
std::string duration(double seconds);

/// "2.0 %" of a share in [0, 1]; "-" where it is not defined.
std::string percent(double share);

/// `word` as a shell reads it back.
std::string shell_word(const std::string& word);

}  // namespace aurora::cli
