#include "terminal.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace aurora::cli {

namespace {

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

std::vector<std::size_t> widths_of(const Table& table) {
  std::vector<std::size_t> widths(table.heads.size());
  for (std::size_t i = 0; i < table.heads.size(); ++i) widths[i] = display_width(table.heads[i]);
  for (const auto& row : table.rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  return widths;
}

/// The first column and those from `begin` on that fit beside it, at least one.
Table part_of(const Table& table, std::size_t begin, std::size_t room) {
  Table part{.heads = {}, .rows = std::vector<std::vector<std::string>>(table.rows.size()), .left = {0}};
  const auto widths = widths_of(table);
  std::size_t used = widths[0];
  const auto take = [&](std::size_t column) {
    if (std::ranges::find(table.left, column) != table.left.end() && column > 0)
      part.left.push_back(part.heads.size());
    part.heads.push_back(table.heads[column]);
    for (std::size_t row = 0; row < table.rows.size(); ++row)
      part.rows[row].push_back(table.rows[row][column]);
  };
  take(0);
  for (std::size_t i = begin; i < widths.size(); ++i) {
    used += 2 + widths[i];
    if (used > room && i > begin) break;
    take(i);
  }
  return part;
}

}  // namespace

bool is_terminal(std::FILE* stream) { return isatty(fileno(stream)) == 1; }

void show(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fflush(stream);
}

int terminal_columns(std::FILE* stream) {
  winsize size{};
  if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

int terminal_rows(std::FILE* stream) {
  winsize size{};
  if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_row > 0) return size.ws_row;
  return 24;
}

bool wants_color(std::FILE* stream) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return is_terminal(stream) && (no_color == nullptr || *no_color == '\0') &&
         (terminal == nullptr || std::string_view(terminal) != "dumb");
}

std::string bold(std::string_view text, std::FILE* stream) {
  return wants_color(stream) ? fmt::format("\x1b[1m{}\x1b[0m", text) : std::string(text);
}

std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, starts_character));
}

std::string shortened(std::string_view text, std::size_t columns) {
  if (display_width(text) <= columns) return std::string(text);
  const std::size_t kept = std::max<std::size_t>(columns, 5) - 3, front = kept - kept / 2;
  std::string start, end;
  std::size_t taken = 0;
  for (const char c : text) {
    if (starts_character(c) && ++taken > front) break;
    start += c;
  }
  taken = 0;
  for (auto c = text.rbegin(); c != text.rend() && taken < kept / 2; ++c) {
    end.insert(end.begin(), *c);
    if (starts_character(*c)) ++taken;
  }
  return start + "..." + end;
}

std::string wrapped(std::string_view text, std::size_t columns) {
  std::string out;
  std::size_t used = 0;
  while (!text.empty()) {
    const std::size_t end = text.find_first_of(" \n");
    const std::string_view word = text.substr(0, end);
    const std::size_t width = display_width(word);
    if (used > 0 && used + 1 + width > columns) {
      out += '\n';
      used = 0;
    } else if (used > 0) {
      out += ' ';
      ++used;
    }
    out += word;
    used += width;
    if (end == text.npos) break;
    if (text[end] == '\n') {
      out += '\n';
      used = 0;
    }
    text.remove_prefix(end + 1);
  }
  return out;
}

std::string wrapped(std::string_view text, std::FILE* stream) {
  return is_terminal(stream) ? wrapped(text, static_cast<std::size_t>(terminal_columns(stream)))
                             : std::string(text);
}

std::vector<std::string> lines_of(const Table& table) {
  const auto widths = widths_of(table);
  const auto line_of = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - display_width(row[i]), ' ');
      const bool left = std::ranges::find(table.left, i) != table.left.end();
      line += (i > 0 ? "  " : "") + (left ? row[i] + space : space + row[i]);
    }
    return line.substr(0, line.find_last_not_of(' ') + 1);
  };
  std::vector<std::string> lines;
  if (!table.heads.empty()) lines.push_back(line_of(table.heads));
  for (const auto& row : table.rows) lines.push_back(line_of(row));
  return lines;
}

std::size_t columns_within(const Table& table, std::size_t room) {
  const auto widths = widths_of(table);
  std::size_t used = 0, count = 0;
  for (; count < widths.size(); ++count) {
    used += (count > 0 ? 2 : 0) + widths[count];
    if (used > room && count > 0) break;
  }
  return count;
}

Table first_columns(const Table& table, std::size_t count) {
  Table part = table;
  part.heads.resize(std::min(count, part.heads.size()));
  for (auto& row : part.rows) row.resize(std::min(count, row.size()));
  return part;
}

void print(const Table& table, std::FILE* stream) {
  const auto room =
      is_terminal(stream) ? static_cast<std::size_t>(terminal_columns(stream)) : std::size_t{1} << 20;
  std::size_t shown = 1;
  while (shown < table.heads.size()) {
    if (shown > 1) fmt::print(stream, "\n");
    const Table part = part_of(table, shown, room);
    const auto lines = lines_of(part);
    for (std::size_t i = 0; i < lines.size(); ++i)
      fmt::print(stream, "{}\n", i == 0 ? bold(lines[i], stream) : lines[i]);
    shown += part.heads.size() - 1;
  }
}

std::string grouped(double value) {
  if (!std::isfinite(value)) return "-";
  const std::string digits = fmt::format("{:.0f}", std::fabs(value));
  std::string text = value < 0 ? "-" : "";
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "-";
}

std::string shell_word(const std::string& word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char c : word) {
    quoted += c == '\'' ? "'\\''" : std::string_view(&c, 1);
  }
  return quoted += '\'';
}

}  // namespace aurora::cli
