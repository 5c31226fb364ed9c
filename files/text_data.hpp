#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "aurora/matrix.hpp"

namespace aurora::trainer {

/// A part of the text is not there any more.
class TextGone : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What was found under the given paths. Only the two parts count the NUL that stands between two files.
struct CorpusSummary {
  Index files = 0;    // text files taken
  Index skipped = 0;  // files that are not text: their first 64 KiB are not UTF-8
  Index repeated =
      0;  // files met again, by another path or link: taken once, and as validation where they are both
  Index bytes = 0;      // of the files taken
  Index documents = 0;  // not empty, separated by NUL and by file ends
  Index training_bytes = 0;
  Index validation_bytes = 0;
  std::string sha256;  // of the files taken, one after the other: data, then validation
};

/// Text as byte tokens, memory-mapped: a training part and a validation part that share no byte. Byte 0
/// separates documents. Where a file becomes shorter while it is used, what reads it throws TextGone.
///
/// The validation part is all of the validation paths; without them the end of the data: of 20 documents or
/// more, the fewest last whole ones that make a tenth of the bytes; the last tenth itself where there are
/// fewer, or where those would be more than half.
class TextData {
 public:
  /// Files and folders (recursively, each folder's files sorted by path, empty ones left out); "-" is
  /// standard input, spooled to an unnamed temporary file. `data` may be empty where only validation paths
  /// are wanted. Throws std::runtime_error naming the path for what is missing, unreadable, empty, or no
  /// text; std::invalid_argument for a part shorter than needed_bytes, which is context + 1 for at least one
  /// sequence.
  TextData(const std::vector<std::string>& data, const std::vector<std::string>& validation,
           Index needed_bytes);
  ~TextData();

  const CorpusSummary& summary() const;

  /// Throws std::runtime_error, naming the file, where a file holds other text than when it was opened;
  /// TextGone where it became shorter. A file whose size and times are the same is not read again; where they
  /// are not, its checksum decides.
  void require_unchanged();

  /// Sequences of context + 1 bytes for one micro-batch, beginning anywhere in the training part with equal
  /// probability. Sequence number i depends on seed and i alone: with i = step * batch * accumulate +
  /// position, a batch of 8 is the same as two micro-batches of 4. tokens: count x (context + 1), row-major.
  void training_sequences(std::uint64_t seed, Index first_sequence, Index count, Index context,
                          std::span<std::int64_t> tokens) const;

  /// Of where the first `count` training sequences begin: equal for runs that read the same text in the same
  /// order.
  std::string order_sha256(std::uint64_t seed, Index count, Index context) const;

  /// The fixed evaluation slice: sequences of context + 1 bytes evenly spaced over the validation part, not
  /// overlapping, at most max_sequences; returns how many, at least 1.
  Index validation_sequences(Index context, Index max_sequences, std::vector<std::int64_t>& tokens) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Whether bytes are UTF-8 (NUL included); with cut_off, the last character may be incomplete.
bool is_utf8(std::string_view bytes, bool cut_off);

}  // namespace aurora::trainer
