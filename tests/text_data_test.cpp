#include "text_data.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "support/temporary_folder.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TemporaryFolder;
using testing::HasSubstr;

std::string text_of(std::span<const std::int64_t> tokens) {
  std::string text;
  for (const std::int64_t token : tokens) text += static_cast<char>(token);
  return text;
}

/// The validation part, read as one sequence.
std::string validation_text(const TextData& data) {
  std::vector<std::int64_t> tokens;
  EXPECT_EQ(data.validation_sequences(data.summary().validation_bytes - 1, 1, tokens), 1);
  return text_of(tokens);
}

/// The training part: all of it is the only sequence of that length.
std::string training_text(const TextData& data) {
  const Index size = data.summary().training_bytes;
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(size));
  data.training_sequences(0, 0, 1, size - 1, tokens);
  return text_of(tokens);
}

std::string numbered_bytes(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; text.size() < count; ++i) text += std::to_string(i) + " ";
  text.resize(count);
  return text;
}

TEST(TextData, TheLastTenthOfASingleTextIsForValidation) {
  const TemporaryFolder folder;
  const std::string text = numbered_bytes(1115);
  const TextData data({folder.write("text", text)}, {}, 2);
  EXPECT_EQ(data.summary().files, 1);
  EXPECT_EQ(data.summary().documents, 1);
  EXPECT_EQ(data.summary().bytes, 1115);
  EXPECT_EQ(data.summary().training_bytes, 1003);
  EXPECT_EQ(training_text(data), text.substr(0, 1003));
  EXPECT_EQ(validation_text(data), text.substr(1003));
}

// FIPS 180-2, appendix B.1, in two files.
TEST(TextData, TheChecksumIsOfAllBytesInOrder) {
  const TemporaryFolder folder;
  folder.write("1", "a");
  folder.write("2", "bc");
  EXPECT_EQ(TextData({folder.path().string()}, {}, 0).summary().sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(TextData, FoldersAreReadRecursivelyInSortedOrder) {
  const TemporaryFolder folder, other;
  folder.write("b", "B");
  folder.write("a/z", "AZ");
  folder.write("a/c/x", "ACX");
  folder.write("a.txt", "A.");
  folder.write(".hidden", "H");
  folder.write("empty", "");
  const TextData data({other.write("first", "F"), folder.path().string()}, {other.write("validation", "V")},
                      1);
  EXPECT_EQ(training_text(data), std::string("F\0H\0ACX\0AZ\0A.\0B", 15));
  EXPECT_EQ(data.summary().files, 7);
}

TEST(TextData, FewerThanTwentyDocumentsAreCutInTheMiddle) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 19; ++i)
    text += (i > 0 ? std::string(1, '\0') : "") + "document " + std::to_string(10 + i);
  const TextData data({folder.write("text", text)}, {}, 1);
  EXPECT_EQ(data.summary().documents, 19);
  EXPECT_EQ(validation_text(data), text.substr(text.size() * 9 / 10));
}

TEST(TextData, TwentyDocumentsAreDividedWhole) {
  const TemporaryFolder folder;
  for (int i = 10; i < 30; ++i)
    folder.write("file" + std::to_string(i), "document number " + std::to_string(i));
  const TextData data({folder.path().string()}, {}, 1);
  EXPECT_EQ(data.summary().documents, 20);
  // 379 bytes with separators: two documents are 37 bytes, less than a tenth, three are 56.
  EXPECT_EQ(validation_text(data),
            std::string("document number 27\0document number 28\0document number 29", 56));
  EXPECT_EQ(training_text(data).substr(379 - 56 - 19), std::string("document number 26\0", 19));
}

TEST(TextData, AnExactTenthOfWholeDocumentsIsEnough) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 20; ++i) text += std::string(9, 'x') + '\0';
  const TextData data({folder.write("text", text)}, {}, 1);
  EXPECT_EQ(data.summary().validation_bytes, 20);
}

TEST(TextData, WholeDocumentsNeverTakeMoreThanHalf) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 30; ++i) text += std::string("short") + '\0';
  text += std::string(1000, 'x');
  const TextData data({folder.write("text", text)}, {}, 1);
  EXPECT_EQ(data.summary().documents, 31);
  EXPECT_EQ(data.summary().validation_bytes, 118);
}

