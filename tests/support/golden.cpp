#include "support/golden.hpp"

#include <bit>
#include <fstream>
#include <stdexcept>

namespace aurora::test {

static_assert(std::endian::native == std::endian::little, "golden.f64 is little-endian");

Golden::Golden() {
  const std::string folder = AURORA_TEST_FOLDER "/golden/";
  std::ifstream index(folder + "golden.txt");
  std::ifstream numbers(folder + "golden.f64", std::ios::binary);
  std::string name;
  Index rows = 0, cols = 0, position = 0;
  while (index >> name >> rows >> cols >> position) {
    Matrix x{rows, cols};
    numbers.seekg(position * 8);
    numbers.read(reinterpret_cast<char*>(x.values.data()), rows * cols * 8);
    arrays_.emplace(name, std::move(x));
  }
  if (arrays_.empty() || !numbers) throw std::runtime_error("golden files are missing or cut off: " + folder);
}

std::vector<std::string> Golden::names_after(const std::string& prefix) const {
  std::vector<std::string> names;
  for (auto at = arrays_.lower_bound(prefix); at != arrays_.end() && at->first.starts_with(prefix); ++at) {
    names.push_back(at->first.substr(prefix.size()));
  }
  return names;
}

const Golden& golden() {
  static const Golden files;
  return files;
}

}  // namespace aurora::test
