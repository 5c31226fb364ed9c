#include "corpus_files.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "file_sums.hpp"
#include "text_data.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const std::byte>;

constexpr std::size_t kBytesLookedAt = 65536;
// The kernel allows a process 65530 mappings, and a corpus may have more files than that.
constexpr std::size_t kSmallestMapped = 65536;

[[noreturn]] void fail(const std::string& place, const std::string& what) {
  throw std::runtime_error(place + ": " + what);
}

[[noreturn]] void fail(const std::string& place, const char* what, int error) {
  fail(place, std::string(what) + ": " + std::generic_category().message(error));
}

bool is_text(Bytes bytes) {
  const Bytes head = bytes.first(std::min(bytes.size(), kBytesLookedAt));
  return is_utf8({reinterpret_cast<const char*>(head.data()), head.size()}, head.size() < bytes.size());
}

/// Adds the regular files below a folder, in no order.
void add_files_below(const fs::path& folder, std::vector<fs::path>& files) {
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    // A link to a folder is not followed, so there are no loops; one to nothing or to itself is no file.
    std::error_code entry_error;
    const fs::file_status own = entry->symlink_status(entry_error);
    if (!entry_error && fs::is_directory(own)) {
      add_files_below(entry->path(), files);
    } else if (!entry_error && entry->is_regular_file(entry_error)) {
      files.push_back(entry->path());
    }
    if (entry_error && entry_error != std::errc::no_such_file_or_directory &&
        entry_error != std::errc::too_many_symbolic_link_levels) {
      fail(entry->path().string(), "cannot be read: " + entry_error.message());
    }
  }
  if (error) fail(folder.string(), "folder cannot be read: " + error.message());
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  add_files_below(folder, files);
  std::ranges::sort(files);
  return files;
}

/// Copies standard input into an unnamed file and maps that.
MappedFile spooled_standard_input() {
  const std::string place = "standard input";
  std::string name = (fs::temp_directory_path() / "aurora-input-XXXXXX").string();
  const int spool = ::mkstemp(name.data());
  if (spool < 0) fail(name, "cannot be created", errno);
  ::unlink(name.c_str());
  const auto close_and_fail = [&](const std::string& where, const char* what, int error) {
    ::close(spool);
    fail(where, what, error);
  };
  std::array<char, 65536> buffer;
  for (;;) {
    const ::ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) close_and_fail(place, "cannot be read", errno);
    if (count == 0) break;
    for (::ssize_t done = 0; done < count;) {
      const ::ssize_t written = ::write(spool, buffer.data() + done, static_cast<std::size_t>(count - done));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) close_and_fail(name, "cannot be written", errno);
      done += written;
    }
  }
  MappedFile mapped = [&] {
    try {
      return MappedFile(spool, place);
    } catch (...) {
      ::close(spool);
      throw;
    }
  }();
  ::close(spool);
  return mapped;
}

}  // namespace

void CorpusCollector::add(const fs::path& file, bool given, CorpusFiles& corpus) {
  struct ::stat status {};
  if (::stat(file.c_str(), &status) != 0) fail(file.string(), "cannot be read", errno);
  if (!met_.emplace(status.st_dev, status.st_ino).second) {
    ++corpus.repeated;
    return;
  }
  MappedFile mapped(file);
  if (mapped.bytes().empty()) {
    if (given) fail(file.string(), "is empty; give a file with text");
    return;
  }
  if (!is_text(mapped.bytes())) {
    ++corpus.skipped;
  } else if (mapped.bytes().size() < kSmallestMapped) {
    corpus.copies.emplace_back(mapped.bytes().begin(), mapped.bytes().end());
    corpus.texts.emplace_back(corpus.copies.back());
    mapped.require_whole();
  } else {
    corpus.texts.push_back(mapped.bytes());
    corpus.mapped.push_back({.file = std::move(mapped), .stamp = {}, .sha256 = {}});
    MappedText& text = corpus.mapped.back();
    text.stamp = text.file.stamp();
    text.sha256 = sha256_of(text.file);
  }
}

void CorpusCollector::add_standard_input(CorpusFiles& corpus) {
  if (std::exchange(standard_input_read_, true)) fail("standard input", "is named twice; give - once");
  MappedFile mapped = spooled_standard_input();
  if (mapped.bytes().empty()) fail("standard input", "is empty; pipe text into it");
  if (!is_text(mapped.bytes())) fail("standard input", "is not text: it does not begin with UTF-8");
  corpus.texts.push_back(mapped.bytes());
  corpus.mapped.push_back({.file = std::move(mapped), .stamp = {}, .sha256 = {}});
}

CorpusFiles CorpusCollector::collect(const std::vector<std::string>& paths) {
  CorpusFiles corpus;
  std::string places;
  for (const std::string& path : paths) {
    places += (places.empty() ? "" : ", ") + (path == "-" ? std::string("standard input") : path);
    if (path == "-") {
      add_standard_input(corpus);
    } else if (std::error_code error; fs::is_directory(path, error)) {
      for (const fs::path& file : files_below(path)) add(file, false, corpus);
    } else {
      add(path, true, corpus);
    }
  }
  if (corpus.texts.empty() && !paths.empty()) {
    fail(places, "no text: " + std::to_string(corpus.skipped) + " files are not UTF-8, " +
                     std::to_string(corpus.repeated) + " were taken before; give files or folders with text");
  }
  return corpus;
}

}  // namespace aurora::trainer
