#include "event_file.hpp"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <vector>

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNamePrefix = "events.out.tfevents.";

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}();

template <class Number>
void append_fixed(std::string& out, Number number) {
  static_assert(std::endian::native == std::endian::little);
  const auto bytes = std::bit_cast<std::array<char, sizeof number>>(number);
  out.append(bytes.data(), bytes.size());
}

void append_varint(std::string& out, std::uint64_t number) {
  for (; number >= 0x80; number >>= 7) out += static_cast<char>(number | 0x80);
  out += static_cast<char>(number);
}

void append_bytes(std::string& out, char key, std::string_view bytes) {
  out += key;
  append_varint(out, bytes.size());
  out += bytes;
}

// Protobuf keys: field number << 3 | wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes).
constexpr char kWallTime = 1 << 3 | 1, kStep = 2 << 3 | 0, kFileVersion = 3 << 3 | 2, kSummary = 5 << 3 | 2;
constexpr char kValue = 1 << 3 | 2, kTag = 1 << 3 | 2, kSimpleValue = 2 << 3 | 5;

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string file_name() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host = {"localhost"};
  return std::string(kNamePrefix) + std::to_string(static_cast<std::int64_t>(seconds_since_1970())) + "." +
         host.data() + "." + std::to_string(::getpid()) + ".0";
}

}  // namespace

EventFile::EventFile(const fs::path& folder) : file_(folder / file_name()) {
  std::string event(1, kWallTime);
  append_fixed(event, seconds_since_1970());
  append_bytes(event, kFileVersion, "brain.Event:2");
  append(event);
  flush();
}

void EventFile::scalar(std::string_view tag, std::int64_t step, double wall_time, float value) {
  std::string entry;
  append_bytes(entry, kTag, tag);
  entry += kSimpleValue;
  append_fixed(entry, value);
  std::string summary;
  append_bytes(summary, kValue, entry);
  std::string event(1, kWallTime);
  append_fixed(event, wall_time);
  event += kStep;
  append_varint(event, static_cast<std::uint64_t>(step));
  append_bytes(event, kSummary, summary);
  append(event);
}

void EventFile::append(std::string_view event) {
  std::string length;
  append_fixed(length, static_cast<std::uint64_t>(event.size()));
  pending_ += length;
  append_fixed(pending_, masked_crc32c(length));
  pending_ += event;
  append_fixed(pending_, masked_crc32c(event));
}

void EventFile::flush() {
  file_.write(pending_);
  pending_.clear();
}

void remove_event_files(const fs::path& folder) {
  std::vector<fs::path> old;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(kNamePrefix)) old.push_back(entry.path());
  }
  for (const fs::path& file : old) fs::remove(file);
}

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char byte : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  return ~crc;
}

std::uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u; }

}  // namespace aurora::trainer
