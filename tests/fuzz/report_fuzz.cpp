// The log of one of two runs, drawn: no control of a page gets out of the log, and no number is none.
#include "comparison.hpp"
#include "fuzzed.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool other = [] {
    for (const char* run : {"runs/muon/seed-0/config.toml", "runs/aurora/seed-0/config.toml"})
      fuzz::written(run, "[data]\npaths = [\"/text\"]\n[train]\nsteps = 10\n");
    fuzz::written("runs/aurora/seed-0/log.jsonl",
                  "{\"kind\":\"header\"}\n{\"kind\":\"eval\",\"step\":5,\"loss\":2}\n"
                  "{\"kind\":\"summary\",\"steps\":10}\n");
    return true;
  }();
  fuzz::require(other, "another run is there");
  fuzz::written("runs/muon/seed-0/log.jsonl", fuzz::text_of(data, size));
  fuzz::refuses_in_words([&] {
    const compare::Comparison comparison = compare::read_comparison(fuzz::folder());
    compare::summary(comparison);
    const std::string page = compare::report_html(comparison);
    const std::string body = page.substr(page.find("<body"));
    const std::string shown = body.substr(0, body.rfind("<script"));
    fuzz::require(shown.find("fuzz-marker<") == std::string::npos, "text is escaped");
    for (const char* attribute :
         {"d=\"nan", "=\"nan\"", "=\"-nan\"", "=\"inf\"", "=\"-inf\"", "Mnan", "Lnan"})
      fuzz::require(shown.find(attribute) == std::string::npos, "a picture has numbers only");
  });
  return 0;
}
