#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace aurora::trainer {

/// FOLDER/log.jsonl, the source of truth of a run, and the TensorBoard events derived from it. Every record
/// is one JSON object on a line with a "kind", handed to the system at once. NaN and Inf are written as null.
/// Events: each number of a record under the tag "kind/path", a neuron record's under
/// "neurons/layer<k>/path"; the header has none. Their wall time is "started" of the header plus "seconds",
/// so they follow from the log alone. Errors: std::runtime_error naming the file (and line).
class RunLog {
 public:
  /// Opens the log for appending. With resume_step, it is first cut back to the header and the records of
  /// steps <= resume_step (a summary, a divergence, a last line without an end, and of resume_step itself the
  /// kinds that are `due` again are dropped) and the events are written anew from it. The records of a step belong before its checkpoint, with sync() between them.
  explicit RunLog(const std::filesystem::path& folder, std::optional<std::int64_t> resume_step = std::nullopt,
                  const std::vector<std::string>& due = {});
  ~RunLog();
  void write(const nlohmann::ordered_json& record);
  /// Waits until the records so far are on the disk.
  void sync();
  /// "seconds" of the last record kept on resume; 0 for a new run.
  double seconds_before() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The records of a log.jsonl, each with the whole numbers and objects that summarize() reads, at most 16 MiB
/// and 16 levels deep; a last line without an end is dropped and reported in `incomplete`.
struct LogContents {
  std::vector<nlohmann::ordered_json> records;
  bool incomplete = false;
  std::vector<std::int64_t> bad_lines;  // numbers of whole lines that are no record, from 1
};
/// Throws for a bad line.
LogContents read_log(const std::filesystem::path& file);
/// Leaves bad lines out.
LogContents read_damaged_log(const std::filesystem::path& file);

}  // namespace aurora::trainer
