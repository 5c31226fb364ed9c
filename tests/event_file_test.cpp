#include "event_file.hpp"

#include <gmock/gmock.h>

#include <cstring>
#include <vector>

#include "support/temporary_folder.hpp"

namespace aurora::trainer {
namespace {

using namespace std::string_view_literals;

using test::content_of;
using test::TemporaryFolder;

template <class Number>
Number number_at(std::string_view bytes, std::size_t offset) {
  Number number;
  std::memcpy(&number, bytes.substr(offset, sizeof number).data(), sizeof number);
  return number;
}

std::filesystem::path only_file(const TemporaryFolder& folder) {
  const std::filesystem::directory_iterator files(folder.path());
  return files->path();
}

std::vector<std::string> events_of(const std::string& content) {
  std::vector<std::string> events;
  for (std::size_t at = 0; at < content.size();) {
    const auto length = number_at<std::uint64_t>(content, at);
    EXPECT_EQ(number_at<std::uint32_t>(content, at + 8), masked_crc32c(content.substr(at, 8)));
    events.push_back(content.substr(at + 12, length));
    EXPECT_EQ(number_at<std::uint32_t>(content, at + 12 + length), masked_crc32c(events.back()));
    at += 16 + length;
  }
  return events;
}

// RFC 3720, section B.4.
TEST(EventFile, ChecksumsAreThoseOfTheStandard) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(EventFile, TheMaskRotatesAndAdds) {
  const std::uint32_t crc = 0xE3069283u;
  EXPECT_EQ(masked_crc32c("123456789"), ((crc >> 15) | (crc << 17)) + 0xA282EAD8u);
}

TEST(EventFile, BytesAreThoseOfTheProtocol) {
  const TemporaryFolder folder;
  EventFile file(folder.path());
  file.scalar("loss", 300, 1.0, 2.0f);
  file.flush();
  EXPECT_THAT(only_file(folder).filename().string(),
              testing::MatchesRegex("events\\.out\\.tfevents\\.[0-9]+\\..+\\.0"));
  const auto events = events_of(content_of(only_file(folder)));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].substr(9), std::string("\x1A\x0D") + "brain.Event:2");
  EXPECT_EQ(events[1],
            "\x09\0\0\0\0\0\0\xF0\x3F"                        // wall time
            "\x10\xAC\x02"                                    // step
            "\x2A\x0D\x0A\x0B\x0A\x04loss\x15\0\0\0\x40"sv);  // summary
}

TEST(EventFile, AnUnflushedScalarWaits) {
  const TemporaryFolder folder;
  EventFile file(folder.path());
  const auto before = content_of(only_file(folder));
  file.scalar("loss", 1, 1.0, 2.0f);
  EXPECT_EQ(content_of(only_file(folder)), before);
}

}  // namespace
}  // namespace aurora::trainer
