// A variant as in --optimizer, and each of its settings as text.
#include "aurora/optimizers.hpp"
#include "config.hpp"
#include "fuzzed.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  fuzz::refuses_in_words([&] { validate(parse_variant(text)); });
  fuzz::refuses_in_words([&] {
    trainer::TrainConfig config;
    trainer::set(config, "optim.optimizer", text);
    trainer::validate(config);
    fuzz::require(trainer::from_toml_text(trainer::to_toml(config), "again") == config,
                  "what is written reads back");
  });
  fuzz::refuses_in_words([&] {
    trainer::TrainConfig config;
    trainer::set(config, "data.paths", text);
  });
  return 0;
}
