#include "inspect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "command.hpp"
#include "progress.hpp"
#include "terminal.hpp"

namespace aurora::cli {

namespace {

using trainer::InspectedMatrix;
using trainer::MatrixStatistics;
using Json = nlohmann::ordered_json;

struct Flags {
  std::string path;
  std::string momentum;
  std::string threads = "0";
  bool wide = false;
  bool json = false;
  bool quiet = false;
};

constexpr std::size_t kLongestName = 72;

std::string axis_name(NeuronAxis axis) { return axis == NeuronAxis::rows ? "rows" : "columns"; }

double aspect_ratio(const InspectedMatrix& matrix) {
  return static_cast<double>(matrix.rows) / static_cast<double>(matrix.cols);
}

Json statistics_json(const MatrixStatistics& statistics) {
  Json starved;
  for (std::size_t i = 0; i < kStarvedThresholds.size(); ++i)
    starved[Json(kStarvedThresholds[i]).dump()] = statistics.starved[i];
  const bool finite = statistics.non_finite == 0;
  return {{"starved", starved},
          {"leverage", statistics.leverage},
          {"row_norm_cv", statistics.row_norm_cv},
          {"column_norm_cv", statistics.column_norm_cv},
          {"effective_rank", statistics.effective_rank},
          {"numerical_rank", finite ? Json(statistics.numerical_rank) : Json(nullptr)},
          {"sigma_max", statistics.sigma_max},
          {"sigma_min", statistics.sigma_min},
          {"non_finite", statistics.non_finite}};
}

Json matrix_json(const InspectedMatrix& matrix) {
  Json object = {{"name", matrix.name},
                 {"role", matrix.role.name},
                 {"guessed", matrix.role.guessed},
                 {"shape", {matrix.rows, matrix.cols}},
                 {"aspect_ratio", aspect_ratio(matrix)},
                 {"dtype", matrix.dtype},
                 {"neuron_axis", axis_name(matrix.role.axis)},
                 {"suspicious", trainer::suspicious(matrix)}};
  object.update(statistics_json(matrix.weight));
  object["momentum"] = nullptr;
  if (matrix.momentum) {
    object["momentum"] = statistics_json(*matrix.momentum);
    object["momentum"]["tensor"] = matrix.momentum_name;
  }
  return object;
}

void print_json(const std::string& path, const trainer::Inspection& inspection) {
  Json object = {{"path", path}, {"matrices", Json::array()}, {"skipped", Json::object()}};
  for (const auto& matrix : inspection.matrices) object["matrices"].push_back(matrix_json(matrix));
  for (const auto& [reason, count] : inspection.skipped) object["skipped"][reason] = count;
  // A path need not be UTF-8.
  fmt::print("{}\n", object.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string number(double value) { return std::isfinite(value) ? fmt::format("{:.3g}", value) : "-"; }

constexpr std::array kHeads = {"name", "<0.1",  "<0.01", "<0.5",   "shape",   "role", "neurons",
                               "min",  "1 %",   "10 %",  "median", "90 %",    "max",  "eff. rank",
                               "rank", "s_max", "s_min", "row CV", "col. CV", "m/n"};
using Cells = std::vector<std::string>;

Cells cells(const std::string& name, const InspectedMatrix& matrix, const MatrixStatistics& statistics) {
  const bool finite = statistics.non_finite == 0;
  const auto& starved = statistics.starved;
  const auto& leverage = statistics.leverage;
  return {name,
          percent(starved[1]),
          percent(starved[0]),
          percent(starved[2]),
          fmt::format("{}x{}", matrix.rows, matrix.cols),
          std::string(matrix.role.name) + (matrix.role.guessed ? " (guessed)" : ""),
          axis_name(matrix.role.axis),
          number(leverage[0]),
          number(leverage[1]),
          number(leverage[2]),
          number(leverage[3]),
          number(leverage[4]),
          number(leverage[6]),
          finite ? fmt::format("{:.1f}", statistics.effective_rank) : "-",
          finite ? fmt::format("{}", statistics.numerical_rank)
                 : fmt::format("{} Inf or NaN", statistics.non_finite),
          number(statistics.sigma_max),
          number(statistics.sigma_min),
          number(statistics.row_norm_cv),
          number(statistics.column_norm_cv),
          number(aspect_ratio(matrix))};
}

struct Line {
  Cells cells;
  bool marked;
};

/// On a terminal as many columns as it has room for, with names shortened to leave it to the first numbers,
/// unless all are wanted; elsewhere everything.
void print_lines(std::vector<Line> lines, bool wide) {
  const bool narrow = is_terminal(stdout) && !wide;
  const auto room = static_cast<std::size_t>(terminal_columns(stdout));
  const std::size_t longest = narrow ? std::clamp(room / 2, std::size_t{16}, kLongestName) : kLongestName;
  Table table{.heads = {kHeads.begin(), kHeads.end()}, .rows = {}, .left = {0, 5, 6}};
  table.heads[0].insert(0, "  ");
  for (Line& line : lines) {
    line.cells[0] = (line.marked ? "! " : "  ") + shortened(line.cells[0], longest);
    table.rows.push_back(std::move(line.cells));
  }
  const std::size_t shown = narrow ? columns_within(table, room) : kHeads.size();
  const auto text = lines_of(first_columns(table, shown));
  fmt::print("{}\n", text[0]);
  for (std::size_t i = 0; i < lines.size(); ++i)
    fmt::print("{}\n", lines[i].marked ? bold(text[i + 1], stdout) : text[i + 1]);
  if (shown < kHeads.size()) fmt::print("{} more columns with --wide\n", kHeads.size() - shown);
}

void print_table(const trainer::Inspection& inspection, bool wide) {
  std::vector<Line> lines;
  bool momentum = false;
  for (const auto& matrix : inspection.matrices) {
    const bool marked = trainer::suspicious(matrix);
    lines.push_back({cells(printable(matrix.name), matrix, matrix.weight), marked});
    if (matrix.momentum) {
      momentum = true;
      lines.push_back({cells("  ." + printable(matrix.momentum_name), matrix, *matrix.momentum), marked});
    }
  }
  print_lines(std::move(lines), wide);
  const auto marked = std::ranges::count_if(inspection.matrices, trainer::suspicious);
  const auto say = [](const std::string& text) { fmt::print("{}\n", wrapped(text, stdout)); };
  fmt::print("\n");
  say(fmt::format(
      "{} of {} matrices marked !: hidden ones with at least 5 % of the neurons below 0.1{}, and any with "
      "Inf or NaN.",
      marked, inspection.matrices.size(), momentum ? ", by the momentum where there is one" : ""));
  say("<t: share of the neurons whose leverage is below t of the balanced value; min to max: their leverage "
      "over it, 1 is "
      "balanced.");
  say("Leverage: squared row length of the polar factor along the neuron axis. Rank: singular values above "
      "2^-21 of "
      "s_max.");
  for (const auto& [reason, count] : inspection.skipped)
    say(fmt::format("skipped {} {}: {}", count, count == 1 ? "tensor" : "tensors", printable(reason)));
}

int inspect(const Flags& flags) {
  using Clock = std::chrono::steady_clock;
  auto threads = static_cast<int>(integer("--threads", flags.threads, 0, 4096));
  if (threads == 0) threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const auto start = Clock::now();
  trainer::Inspection inspection;
  {
    ProgressLine line(stderr, flags.quiet);
    const auto progress = [&](double share, Index done, Index total) {
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (done < total || is_terminal(stderr)) {
        line.show(share, fmt::format("{}/{} matrices  left {}", done, total,
                                     duration(seconds * (1 - share) / share)));
      }
    };
    inspection =
        trainer::inspect(flags.path, {.threads = threads, .momentum = flags.momentum, .progress = progress});
  }
  if (flags.json) {
    print_json(flags.path, inspection);
  } else {
    print_table(inspection, flags.wide);
  }
  return kGood;
}

}  // namespace

void add_inspect(CLI::App& app, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("inspect", "leverage, rank and singular values of the weight matrices in a file");
  const auto flags = std::make_shared<Flags>();
  command
      ->add_option("path", flags->path,
                   "safetensors file, sharded index, Hugging Face folder, checkpoint or run folder")
      ->required();
  command->add_option("--momentum", flags->momentum, "safetensors file with tensors NAME.momentum_buffer");
  command->add_option("--threads", flags->threads, "threads; 0: one per core")->capture_default_str();
  command->add_flag("--wide", flags->wide, "all columns on a terminal too, whatever its width");
  command->add_flag("--quiet", flags->quiet, "no progress");
  command->add_flag("--json", flags->json, "results as one JSON object");
  command->callback([flags, &chosen] { chosen = [flags] { return inspect(*flags); }; });
}

}  // namespace aurora::cli
