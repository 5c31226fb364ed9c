#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "atomic_file.hpp"

namespace aurora::trainer {

/// A TensorBoard event file of scalars: events.out.tfevents.<seconds>.<host>.<pid>.0 in `folder`, made at
/// once. A record is its length, masked crc32c of the length, a protobuf Event, masked crc32c of it
/// (tensorboard's record_writer.py). Errors: std::runtime_error naming the file.
class EventFile {
 public:
  explicit EventFile(const std::filesystem::path& folder);
  /// `wall_time` in seconds since 1970. Kept in memory until flush().
  void scalar(std::string_view tag, std::int64_t step, double wall_time, float value);
  void flush();

 private:
  void append(std::string_view event);

  FileWriter file_;
  std::string pending_;
};

/// Removes all event files in `folder`.
void remove_event_files(const std::filesystem::path& folder);

/// CRC-32C (Castagnoli) of bytes, and TensorBoard's mask of it.
std::uint32_t crc32c(std::string_view bytes);
std::uint32_t masked_crc32c(std::string_view bytes);

}  // namespace aurora::trainer
