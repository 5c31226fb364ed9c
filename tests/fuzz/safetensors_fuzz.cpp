// A safetensors file: what is read lies inside the file, and every value can be converted.
#include <vector>

#include "fuzzed.hpp"
#include "safetensors.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto path = fuzz::written("file.safetensors", fuzz::text_of(data, size));
  fuzz::refuses_in_words([&] {
    const trainer::SafetensorsFile file(path);
    const auto bytes = file.mapped().bytes();
    for (const trainer::TensorEntry& tensor : file.tensors()) {
      fuzz::require(
          tensor.bytes.empty() || (tensor.bytes.data() >= bytes.data() &&
                                   tensor.bytes.data() + tensor.bytes.size() <= bytes.data() + bytes.size()),
          "a tensor lies in the file");
      fuzz::require(file.find(tensor.name) != nullptr, "a tensor is found by its name");
      if (!trainer::is_floating(tensor.dtype)) continue;
      std::vector<double> values(tensor.bytes.size() /
                                 static_cast<std::size_t>(trainer::dtype_bytes(tensor.dtype)));
      trainer::values_as_double(tensor, 0, values);
    }
    file.require_whole();
  });
  return 0;
}