TEST(TextData, RunsOfNulAreOneSeparation) {
  const TemporaryFolder folder;
  const TextData data(
      {folder.write("text", std::string("\0\0one\0\0\0two\0", 12)), folder.write("more", "three")}, {}, 1);
  EXPECT_EQ(data.summary().documents, 3);
  EXPECT_EQ(data.summary().skipped, 0);
}

TEST(TextData, BinariesAreSkippedAndCounted) {
  const TemporaryFolder folder;
  folder.write("binary",
               "\x7F"
               "ELF\xFF\xFE");
  folder.write("latin", "caf\xE9 noir");
  folder.write("late", std::string(65536, 'x') + "\xFF");
  folder.write("text", "caf\xC3\xA9");
  const TextData data({folder.path().string()}, {}, 1);
  EXPECT_EQ(data.summary().skipped, 2);
  EXPECT_EQ(data.summary().files, 2);
}

TEST(TextData, ACharacterCutAtTheEndOfTheLookIsText) {
  const TemporaryFolder folder;
  const TextData data({folder.write("text", std::string(65535, 'x') + "\xC3\xA9")}, {}, 1);
  EXPECT_EQ(data.summary().skipped, 0);
}

TEST(TextData, Utf8IsCheckedAsUnicodeDefinesIt) {
  for (const char* text : {"", "a", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEF\xBF\xBF",
                           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(is_utf8(text, false)) << testing::PrintToString(text);
  }
  // Lone continuation, overlong forms, a surrogate, beyond U+10FFFF, no lead byte, characters broken off.
  for (const char* text : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                           "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF",
                           "\xC3"
                           "a",
                           "\xE2\x82"
                           "a"}) {
    EXPECT_FALSE(is_utf8(text, true)) << testing::PrintToString(text);
  }
  for (const char* text : {"\xC3", "\xE2\x82", "\xF0\x9F\x98"}) {
    EXPECT_TRUE(is_utf8(text, true));
    EXPECT_FALSE(is_utf8(text, false));
  }
}

TEST(TextData, ValidationPathsAreTakenWhole) {
  const TemporaryFolder folder;
  const TextData data({folder.write("t", numbered_bytes(50))},
                      {folder.write("v", "val"), folder.write("w", "more")}, 2);
  EXPECT_EQ(validation_text(data), std::string("val\0more", 8));
  EXPECT_EQ(training_text(data), numbered_bytes(50));
}

TEST(TextData, WhatIsValidatedOnIsNotTrainedOn) {
  const TemporaryFolder folder;
  folder.write("a", "training");
  const std::string held_out = folder.write("b", "held out");
  fs::create_symlink(held_out, folder / "c");
  fs::create_hard_link(held_out, folder / "d");
  const TextData data({folder.path().string()}, {held_out}, 2);
  EXPECT_EQ(training_text(data), "training");
  EXPECT_EQ(data.summary().repeated, 3);
}

TEST(TextData, AFileNamedTwiceIsTakenOnce) {
  const TemporaryFolder folder;
  const std::string file = folder.write("a", numbered_bytes(100));
  const TextData data({file, folder.path().string(), file}, {}, 2);
  EXPECT_EQ(data.summary().bytes, 100);
  EXPECT_EQ(data.summary().repeated, 2);
}

TEST(TextData, LinksInCirclesEnd) {
  const TemporaryFolder folder;
  folder.write("sub/text", numbered_bytes(40));
  fs::create_directory_symlink(folder.path(), folder / "sub/up");
  fs::create_symlink("self", folder / "self");
  fs::create_symlink("nowhere", folder / "broken");
  EXPECT_EQ(TextData({folder.path().string()}, {}, 2).summary().files, 1);
}

TEST(TextData, ManyFilesAreOneText) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 300; ++i) {
    const std::string content(static_cast<std::size_t>(i % 7 == 0 ? 70'000 : 1 + i % 5),
                              static_cast<char>('a' + i % 26));
    folder.write("f" + std::to_string(1000 + i), content);
    text += (i > 0 ? std::string(1, '\0') : "") + content;
  }
  const TextData data({folder.path().string()}, {}, 2);
  EXPECT_TRUE(training_text(data) + validation_text(data) == text);
}

