#include "text_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <vector>

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& file, const char* what, int error) {
  throw std::runtime_error(file.string() + ": " + what + ": " + std::generic_category().message(error));
}

/// A regular file open for reading.
class Input {
 public:
  explicit Input(const fs::path& file)
      : file_(file), descriptor_(::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    if (descriptor_ < 0) fail(file, "cannot be opened", errno);
    struct ::stat status {};
    const int error = ::fstat(descriptor_, &status) == 0 ? 0 : errno;
    if (error == 0 && S_ISREG(status.st_mode)) return;
    ::close(descriptor_);
    if (error != 0) fail(file, "cannot be read", error);
    if (S_ISDIR(status.st_mode)) fail(file, "cannot be read", EISDIR);
    throw std::runtime_error(file.string() + ": is not a regular file");
  }
  ~Input() { ::close(descriptor_); }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  /// The next bytes; none at the end.
  std::string_view read() {
    for (;;) {
      const ::ssize_t count = ::read(descriptor_, buffer_.data(), buffer_.size());
      if (count >= 0) return {buffer_.data(), static_cast<std::size_t>(count)};
      if (errno != EINTR) fail(file_, "cannot be read", errno);
    }
  }

 private:
  const fs::path& file_;
  int descriptor_;
  std::vector<char> buffer_ = std::vector<char>(65536);
};

}  // namespace

std::string read_text_file(const fs::path& file, std::size_t most) {
  Input input(file);
  std::string text;
  for (auto part = input.read(); !part.empty(); part = input.read()) {
    if (part.size() > most - text.size())
      throw std::runtime_error(file.string() + ": is longer than the " + std::to_string(most) +
                               " bytes that are read");
    text += part;
  }
  return text;
}

bool for_each_line(const fs::path& file, std::size_t longest, const UseLine& use) {
  Input input(file);
  std::string line;
  bool cut = false;
  std::int64_t number = 0;
  for (auto part = input.read(); !part.empty(); part = input.read()) {
    while (!part.empty()) {
      const auto end = part.find('\n');
      const std::string_view taken = part.substr(0, end);
      cut = cut || taken.size() > longest - line.size();
      line += taken.substr(0, longest - line.size());
      if (end == std::string_view::npos) break;
      use(line, ++number, cut);
      part.remove_prefix(end + 1);
      line.clear();
      cut = false;
    }
  }
  return !line.empty();
}

}  // namespace aurora::trainer
