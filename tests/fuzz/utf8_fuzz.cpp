// UTF-8: what is taken whole is taken in every part that ends with a character, and a cut-off one as cut off.
#include "fuzzed.hpp"
#include "text_data.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const bool whole = trainer::is_utf8(text, false);
  fuzz::require(!whole || trainer::is_utf8(text, true), "whole text may be cut off");
  if (!whole) return 0;
  for (std::size_t i = 0; i <= text.size() && i < 64; ++i) {
    fuzz::require(trainer::is_utf8(text.substr(0, i), true), "a beginning is UTF-8 that is cut off");
    const bool boundary = i == text.size() || (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    fuzz::require(trainer::is_utf8(text.substr(0, i), false) == boundary, "a beginning of whole characters");
  }
  return 0;
}
