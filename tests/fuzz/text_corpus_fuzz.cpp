// Text files: whatever is in them, the parts share no byte and every sequence is text of them.
#include <vector>

#include "fuzzed.hpp"
#include "text_data.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const std::size_t half = size / 2;
  const std::string first = fuzz::written("text/a", text.substr(0, half)).string();
  const std::string second = fuzz::written("text/b", text.substr(half)).string();
  const auto use = [&](const std::vector<std::string>& paths, const std::vector<std::string>& validation) {
    fuzz::refuses_in_words([&] {
      constexpr Index kContext = 3;
      trainer::TextData read(paths, validation, kContext + 1);
      std::vector<std::int64_t> tokens(2 * (kContext + 1));
      read.training_sequences(7, 0, 2, kContext, tokens);
      for (const auto token : tokens) fuzz::require(token >= 0 && token < 256, "a token is a byte");
      fuzz::require(read.validation_sequences(kContext, 4, tokens) > 0, "there is text to evaluate on");
      read.require_unchanged();
    });
  };
  use({(fuzz::folder() / "text").string()}, {});
  use({first}, {second});
  return 0;
}
