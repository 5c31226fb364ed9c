// log.jsonl, and going on with it: what is kept is read again, and a run's summary can be made of it.
#include "fuzzed.hpp"
#include "run_log.hpp"
#include "run_summary.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto run = fuzz::folder() / "run";
  std::filesystem::create_directories(run);
  const auto path = fuzz::written("run/log.jsonl", fuzz::text_of(data, size));
  fuzz::refuses_in_words([&] { trainer::summarize(trainer::read_damaged_log(path).records); });
  fuzz::refuses_in_words([&] {
    const auto before = trainer::read_log(path);
    trainer::summarize(before.records);
    trainer::RunLog log(run, 3, {"eval"});
    log.write({{"kind", "train"}, {"step", 4}, {"loss", 1.0}});
    const auto after = trainer::read_log(path);
    fuzz::require(!after.incomplete && after.records.size() <= before.records.size() + 1,
                  "a cut log is whole");
    trainer::summarize(after.records);
  });
  for (const auto& entry : std::filesystem::directory_iterator(run)) std::filesystem::remove(entry.path());
  return 0;
}
