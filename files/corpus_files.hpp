#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aurora/matrix.hpp"
#include "mapped_file.hpp"

namespace aurora::trainer {

/// A text file that is read where it lies, so that it can change meanwhile.
struct MappedText {
  MappedFile file;
  FileStamp stamp;     // when its content was last known to be that of the checksum
  std::string sha256;  // empty: nobody can change it
};

/// The text files of a corpus in their order, and what was left out.
struct CorpusFiles {
  std::vector<std::span<const std::byte>> texts;
  std::vector<MappedText> mapped;
  std::vector<std::vector<std::byte>> copies;
  Index skipped = 0;
  Index repeated = 0;
};

/// Files met once, by device and inode, over several calls of collect().
class CorpusCollector {
 public:
  /// Files and folders as TextData's constructor takes them. Throws std::runtime_error, also where no text is
  /// left.
  CorpusFiles collect(const std::vector<std::string>& paths);

 private:
  void add(const std::filesystem::path& file, bool given, CorpusFiles& corpus);
  void add_standard_input(CorpusFiles& corpus);

  std::set<std::pair<std::uint64_t, std::uint64_t>> met_;
  bool standard_input_read_ = false;
};

}  // namespace aurora::trainer
