#include "run_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "atomic_file.hpp"
#include "aurora/diagnostics.hpp"
#include "event_file.hpp"

namespace aurora::trainer {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
  throw std::runtime_error(file.string() + ": " + what);
}

[[noreturn]] void fail(const fs::path& file, const char* what, int error) {
  fail(file, std::string(what) + ": " + std::generic_category().message(error));
}

/// Calls use(line, record) for every whole line, or bad(line, number) where it is no record; returns whether
/// a last line without an end was dropped.
template <class Use, class Bad>
bool for_each_record(const fs::path& file, const Use& use, const Bad& bad) {
  std::ifstream in(file, std::ios::binary);
  if (!in) fail(file, "cannot be opened", errno);
  std::string line;
  for (std::int64_t number = 1; std::getline(in, line); ++number) {
    if (in.eof()) return true;
    Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || !record.contains("kind") || !record["kind"].is_string()) {
      bad(line, number);
    } else {
      use(line, std::move(record));
    }
  }
  if (in.bad()) fail(file, "cannot be read");
  return false;
}

template <class Use>
bool for_each_record(const fs::path& file, const Use& use) {
  return for_each_record(file, use, [&](const std::string& line, std::int64_t number) {
    fail(file, "line " + std::to_string(number) + " is no record: " + line.substr(0, 80));
  });
}

bool belongs_to_a_step_after(const Json& record, std::int64_t last_step) {
  if (record["kind"] == "summary" || record["kind"] == "diverged") return true;
  const auto step = record.find("step");
  return step != record.end() && step->is_number_integer() && step->get<std::int64_t>() > last_step;
}

/// "min", "q0.01", "median", "max".
std::string quantile_name(double quantile) {
  if (quantile == 0) return "min";
  if (quantile == 0.5) return "median";
  return quantile == 1 ? "max" : "q" + Json(quantile).dump();
}

double seconds_since_1970(const std::string& started) {
  std::tm time{};
  if (::strptime(started.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time) == nullptr) return 0;
  return static_cast<double>(::timegm(&time));
}

}  // namespace

struct RunLog::Impl {
  fs::path file;
  int descriptor = -1;
  std::unique_ptr<EventFile> events;
  double started = 0;  // seconds since 1970
  double seconds = 0;  // of the newest record that has them
  double seconds_before = 0;

  ~Impl() {
    if (descriptor >= 0) ::close(descriptor);
  }

  void cut_back(std::int64_t last_step) {
    fs::path kept = file;
    kept += ".tmp";
    FileWriter writer(kept);
    for_each_record(file, [&](const std::string& line, const Json& record) {
      if (belongs_to_a_step_after(record, last_step)) return;
      writer.write(line + "\n");
    });
    writer.finish();
    atomic_rename(kept, file);
  }

  void add_scalars(const Json& value, const std::string& tag, std::int64_t step) {
    if (value.is_number()) events->scalar(tag, step, started + seconds, value.get<float>());
    if (value.is_array()) return add_quantiles(value, tag, step);
    if (!value.is_object()) return;
    for (const auto& [key, element] : value.items()) add_scalars(element, tag + "/" + key, step);
  }

  /// A list is one of quantiles, or else of neurons, which are no curve.
  void add_quantiles(const Json& list, const std::string& tag, std::int64_t step) {
    if (!tag.ends_with("/leverage") || list.size() != kLeverageQuantiles.size()) return;
    for (std::size_t i = 0; i < list.size(); ++i)
      add_scalars(list[i], tag + "/" + quantile_name(kLeverageQuantiles[i]), step);
  }

  void add_events(const Json& record) {
    const std::string kind = record["kind"];
    if (kind == "header") {
      if (const auto found = record.find("started"); found != record.end() && found->is_string()) {
        started = seconds_since_1970(found->get<std::string>());
      }
      return;
    }
    if (const auto found = record.find("seconds"); found != record.end() && found->is_number()) {
      seconds = found->get<double>();
    }
    std::string tag = kind;
    if (const auto layer = record.find("layer"); layer != record.end()) tag += "/layer" + layer->dump();
    const auto step = record.find(kind == "summary" ? "steps" : "step");
    if (step == record.end() || !step->is_number_integer()) return;
    for (const auto& [key, value] : record.items()) {
      if (key != "step" && key != "steps" && key != "layer")
        add_scalars(value, tag + "/" + key, step->get<std::int64_t>());
    }
  }
};

RunLog::RunLog(const fs::path& folder, std::optional<std::int64_t> resume_step) : impl_(new Impl) {
  impl_->file = folder / "log.jsonl";
  if (resume_step) {
    impl_->cut_back(*resume_step);
    remove_event_files(folder);
  }
  impl_->events = std::make_unique<EventFile>(folder);
  if (resume_step) {
    for_each_record(impl_->file, [&](const std::string&, const Json& record) { impl_->add_events(record); });
    impl_->events->flush();
    impl_->seconds_before = impl_->seconds;
  }
  impl_->descriptor = ::open(impl_->file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (impl_->descriptor < 0) fail(impl_->file, "cannot be opened", errno);
}

RunLog::~RunLog() = default;

void RunLog::write(const Json& record) {
  if (!record.is_object() || !record.contains("kind") || !record["kind"].is_string()) {
    throw std::invalid_argument("[aurora::trainer::RunLog] A record needs a kind: " + record.dump());
  }
  const std::string line = record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (std::string_view rest = line; !rest.empty();) {
    const ::ssize_t written = ::write(impl_->descriptor, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(impl_->file, "cannot be written", errno);
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  // From the text, so that a resumed run makes the same events: null has none.
  impl_->add_events(Json::parse(line));
  impl_->events->flush();
}

void RunLog::sync() {
  if (::fsync(impl_->descriptor) != 0) fail(impl_->file, "cannot be synced", errno);
}

double RunLog::seconds_before() const { return impl_->seconds_before; }

LogContents read_log(const fs::path& file) {
  LogContents contents;
  contents.incomplete = for_each_record(
      file, [&](const std::string&, Json record) { contents.records.push_back(std::move(record)); });
  return contents;
}

LogContents read_damaged_log(const fs::path& file) {
  LogContents contents;
  contents.incomplete = for_each_record(
      file, [&](const std::string&, Json record) { contents.records.push_back(std::move(record)); },
      [&](const std::string&, std::int64_t number) { contents.bad_lines.push_back(number); });
  return contents;
}

}  // namespace aurora::trainer
