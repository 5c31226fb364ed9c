#include "tensor_set.hpp"

#include <gmock/gmock.h>

#include "support/temporary_folder.hpp"

namespace aurora::trainer {
namespace {

using test::error_of;
using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void write(const std::filesystem::path& file, const std::vector<std::string>& names) {
  static const std::vector<float> values = {1, 2};
  std::vector<TensorEntry> tensors;
  for (const auto& name : names) tensors.push_back({name, "F32", {2}, std::as_bytes(std::span(values))});
  write_safetensors(file, tensors);
}

std::vector<std::string> names_of(const TensorSet& set) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : set.tensors()) names.emplace_back(name);
  return names;
}

std::string refusal(const std::filesystem::path& path) {
  const std::string message = error_of<std::runtime_error>([&] { open_model(path); });
  EXPECT_THAT(message, testing::StartsWith(path.parent_path().string()));
  EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
  EXPECT_LT(message.size(), 600u);
  return message;
}

TEST(TensorSet, OfAFileHasItsTensorsAndNoState) {
  const TemporaryFolder folder;
  write(folder / "model.safetensors", {"b", "a"});
  write(folder / "optimizer.safetensors", {"a.momentum_buffer"});
  const ModelTensors model = open_model(folder / "model.safetensors");
  EXPECT_THAT(names_of(model.weights), ElementsAre("a", "b"));
  EXPECT_THAT(names_of(model.state), IsEmpty());
}

TEST(TensorSet, OfACheckpointHasTheOptimizersState) {
  const TemporaryFolder folder;
  write(folder / "model.safetensors", {"a"});
  write(folder / "other.safetensors", {"a"});
  write(folder / "optimizer.safetensors", {"a.momentum_buffer"});
  const ModelTensors model = open_model(folder.path());
  EXPECT_THAT(names_of(model.weights), ElementsAre("a"));
  EXPECT_THAT(names_of(model.state), ElementsAre("a.momentum_buffer"));
}

TEST(TensorSet, OfARunIsItsNewestCheckpoint) {
  const TemporaryFolder folder;
  for (const char* name : {"checkpoint-000001", "checkpoint-000002"})
    std::filesystem::create_directory(folder / name);
  write(folder / "checkpoint-000001" / "model.safetensors", {"old"});
  write(folder / "checkpoint-000002" / "model.safetensors", {"new"});
  folder.write("last", "checkpoint-000002\n");
  EXPECT_THAT(names_of(open_model(folder.path()).weights), ElementsAre("new"));
  folder.write("last", "../elsewhere\n");
  EXPECT_THAT(refusal(folder.path()), HasSubstr("nor a run with one"));
}

TEST(TensorSet, OfAnIndexAreTheTensorsItNames) {
  const TemporaryFolder folder;
  write(folder / "m-1.safetensors", {"a", "b"});
  write(folder / "m-2.safetensors", {"b", "c"});
  const std::string index = folder.write(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":1},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  for (const auto& path : {std::filesystem::path(index), folder.path()}) {
    const ModelTensors model = open_model(path);
    EXPECT_THAT(names_of(model.weights), ElementsAre("a", "b"));
    EXPECT_EQ(model.weights.find("b")->file->find("c")->name, "c");
    EXPECT_FALSE(model.weights.find("c").has_value());
  }
}

TEST(TensorSet, AnIndexThatIsNoneIsRefused) {
  const TemporaryFolder folder;
  write(folder / "m-1.safetensors", {"a"});
  const auto refused = [&](const std::string& text) {
    return refusal(folder.write("model.safetensors.index.json", text));
  };
  EXPECT_THAT(refused(""), HasSubstr("is no JSON"));
  EXPECT_THAT(refused("{\"weight_map\":"), HasSubstr("is no JSON"));
  EXPECT_THAT(refused("[]"), HasSubstr("weight_map"));
  EXPECT_THAT(refused("{}"), HasSubstr("weight_map"));
  EXPECT_THAT(refused(R"({"weight_map":[1]})"), HasSubstr("weight_map"));
  EXPECT_THAT(refused(R"({"weight_map":{"a":1}})"), HasSubstr("is not text"));
  EXPECT_THAT(refused(R"({"weight_map":{"a":"../m-1.safetensors"}})"), HasSubstr("not the name"));
  EXPECT_THAT(refused(R"({"weight_map":{"a":"/etc/passwd"}})"), HasSubstr("not the name"));
  EXPECT_THAT(refused(R"({"weight_map":{"a":""}})"), HasSubstr("not the name"));
  EXPECT_THAT(refused(R"({"weight_map":{"z":"m-1.safetensors"}})"), HasSubstr("\"z\" is not in"));
  EXPECT_THAT(refused(R"({"weight_map":{"a":"m-9.safetensors"}})"), HasSubstr("cannot be opened"));
  EXPECT_THAT(refused(std::string(100000, '[')), HasSubstr("nested deeper than 8"));
  EXPECT_THAT(refused(R"({"weight_map":{"a":"one.safetensors","a":"two.safetensors"}})"),
              HasSubstr("has the key \"a\" twice"));
}

TEST(TensorSet, AFolderWithoutWeightsIsRefused) {
  const TemporaryFolder folder;
  EXPECT_THAT(refusal(folder.path()), HasSubstr("no *.safetensors file"));
  folder.write("pytorch_model.bin", "");
  EXPECT_THAT(refusal(folder.path()), HasSubstr("pickled weights are not read"));
  folder.write("log.jsonl", "");
  EXPECT_THAT(refusal(folder.path()), HasSubstr("the run has no checkpoint yet"));
  EXPECT_THAT(refusal(folder / "none"), HasSubstr("No such file"));
}

TEST(TensorSet, ANameInTwoFilesIsRefused) {
  const TemporaryFolder folder;
  write(folder / "one.safetensors", {"a"});
  write(folder / "two.safetensors", {"b"});
  EXPECT_THAT(names_of(open_model(folder.path()).weights), ElementsAre("a", "b"));
  std::filesystem::remove(folder / "two.safetensors");
  write(folder / "two.safetensors", {"a"});
  EXPECT_THAT(refusal(folder.path()), HasSubstr("\"a\" is in another file of the model too"));
}

}  // namespace
}  // namespace aurora::trainer
