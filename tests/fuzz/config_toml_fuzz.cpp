// config.toml: what is valid is written and read again as the same configuration.
#include "config.hpp"
#include "fuzzed.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::refuses_in_words([&] {
    const trainer::TrainConfig config = trainer::from_toml_text(fuzz::text_of(data, size), "config.toml");
    trainer::validate(config);
    fuzz::require(trainer::from_toml_text(trainer::to_toml(config), "again") == config,
                  "what is written reads back");
  });
  return 0;
}
