#include "file_sums.hpp"

#include <map>
#include <mutex>
#include <tuple>

#include "sha256.hpp"

namespace aurora::trainer {
namespace {

auto key(const FileStamp& s) { return std::tuple(s.device, s.inode, s.bytes, s.modified, s.changed); }

std::string computed(const MappedFile& file) {
  Sha256 hash;
  hash.add(file.bytes());
  file.require_whole();
  return hash.hexadecimal();
}

}  // namespace

std::string sha256_of(const MappedFile& file) {
  static std::mutex mutex;
  static std::map<decltype(key({})), std::string> known;
  if (!file.stamp().settled) return computed(file);
  const std::lock_guard lock(mutex);
  const auto found = known.find(key(file.stamp()));
  // What the mapping shows now is what its stamp says only as long as the file keeps that stamp.
  if (found != known.end() && stamp_of(file.name()) == file.stamp()) return found->second;
  std::string sum = computed(file);
  if (stamp_of(file.name()) == file.stamp()) known[key(file.stamp())] = sum;
  return sum;
}

FileSum file_sum(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  return {.bytes = std::ssize(mapped.bytes()), .sha256 = computed(mapped)};
}

}  // namespace aurora::trainer
