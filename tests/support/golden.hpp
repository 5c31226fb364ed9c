#pragma once

#include <map>
#include <string>
#include <vector>

#include "support/matrices.hpp"

namespace aurora::test {

/// The arrays that tests/golden/make_golden.py wrote, by name.
class Golden {
 public:
  Golden();  // throws std::runtime_error where the files cannot be read

  /// Throws std::out_of_range for an unknown name.
  const Matrix& operator[](const std::string& name) const { return arrays_.at(name); }
  bool has(const std::string& name) const { return arrays_.contains(name); }
  /// What follows `prefix` in the names that begin with it, in order.
  std::vector<std::string> names_after(const std::string& prefix) const;

 private:
  std::map<std::string, Matrix> arrays_;
};

const Golden& golden();

}  // namespace aurora::test
