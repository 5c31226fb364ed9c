#include "text_data.hpp"

#include <utf8.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <utility>

#include "corpus_files.hpp"
#include "file_sums.hpp"
#include "sha256.hpp"

namespace aurora::trainer {
namespace {

using Bytes = std::span<const std::byte>;

constexpr Index kDocumentsToSplitWhole = 20;
constexpr std::byte kSeparator{0};

/// Files seen as one run of bytes, one separator between two.
class ByteStream {
 public:
  explicit ByteStream(const std::vector<Bytes>& texts) {
    for (const Bytes text : texts) {
      if (size_ > 0) append(Bytes(&kSeparator, 1));
      append(text);
    }
  }

  Index size() const { return size_; }

  /// The parts of bytes [first, first + count) in order.
  template <class Use>
  void for_each_part(Index first, Index count, const Use& use) const {
    auto piece = std::prev(std::ranges::upper_bound(pieces_, first, {}, &Piece::start));
    for (; count > 0; ++piece) {
      const Index skipped = first - piece->start;
      const Index taken = std::min(count, std::ssize(piece->bytes) - skipped);
      use(piece->bytes.subspan(static_cast<std::size_t>(skipped), static_cast<std::size_t>(taken)));
      first += taken;
      count -= taken;
    }
  }

  void copy(Index first, std::span<std::int64_t> tokens) const {
    auto out = tokens.begin();
    for_each_part(first, std::ssize(tokens), [&](Bytes part) {
      out =
          std::ranges::transform(part, out, [](std::byte b) { return std::to_integer<std::int64_t>(b); }).out;
    });
  }

  /// Where documents, the longest runs without a separator, begin.
  std::vector<Index> document_starts() const {
    std::vector<Index> starts;
    bool inside = false;
    for (const auto& [start, bytes] : pieces_) {
      for (Bytes rest = bytes; !rest.empty();) {
        const Index position = start + (rest.data() - bytes.data());
        if (rest.front() == kSeparator) {
          inside = false;
          rest = rest.subspan(1);
          continue;
        }
        if (!std::exchange(inside, true)) starts.push_back(position);
        const auto* end = static_cast<const std::byte*>(std::memchr(rest.data(), 0, rest.size()));
        rest = end == nullptr ? Bytes() : rest.subspan(static_cast<std::size_t>(end - rest.data()));
      }
    }
    return starts;
  }

 private:
  struct Piece {
    Index start;
    Bytes bytes;
  };
  void append(Bytes bytes) {
    pieces_.push_back({size_, bytes});
    size_ += std::ssize(bytes);
  }

  std::vector<Piece> pieces_;
  Index size_ = 0;
};

/// Where the validation part of data without validation paths begins; see TextData.
Index validation_start(Index size, const std::vector<Index>& document_starts) {
  const Index last_tenth = size / 10 * 9 + size % 10 * 9 / 10;
  if (std::ssize(document_starts) < kDocumentsToSplitWhole) return last_tenth;
  const auto after = std::ranges::upper_bound(document_starts, last_tenth);
  const Index start = after == document_starts.begin() ? 0 : *std::prev(after);
  return start >= size - size / 2 ? start : last_tenth;
}

// Number `index` of the splitmix64 sequence that begins at a mixed seed (Steele, Lea, Flood 2014).
std::uint64_t mixed(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) {
  constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15u;
  return mixed(mixed(seed + kGamma) + (index + 1) * kGamma);
}

/// From 0 to limit - 1, all equally likely to 2^-64 limit.
Index scaled(std::uint64_t bits, Index limit) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<Index>(Wide{bits} * static_cast<std::uint64_t>(limit) >> 64);
}

/// Throws where a part of the text, from `paths`, is too short.
void check_size(const std::string& paths, const std::string& what, Index available, Index needed) {
  if (available >= needed) return;
  throw std::invalid_argument(paths + ": the " + what + " text has " + std::to_string(available) +
                              " bytes, needed are " + std::to_string(needed) +
                              "; give more text or a smaller model.context");
}

}  // namespace

struct TextData::Impl {
  Impl(CorpusFiles for_training, CorpusFiles for_validation)
      : training_files(std::move(for_training)), validation_files(std::move(for_validation)) {}

  /// Where training sequence number i begins.
  Index sequence_start(std::uint64_t seed, Index i, Index length) const {
    return scaled(random_bits(seed, static_cast<std::uint64_t>(i)), summary.training_bytes - length + 1);
  }

  /// Already computed for a mapped file.
  std::optional<std::string> sha256_of_the_only_file() const {
    if (training_files.texts.size() + validation_files.texts.size() != 1) return {};
    for (const CorpusFiles* files : {&training_files, &validation_files}) {
      if (!files->mapped.empty() && !files->mapped.front().sha256.empty())
        return files->mapped.front().sha256;
    }
    return {};
  }

  /// What every reader of the text ends with.
  void require_whole() const {
    for (const CorpusFiles* files : {&training_files, &validation_files}) {
      for (const MappedText& text : files->mapped) {
        try {
          text.file.require_whole();
        } catch (const std::runtime_error& error) {
          throw TextGone(error.what());
        }
      }
    }
  }

  CorpusFiles training_files, validation_files;
  ByteStream training{{}}, validation{{}};
  Index validation_begin = 0;
  CorpusSummary summary;
  std::string training_paths, validation_paths;  // for messages
};