TEST(TextData, ASequenceDependsOnSeedAndNumberAlone) {
  const TemporaryFolder folder;
  const TextData data({folder.write("text", numbered_bytes(5000))}, {}, 2);
  const auto sequences = [&](std::uint64_t seed, Index first, Index count) {
    std::vector<std::int64_t> tokens(static_cast<std::size_t>(count * 17));
    data.training_sequences(seed, first, count, 16, tokens);
    return tokens;
  };
  const auto whole = sequences(5, 80, 8);
  auto parts = sequences(5, 80, 4);
  const auto second = sequences(5, 84, 4);
  parts.insert(parts.end(), second.begin(), second.end());
  EXPECT_EQ(whole, parts);
  EXPECT_NE(whole, sequences(6, 80, 8));
  EXPECT_NE(whole, sequences(5, 81, 8));
  // The step of splitmix64: seeds that lie this far apart must not give one order, moved by a sequence.
  EXPECT_NE(whole, sequences(5 + 0x9E3779B97F4A7C15u, 79, 8));
  EXPECT_THAT(numbered_bytes(4500), HasSubstr(text_of(std::span(whole).first(17))));
}

TEST(TextData, TheChecksumOfTheOrderFollowsSeedCountAndText) {
  const TemporaryFolder folder;
  const TextData data({folder.write("a", std::string(5000, 'a'))}, {}, 17);
  const TextData longer({folder.write("b", std::string(6000, 'a'))}, {}, 17);
  const std::string order = data.order_sha256(1, 100, 16);
  EXPECT_EQ(order.size(), 64U);
  EXPECT_EQ(data.order_sha256(1, 100, 16), order);
  EXPECT_NE(data.order_sha256(2, 100, 16), order);
  EXPECT_NE(data.order_sha256(1, 101, 16), order);
  EXPECT_NE(longer.order_sha256(1, 100, 16), order);
}

TEST(TextData, SequencesBeginEverywhereInTheTrainingPartEquallyOften) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>(i);
  const TextData data({folder.write("text", text)}, {}, 2);
  constexpr Index kCount = 90'000, kContext = 9;
  std::vector<std::int64_t> tokens(kCount * (kContext + 1));
  data.training_sequences(1, 0, kCount, kContext, tokens);
  std::map<std::int64_t, int> starts;
  for (std::size_t i = 0; i < tokens.size(); i += kContext + 1) ++starts[tokens[i]];
  // Places 0 to 80, each binomial with mean 1111 and deviation 33: six deviations are passed once in 10^7
  // runs.
  EXPECT_EQ(starts.size(), 81u);
  for (const auto& [start, count] : starts)
    EXPECT_NEAR(count, kCount / 81.0, 6 * std::sqrt(kCount / 81.0)) << start;
}

TEST(TextData, ValidationSequencesAreEvenlySpacedAndApart) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 103; ++i) text += static_cast<char>(i);
  const TextData data({}, {folder.write("text", text)}, 10);
  std::vector<std::int64_t> tokens;
  EXPECT_EQ(data.validation_sequences(9, 1000, tokens), 10);
  ASSERT_EQ(tokens.size(), 100u);
  EXPECT_EQ(std::set(tokens.begin(), tokens.end()).size(), 100u);
  EXPECT_EQ(tokens[0], 0);
  EXPECT_EQ(tokens[90], 92);
  EXPECT_EQ(data.validation_sequences(9, 3, tokens), 3);
  EXPECT_THAT(std::vector({tokens[0], tokens[10], tokens[20]}), testing::ElementsAre(0, 34, 68));
}

TEST(TextData, ShortTextIsRefusedWithItsSize) {
  const TemporaryFolder folder;
  const std::string file = folder.write("text", numbered_bytes(100));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { TextData({file}, {}, 91); }),
              HasSubstr("training text has 90 bytes, needed are 91"));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { TextData({file}, {}, 11); }),
              HasSubstr("validation text has 10 bytes, needed are 11"));
  const TextData data({file}, {}, 10);
  std::vector<std::int64_t> tokens(91);
  EXPECT_THAT(error_of<std::invalid_argument>([&] { data.training_sequences(0, 0, 1, 90, tokens); }),
              HasSubstr("90 bytes"));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { data.training_sequences(0, 0, 2, 9, tokens); }),
              HasSubstr("91 for 2x10"));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { data.validation_sequences(10, 1, tokens); }),
              HasSubstr("10 bytes"));
}

