#include "run_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <stdexcept>
#include <system_error>

#include "atomic_file.hpp"
#include "event_file.hpp"
#include "json_text.hpp"
#include "text_file.hpp"

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

constexpr JsonLimits kLimits = {.bytes = std::size_t{16} << 20, .depth = 16, .keys = 1000};
constexpr std::int64_t kMostSteps = std::int64_t{1} << 40;

const Json& member(const Json& object, const char* key) {
  static const Json none;
  const auto found = object.find(key);  // end() where `object` is no object
  return found == object.end() ? none : *found;
}

bool has_whole(const Json& record, const char* key, std::int64_t least) {
  return is_whole(member(record, key), least, kMostSteps);
}

/// What is wrong with a record; empty where a run's summary can be made of it.
std::string fault_of(const Json& record) {
  if (!record.is_object() || !member(record, "kind").is_string()) return "is no record";
  const std::string kind = record["kind"];
  const std::string a_record = "is no " + kind.substr(0, 40) + " record: ";
  const bool of_a_step = kind == "train" || kind == "eval" || kind == "neurons" || kind == "diverged";
  if (of_a_step && !has_whole(record, "step", 1)) return a_record + "\"step\" is no whole number > 0";
  if (kind == "summary" && !has_whole(record, "steps", 0))
    return a_record + "\"steps\" is no whole number >= 0";
  if (kind != "neurons") return {};
  if (!has_whole(record, "layer", 0)) return a_record + "\"layer\" is no whole number >= 0";
  if (!member(record, "dead").is_object()) return a_record + "\"dead\" is no object";
  for (const char* matrix : {"gate", "up"}) {
    if (!member(member(record, matrix), "starved").is_object())
      return a_record + "\"" + matrix + "\" has no object \"starved\"";
  }
  return {};
}

/// Calls use(line, record) for every whole line, or bad(number, fault) where it is no record; returns whether
/// a last line without an end was dropped.
template <class Use, class Bad>
bool for_each_record(const fs::path& file, const Use& use, const Bad& bad) {
  return for_each_line(file, kLimits.bytes, [&](const std::string& line, std::int64_t number, bool cut) {
    Json record;
    std::string fault =
        cut ? "is longer than the " + std::to_string(kLimits.bytes) + " bytes that are read" : "";
    try {
      if (!cut) record = parse_json(line, kLimits);
    } catch (const std::runtime_error& error) {
      fault = error.what();
    }
    if (fault.empty()) fault = fault_of(record);
    if (fault.empty()) {
      use(line, std::move(record));
    } else {
      bad(number, fault);
    }
  });
}

template <class Use>
bool for_each_record(const fs::path& file, const Use& use) {
  return for_each_record(file, use, [&](std::int64_t number, const std::string& fault) {
    fail(file, "line " + std::to_string(number) + " " + fault);
  });
}

/// Whether a log that goes on after `last_step`, with its `due` kinds of records to come, still has it.
bool is_kept(const Json& record, std::int64_t last_step, const std::vector<std::string>& due) {
  const std::string kind = record["kind"];
  if (kind == "summary" || kind == "diverged" || has_whole(record, "step", last_step + 1)) return false;
  return !has_whole(record, "step", last_step) || std::ranges::find(due, kind) == due.end();
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

  void cut_back(std::int64_t last_step, const std::vector<std::string>& due) {
    const fs::path kept = temporary_name(file);
    try {
      FileWriter writer(kept);
      for_each_record(file, [&](const std::string& line, const Json& record) {
        if (is_kept(record, last_step, due)) writer.write(line + "\n");
      });
      writer.finish();
      atomic_rename(kept, file);
    } catch (...) {
      ::unlink(kept.c_str());
      throw;
    }
  }

  void add_scalars(const Json& value, const std::string& tag, std::int64_t step) {
    if (value.is_number()) events->scalar(tag, step, started + seconds, value.get<float>());
    if (!value.is_structured()) return;
    for (const auto& [key, element] : value.items()) add_scalars(element, tag + "/" + key, step);
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
    if (has_whole(record, "layer", 0)) tag += "/layer" + record["layer"].dump();
    const char* const step = kind == "summary" ? "steps" : "step";
    if (!has_whole(record, step, 0)) return;
    for (const auto& [key, value] : record.items()) {
      if (key != "step" && key != "steps" && key != "layer")
        add_scalars(value, tag + "/" + key, record[step].get<std::int64_t>());
    }
  }
};

RunLog::RunLog(const fs::path& folder, std::optional<std::int64_t> resume_step,
               const std::vector<std::string>& due)
    : impl_(new Impl) {
  impl_->file = folder / "log.jsonl";
  if (resume_step) {
    impl_->cut_back(*resume_step, due);
    remove_event_files(folder);
  }
  impl_->events = std::make_unique<EventFile>(folder);
  if (resume_step) {
    for_each_record(impl_->file, [&](const std::string&, const Json& record) { impl_->add_events(record); });
    impl_->events->flush();
    impl_->seconds_before = impl_->seconds;
  }
  impl_->descriptor =
      ::open(impl_->file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
  if (impl_->descriptor < 0 && errno == ELOOP) fail(impl_->file, "is a link, which is not followed");
  if (impl_->descriptor < 0) fail(impl_->file, "cannot be opened", errno);
}

RunLog::~RunLog() = default;

void RunLog::write(const Json& record) {
  if (!record.is_object() || !member(record, "kind").is_string())
    throw std::invalid_argument("[aurora::trainer::RunLog] A record needs a kind: " + record.dump());
  const std::string line = record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (std::string_view rest = line; !rest.empty();) {
    const ::ssize_t written = ::write(impl_->descriptor, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(impl_->file, "cannot be written", errno);
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  // From the text, so that a resumed run makes the same events: null has none.
  impl_->add_events(parse_json(line, kLimits));
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
      [&](std::int64_t number, const std::string&) { contents.bad_lines.push_back(number); });
  return contents;
}

}  // namespace aurora::trainer
