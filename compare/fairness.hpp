#pragma once

#include <string>
#include <vector>

#include "comparison.hpp"
#include "run_groups.hpp"

namespace aurora::compare {

/// Text of `key` in the headers of all result runs of the seed if they agree; empty, and a warning, if not.
std::string agreed(const std::vector<Group>& groups, std::uint64_t seed, const char* key, const char* what,
                   std::vector<std::string>& warnings);

/// Why the runs are not of one experiment: other text, in the sweep too, and a sentence for each setting that
/// makes the result runs others.
std::vector<std::string> why_incomparable(const std::vector<Group>& groups);

/// Settings of runs that should be equal and are not.
void warn_of_settings(const std::vector<Group>& groups, std::vector<std::string>& warnings);

/// Learning rates that differ although no sweep chose them.
void warn_of_rates(const std::vector<Group>& groups, std::vector<std::string>& warnings);

/// Times that cannot be compared: another machine, other threads, another way to wait, another speed.
void warn_of_times(const std::vector<Group>& groups, std::vector<std::string>& warnings);

/// What is missing in the results, and best rates at the edge of a sweep.
void warn_of_results(const Comparison& comparison, std::vector<std::string>& warnings);

/// A sweep that is not at its end; empty for one that is.
std::string sweep_progress(const Comparison& comparison);

/// A value of a log's header; `otherwise` where it is missing or of another kind.
template <class Value>
Value header_value(const nlohmann::ordered_json& header, const char* key, Value otherwise) {
  const auto found = header.find(key);
  if (found == header.end()) return otherwise;
  if constexpr (std::is_same_v<Value, std::string>) {
    return found->is_string() ? found->get<std::string>() : otherwise;
  } else {
    return found->is_number_integer() ? found->get<Value>() : otherwise;
  }
}

}  // namespace aurora::compare