TEST(TextData, WhatHoldsNoTextIsRefusedByName) {
  const TemporaryFolder folder;
  const auto refusal = [](const std::string& path) {
    return error_of<std::runtime_error>([&] { TextData({path}, {}, 1); });
  };
  const std::string binary = folder.write("binaries/one", "\xFF\xFE");
  EXPECT_THAT(refusal(binary), HasSubstr(binary + ": no text: 1 files are not UTF-8"));
  EXPECT_THAT(refusal((folder / "binaries").string()), HasSubstr("binaries: no text: 1 files"));
  EXPECT_THAT(refusal(folder.write("empty", "")), HasSubstr("empty: is empty"));
  EXPECT_THAT(refusal((folder / "none").string()),
              HasSubstr("none: cannot be read: No such file or directory"));
  fs::create_directory(folder / "nothing");
  EXPECT_THAT(refusal((folder / "nothing").string()), HasSubstr("nothing: no text: 0 files"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(refusal((folder / "pipe").string()), HasSubstr("pipe: is not a regular file"));
  EXPECT_THAT(error_of<std::invalid_argument>([&] { TextData({}, {}, 1); }), HasSubstr("no text was named"));
}

TEST(TextData, UnreadableFilesAndFoldersAreErrors) {
  if (::geteuid() == 0) GTEST_SKIP() << "root reads everything";
  const TemporaryFolder folder;
  folder.write("text", "readable");
  const std::string file = folder.write("closed", "text");
  fs::permissions(file, fs::perms::none);
  const auto refusal = [&] {
    return error_of<std::runtime_error>([&] { TextData({folder.path().string()}, {}, 1); });
  };
  EXPECT_THAT(refusal(), HasSubstr(file + ": cannot be opened: Permission denied"));
  fs::remove(file);
  fs::create_directory(folder / "locked");
  fs::permissions(folder / "locked", fs::perms::none);
  EXPECT_THAT(refusal(), HasSubstr("locked: folder cannot be read: Permission denied"));
  fs::permissions(folder / "locked", fs::perms::owner_all);
}

/// Runs `call` with standard input from a file.
template <class Call>
void with_standard_input(const std::string& file, const Call& call) {
  const int kept = ::dup(STDIN_FILENO);
  ASSERT_NE(std::freopen(file.c_str(), "r", stdin), nullptr);
  call();
  ::dup2(kept, STDIN_FILENO);
  ::close(kept);
}

TEST(TextData, ChangedContentIsNoticedWhateverTheTimesSay) {
  const TemporaryFolder folder;
  std::string text = numbered_bytes(200'000);
  const std::filesystem::path file = folder.write("text", text);
  const auto time = std::filesystem::last_write_time(file);
  TextData data({file.string()}, {}, 33);
  data.require_unchanged();
  text[100'000] ^= 1;
  std::ofstream(file, std::ios::binary | std::ios::in) << text;
  std::filesystem::last_write_time(file, time);
  EXPECT_THAT(error_of<std::runtime_error>([&] { data.require_unchanged(); }),
              HasSubstr(file.string() + ": the text was changed"));
  text[100'000] ^= 1;
  std::ofstream(file, std::ios::binary | std::ios::in) << text;
  EXPECT_NO_THROW(data.require_unchanged());
  std::filesystem::remove(file);
  EXPECT_NO_THROW(data.require_unchanged());
}

TEST(TextData, TextThatBecameShorterIsNeverReadAsZeros) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.write("text", numbered_bytes(200'000));
  TextData data({file.string()}, {}, 33);
  std::filesystem::resize_file(file, 10);
  std::vector<std::int64_t> tokens(64 * 33);
  EXPECT_THAT(error_of<TextGone>([&] { data.training_sequences(0, 0, 64, 32, tokens); }),
              HasSubstr(file.string() + ": became shorter"));
  EXPECT_THROW(data.validation_sequences(32, 8, tokens), TextGone);
  EXPECT_THROW(data.require_unchanged(), TextGone);
}

TEST(TextData, StandardInputIsSpooled) {
  const TemporaryFolder folder;
  const std::string text = numbered_bytes(200'000);
  with_standard_input(folder.write("text", text), [&] {
    const TextData data({"-"}, {}, 2);
    EXPECT_TRUE(training_text(data) + validation_text(data) == text);
  });
  with_standard_input(folder.write("empty", ""), [&] {
    EXPECT_THAT(error_of<std::runtime_error>([&] { TextData({"-"}, {}, 1); }),
                HasSubstr("standard input: is empty"));
  });
  with_standard_input(folder.write("text", text), [&] {
    EXPECT_THAT(error_of<std::runtime_error>([&] { TextData({"-"}, {"-"}, 1); }), HasSubstr("named twice"));
  });
}

}  // namespace
}  // namespace aurora::trainer
