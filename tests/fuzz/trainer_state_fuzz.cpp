// trainer_state.json: what is taken has a step that fits its folder, and is written and read again.
#include "fuzzed.hpp"
#include "trainer_state.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto checkpoint = fuzz::folder() / "checkpoint-000010";
  fuzz::written("checkpoint-000010/trainer_state.json", fuzz::text_of(data, size));
  fuzz::refuses_in_words([&] {
    const trainer::TrainerState state = trainer::read_trainer_state(checkpoint);
    fuzz::require(state.step == 10, "the step is that of the folder");
    for (const auto& [name, steps] : state.optimizer_steps)
      fuzz::require(steps >= 0 && steps <= 10, "no parameter has more steps than the run");
    std::filesystem::remove(checkpoint / "trainer_state.json");
    trainer::write_trainer_state(checkpoint, state);
    const trainer::TrainerState again = trainer::read_trainer_state(checkpoint);
    fuzz::require(again.config == state.config && again.optimizer_steps == state.optimizer_steps &&
                      again.files == state.files,
                  "what is written reads back");
    trainer::from_toml_text(state.config, "config");
    trainer::require_files(checkpoint, state);
  });
  return 0;
}
