// comparison.json, with one run beside it: read, and its runs planned.
#include "design.hpp"
#include "fuzzed.hpp"
#include "run_all.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::written("comparison.json", fuzz::text_of(data, size));
  fuzz::refuses_in_words([&] {
    const auto design = compare::read_design(fuzz::folder());
    fuzz::require(design.has_value(), "a file that is there is read");
    for (const auto& run : compare::planned_runs(*design, fuzz::folder()))
      fuzz::require(run.seed <= INT64_MAX, "a run has a seed that it can have");
    compare::require_extension(*design, *design, fuzz::folder());
  });
  return 0;
}
