#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>

namespace aurora::trainer {

/// All of a regular file of at most `most` bytes. A pipe or a device is not waited for. Throws
/// std::runtime_error "FILE: what".
std::string read_text_file(const std::filesystem::path& file, std::size_t most);

/// Calls use(line, number) for every line that has an end, from 1, without it; of a line above `longest`
/// bytes only as many are kept and `cut` is true. Returns whether a last line without an end was left out.
/// Throws as read_text_file.
using UseLine = std::function<void(const std::string& line, std::int64_t number, bool cut)>;
bool for_each_line(const std::filesystem::path& file, std::size_t longest, const UseLine& use);

}  // namespace aurora::trainer
