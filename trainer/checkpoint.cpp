#include "checkpoint.hpp"

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "atomic_file.hpp"
#include "run_folder.hpp"
#include "safetensors.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using NamedTensors = std::map<std::string, torch::Tensor>;

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
  throw std::runtime_error(file.string() + ": " + what);
}

std::string shape_text(std::span<const Index> shape) {
  std::string text;
  for (const Index side : shape) {
    if (!text.empty()) text += 'x';
    text += std::to_string(side);
  }
  return text;
}

void write_tensors(const fs::path& file, const NamedTensors& tensors) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    TORCH_CHECK(tensor.is_contiguous() && tensor.scalar_type() == torch::kFloat32, name,
                " is not packed float32");
    entries.push_back({.name = name,
                       .dtype = "F32",
                       .shape = tensor.sizes().vec(),
                       .bytes = {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}});
  }
  torch::Tensor host;
  write_safetensors(file, entries, {}, [&](const TensorEntry& entry) {
    host = tensors.at(entry.name).cpu();
    return std::span(static_cast<const std::byte*>(host.const_data_ptr()), host.nbytes());
  });
}

/// Copies every tensor of the file into the one of its name in `tensors`; the two sets must be the same.
void read_tensors(const fs::path& file, const NamedTensors& tensors, const std::string& owner) {
  const SafetensorsFile contents(file);
  for (const TensorEntry& entry : contents.tensors())
    if (!tensors.contains(entry.name)) fail(file, "tensor " + entry.name + " does not belong to " + owner);
  for (const auto& [name, tensor] : tensors) {
    const TensorEntry* entry = contents.find(name);
    if (entry == nullptr) fail(file, "tensor " + name + " of " + owner + " is missing");
    if (entry->dtype != "F32") fail(file, "tensor " + name + " has type " + entry->dtype + ", not F32");
    if (!std::ranges::equal(entry->shape, tensor.sizes()))
      fail(file, "tensor " + name + " is " + shape_text(entry->shape) + ", in " + owner + " it is " +
                     shape_text(tensor.sizes()));
    const torch::Tensor host = torch::empty(tensor.sizes());
    std::memcpy(host.mutable_data_ptr(), entry->bytes.data(), entry->bytes.size());
    tensor.copy_(host);
  }
}

NamedTensors weights(const Model& model) {
  NamedTensors tensors;
  for (const auto& parameter : model.named_parameters())
    tensors[parameter.key()] = parameter.value().detach();
  return tensors;
}

NamedTensors optimizer_tensors(const Model& model, optim::SpectralOptimizer& optimizer,
                               const Rule& rule) {
  NamedTensors tensors;
  for (const auto& parameter : model.named_parameters()) {
    const optim::ParameterState& state = optimizer.state_of(parameter.value());
    const auto add = [&](std::string_view name, const torch::Tensor& tensor) {
      if (tensor.defined()) tensors[parameter.key() + "." + std::string(name)] = tensor;
    };
    add("momentum_buffer", state.momentum_buffer);
    add(row_state_name(rule), state.row_state);
    add("exp_avg", state.exp_avg);
    add("exp_avg_sq", state.exp_avg_sq);
  }
  return tensors;
}

Json model_config_json(const ModelConfig& config) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", config.vocabulary},
          {"hidden_size", config.width},
          {"intermediate_size", config.neurons()},
          {"num_hidden_layers", config.layers},
          {"num_attention_heads", config.heads},
          {"num_key_value_heads", config.kv_heads},
          {"head_dim", config.width / config.heads},
          {"hidden_act", "silu"},
          {"max_position_embeddings", config.context},
          {"initializer_range", 0.02},
          {"rms_norm_eps", config.norm_eps},
          {"rope_theta", config.rope_theta},
          {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", config.rope_theta}}},
          {"use_cache", true},
          {"tie_word_embeddings", false},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"mlp_bias", false},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr},
          {"pad_token_id", nullptr},
          {"torch_dtype", "float32"},
          {"dtype", "float32"}};
}

Json read_json(const fs::path& file) {
  std::ifstream in(file);
  if (!in) fail(file, "cannot be read");
  Json json = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail(file, "is not a JSON object");
  return json;
}

template <class T>
T value(const fs::path& file, const Json& json, const std::string& key) {
  const auto found = json.find(key);
  if (found == json.end()) fail(file, "no \"" + key + "\"");
  try {
    return found->get<T>();
  } catch (const Json::exception&) {
    fail(file, "\"" + key + "\" is " + found->dump() + ", which has the wrong type");
  }
}

Index positive(const fs::path& file, const Json& json, const std::string& key) {
  const Index number = value<Index>(file, json, key);
  constexpr Index limit = Index{1} << 30;
  if (number < 1 || number > limit)
    fail(file, "\"" + key + "\" is " + std::to_string(number) + ", not in [1, 2^30]");
  return number;
}