namespace {
std::string named(const std::vector<std::string>& paths) {
  return paths.size() > 1 ? paths.front() + " and others" : paths.empty() ? "" : paths.front();
}
}  // namespace

TextData::TextData(const std::vector<std::string>& data, const std::vector<std::string>& validation,
                   Index needed_bytes) {
  if (data.empty() && validation.empty()) {
    throw std::invalid_argument("no text was named; give files or folders (data.paths)");
  }
  CorpusCollector collector;
  // First, so that what is named as both stays out of training.
  CorpusFiles validation_files = collector.collect(validation);
  CorpusFiles training_files = collector.collect(data);
  impl_ = std::make_unique<Impl>(std::move(training_files), std::move(validation_files));
  impl_->training_paths = named(data);
  impl_->validation_paths = named(validation.empty() ? data : validation);
  impl_->training = ByteStream(impl_->training_files.texts);
  impl_->validation = validation.empty() ? impl_->training : ByteStream(impl_->validation_files.texts);

  CorpusSummary& summary = impl_->summary;
  Sha256 hash;
  const std::optional<std::string> known = impl_->sha256_of_the_only_file();
  for (const CorpusFiles* files : {&impl_->training_files, &impl_->validation_files}) {
    summary.files += std::ssize(files->texts);
    summary.skipped += files->skipped;
    summary.repeated += files->repeated;
    for (const Bytes text : files->texts) {
      summary.bytes += std::ssize(text);
      if (!known) hash.add(text);
    }
  }
  summary.sha256 = known ? *known : hash.hexadecimal();
  impl_->require_whole();

  const std::vector<Index> starts = impl_->training.document_starts();
  summary.documents = std::ssize(starts);
  if (validation.empty()) {
    impl_->validation_begin = validation_start(impl_->training.size(), starts);
    summary.training_bytes = impl_->validation_begin;
  } else {
    summary.documents += std::ssize(impl_->validation.document_starts());
    summary.training_bytes = impl_->training.size();
  }
  summary.validation_bytes = impl_->validation.size() - impl_->validation_begin;
  if (!data.empty()) check_size(impl_->training_paths, "training", summary.training_bytes, needed_bytes);
  check_size(impl_->validation_paths, "validation", summary.validation_bytes, needed_bytes);
}

TextData::~TextData() = default;

const CorpusSummary& TextData::summary() const { return impl_->summary; }

void TextData::require_unchanged() {
  for (CorpusFiles* files : {&impl_->training_files, &impl_->validation_files}) {
    for (MappedText& text : files->mapped) {
      const std::filesystem::path& name = text.file.name();
      const FileStamp now = stamp_of(name);
      if (text.sha256.empty() || (text.stamp.settled && now == text.stamp)) continue;
      Sha256 hash;
      hash.add(text.file.bytes());
      impl_->require_whole();
      if (hash.hexadecimal() != text.sha256)
        throw std::runtime_error(name.string() + ": the text was changed while it was being trained on");
      text.stamp = now;
      if (now == FileStamp{}) text.stamp.settled = true;  // no such name any more: nobody finds the file
    }
  }
}

void TextData::training_sequences(std::uint64_t seed, Index first_sequence, Index count, Index context,
                                  std::span<std::int64_t> tokens) const {
  const Index length = context + 1;
  check_size(impl_->training_paths, "training", summary().training_bytes, length);
  if (std::ssize(tokens) != count * length) {
    throw std::invalid_argument(
        "[aurora::trainer::training_sequences] Tokens do not fit: " + std::to_string(tokens.size()) +
        " for " + std::to_string(count) + "x" + std::to_string(length));
  }
  for (Index i = 0; i < count; ++i) {
    impl_->training.copy(
        impl_->sequence_start(seed, first_sequence + i, length),
        tokens.subspan(static_cast<std::size_t>(i * length), static_cast<std::size_t>(length)));
  }
  impl_->require_whole();
}

std::string TextData::order_sha256(std::uint64_t seed, Index count, Index context) const {
  Sha256 hash;
  for (Index i = 0; i < count; ++i) {
    const Index start = impl_->sequence_start(seed, i, context + 1);
    hash.add(std::as_bytes(std::span(&start, 1)));
  }
  return hash.hexadecimal();
}

Index TextData::validation_sequences(Index context, Index max_sequences,
                                     std::vector<std::int64_t>& tokens) const {
  const Index length = context + 1;
  const Index available = summary().validation_bytes;
  check_size(impl_->validation_paths, "validation", available, length);
  const Index count = std::min(max_sequences, available / length);
  tokens.resize(static_cast<std::size_t>(count * length));
  for (Index i = 0; i < count; ++i) {
    const Index offset = i * (available / count) + i * (available % count) / count;
    impl_->validation.copy(
        impl_->validation_begin + offset,
        std::span(tokens).subspan(static_cast<std::size_t>(i * length), static_cast<std::size_t>(length)));
  }
  impl_->require_whole();
  return count;
}

bool is_utf8(std::string_view bytes, bool cut_off) {
  const auto invalid = utf8::find_invalid(bytes.begin(), bytes.end());
  if (invalid == bytes.end()) return true;
  try {
    utf8::peek_next(invalid, bytes.end());
  } catch (const utf8::not_enough_room&) {
    return cut_off;
  } catch (const utf8::exception&) {
    return false;
  }
  return false;
}

}  // namespace aurora::trainer
