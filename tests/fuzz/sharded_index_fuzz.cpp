// A sharded index beside one shard with the tensors a and b: names only files beside it.
#include <vector>

#include "fuzzed.hpp"
#include "tensor_set.hpp"

using namespace aurora;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool shard = [] {
    const std::vector<float> one = {1};
    const auto bytes = std::as_bytes(std::span(one));
    const std::vector<trainer::TensorEntry> tensors = {{"a", "F32", {1}, bytes}, {"b", "F32", {1}, bytes}};
    std::filesystem::remove(fuzz::folder() / "s.safetensors");
    trainer::write_safetensors(fuzz::folder() / "s.safetensors", tensors);
    return true;
  }();
  fuzz::require(shard, "a shard is there");
  const auto path = fuzz::written("model.safetensors.index.json", fuzz::text_of(data, size));
  fuzz::refuses_in_words([&] {
    trainer::TensorSet set;
    set.add_index(path);
    for (const auto& [name, tensor] : set.tensors())
      fuzz::require(tensor.file->path().parent_path() == fuzz::folder(), "a shard lies beside the index");
  });
  return 0;
}