void write_json(const fs::path& file, const Json& json) {
  FileWriter out(file);
  out.write(json.dump(2) + "\n");
  out.finish();
}

Json state_json(const TrainerState& state, const Model& model, optim::SpectralOptimizer& optimizer) {
  Json steps = Json::object();
  for (const auto& parameter : model.named_parameters())
    steps[parameter.key()] = optimizer.state_of(parameter.value()).step;
  return {{"step", state.step},
          {"skipped_in_a_row", state.skipped_in_a_row},
          {"data_sha256", state.data_sha256},
          {"config", state.config},
          {"optimizer_steps", steps}};
}

}  // namespace

fs::path save_checkpoint(const fs::path& folder, const TrainerState& state, const Model& model,
                         optim::SpectralOptimizer& optimizer, const Rule& rule) {
  const fs::path name = folder / checkpoint_name(state.step);
  const fs::path temporary = name.string() + ".tmp";
  try {
    fs::create_directory(temporary);
    write_tensors(temporary / "model.safetensors", weights(model));
    write_tensors(temporary / "optimizer.safetensors", optimizer_tensors(model, optimizer, rule));
    write_json(temporary / "config.json", model_config_json(model.config()));
    write_json(temporary / "trainer_state.json", state_json(state, model, optimizer));
    sync_folder(temporary);
    atomic_rename(temporary, name);
    atomic_write_text(folder / "last", name.filename().string() + "\n");
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  return name;
}

void save_momentum(const fs::path& folder, Index step, const Model& model,
                   optim::SpectralOptimizer& optimizer) {
  NamedTensors tensors;
  for (const auto& parameter : model.named_parameters()) {
    const optim::ParameterState& state = optimizer.state_of(parameter.value());
    const bool hidden = parameter.key().find("layers.") != std::string::npos && parameter.value().dim() == 2;
    const auto& momentum = state.momentum_buffer.defined() ? state.momentum_buffer : state.exp_avg;
    if (hidden && momentum.defined()) tensors[parameter.key()] = momentum;
  }
  const fs::path name = folder / momentum_name(step), temporary = name.string() + ".tmp";
  try {
    write_tensors(temporary, tensors);
    atomic_rename(temporary, name);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

ModelConfig read_model_config(const fs::path& checkpoint) {
  const fs::path file = checkpoint / "config.json";
  const Json json = read_json(file);
  if (const auto type = value<std::string>(file, json, "model_type"); type != "llama")
    fail(file, "model_type is \"" + type + "\", not \"llama\"");
  ModelConfig config;
  config.vocabulary = positive(file, json, "vocab_size");
  config.width = positive(file, json, "hidden_size");
  config.layers = positive(file, json, "num_hidden_layers");
  config.heads = positive(file, json, "num_attention_heads");
  config.kv_heads = positive(file, json, "num_key_value_heads");
  config.context = positive(file, json, "max_position_embeddings");
  config.expansion =
      static_cast<double>(positive(file, json, "intermediate_size")) / static_cast<double>(config.width);
  config.norm_eps = value<double>(file, json, "rms_norm_eps");
  config.rope_theta = value<double>(file, json, "rope_theta");
  if (config.vocabulary != 256)
    fail(file, "vocab_size is " + std::to_string(config.vocabulary) + ", not 256 (bytes)");
  if (config.width % config.heads != 0 || config.heads % config.kv_heads != 0)
    fail(file, "hidden_size, num_attention_heads and num_key_value_heads do not divide each other");
  return config;
}

void load_weights(const fs::path& checkpoint, Model& model) {
  read_tensors(checkpoint / "model.safetensors", weights(model), "the model");
}

TrainerState load_checkpoint(const fs::path& checkpoint, Model& model, optim::SpectralOptimizer& optimizer,
                             const Rule& rule) {
  load_weights(checkpoint, model);
  read_tensors(checkpoint / "optimizer.safetensors", optimizer_tensors(model, optimizer, rule),
               "the optimizer");
  const fs::path file = checkpoint / "trainer_state.json";
  const Json json = read_json(file);
  const auto steps = value<Json>(file, json, "optimizer_steps");
  for (const auto& parameter : model.named_parameters())
    optimizer.state_of(parameter.value()).step = value<Index>(file, steps, parameter.key());
  return {.step = value<Index>(file, json, "step"),
          .skipped_in_a_row = value<Index>(file, json, "skipped_in_a_row"),
          .config = value<std::string>(file, json, "config"),
          .data_sha256 = value<std::string>(file, json, "data_sha256")};
}

Model load_model(const fs::path& checkpoint, at::Device device) {
  Model model(read_model_config(checkpoint), 0, device);
  load_weights(checkpoint, model);
  return model;
}

}  // namespace aurora::trainer
