#include "checkpoint.hpp"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "atomic_file.hpp"
#include "json_text.hpp"
#include "model_size.hpp"
#include "run_folder.hpp"
#include "safetensors.hpp"

namespace aurora::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr JsonLimits kConfigLimits = {.bytes = std::size_t{1} << 20, .depth = 16, .keys = 1000};
constexpr const char *kModel = "model.safetensors", *kOptimizer = "optimizer.safetensors",
                     *kDirections = "directions.safetensors", *kConfig = "config.json",
                     *kState = "trainer_state.json";

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

/// The tensor of the name, float32 and of the shape.
const TensorEntry& entry_of(const SafetensorsFile& contents, const std::string& name,
                            std::span<const Index> shape, const std::string& owner) {
  const TensorEntry* entry = contents.find(name);
  if (entry == nullptr) fail(contents.path(), "tensor " + name + " of " + owner + " is missing");
  if (entry->dtype != "F32")
    fail(contents.path(), "tensor " + name + " has type " + entry->dtype + ", not F32");
  if (!std::ranges::equal(entry->shape, shape))
    fail(contents.path(), "tensor " + name + " is " + shape_text(entry->shape) + ", in " + owner + " it is " +
                              shape_text(shape));
  return *entry;
}

/// Copies every tensor of the file into the one of its name in `tensors`; the two sets must be the same.
void read_tensors(const fs::path& file, const NamedTensors& tensors, const std::string& owner) {
  const SafetensorsFile contents(file);
  for (const TensorEntry& entry : contents.tensors())
    if (!tensors.contains(entry.name)) fail(file, "tensor " + entry.name + " does not belong to " + owner);
  for (const auto& [name, tensor] : tensors) {
    const TensorEntry& entry = entry_of(contents, name, tensor.sizes(), owner);
    const torch::Tensor host = torch::empty(tensor.sizes());
    std::memcpy(host.mutable_data_ptr(), entry.bytes.data(), entry.bytes.size());
    contents.require_whole();
    tensor.copy_(host);
  }
}

/// Throws unless the weights of Model(config) are there: a config.json alone makes nobody allocate them.
void require_weights(const fs::path& checkpoint, const ModelConfig& config) {
  const SafetensorsFile contents(checkpoint / kModel);
  if (config.layers > std::ssize(contents.tensors()))
    fail(checkpoint / kConfig, "\"num_hidden_layers\" is " + std::to_string(config.layers) + ", and " +
                                   kModel + " has " + std::to_string(contents.tensors().size()) + " tensors");
  for (const ParameterInfo& parameter : parameters_of(config))
    entry_of(contents, parameter.name, parameter.shape, "the model");
}

/// Of each matrix with a direction a tensor of its shape.
NamedTensors read_directions(const fs::path& file, const Model& model) {
  NamedTensors directions;
  const SafetensorsFile contents(file);
  for (const auto& parameter : model.named_parameters()) {
    if (contents.find(parameter.key()) != nullptr)
      directions[parameter.key()] = torch::empty_like(parameter.value().detach());
  }
  read_tensors(file, directions, "the model");
  return directions;
}

NamedTensors weights(const Model& model) {
  NamedTensors tensors;
  for (const auto& parameter : model.named_parameters())
    tensors[parameter.key()] = parameter.value().detach();
  return tensors;
}

NamedTensors optimizer_tensors(const Model& model, optim::SpectralOptimizer& optimizer, const Rule& rule) {
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

Json read_object(const fs::path& file) {
  Json json = read_json(file, kConfigLimits);
  if (!json.is_object()) fail(file, "is not a JSON object");
  return json;
}

[[noreturn]] void fail_value(const fs::path& file, const std::string& key, const Json& value,
                             const std::string& what) {
  fail(file, "\"" + key + "\" is " + value.dump(-1, ' ', true).substr(0, 80) + ", " + what);
}

const Json& value(const fs::path& file, const Json& json, const std::string& key) {
  const auto found = json.find(key);
  if (found == json.end()) fail(file, "no \"" + key + "\"");
  return *found;
}

Index positive(const fs::path& file, const Json& json, const std::string& key) {
  const Json& number = value(file, json, key);
  if (!is_whole(number, 1, Index{1} << 30)) fail_value(file, key, number, "not a whole number in [1, 2^30]");
  return number.get<Index>();
}

double positive_number(const fs::path& file, const Json& json, const std::string& key) {
  const Json& number = value(file, json, key);
  if (!number.is_number() || !(number.get<double>() > 0) || !std::isfinite(number.get<double>()))
    fail_value(file, key, number, "not a finite number > 0");
  return number.get<double>();
}

void write_json(const fs::path& file, const Json& json) {
  FileWriter out(file);
  out.write(json.dump(2) + "\n");
  out.finish();
}

}  // namespace

fs::path save_checkpoint(const fs::path& folder, TrainerState state, const Model& model,
                         optim::SpectralOptimizer& optimizer, const Rule& rule,
                         const NamedTensors& directions) {
  const fs::path name = folder / checkpoint_name(state.step);
  const fs::path temporary = temporary_name(name);
  for (const auto& parameter : model.named_parameters())
    state.optimizer_steps[parameter.key()] = optimizer.state_of(parameter.value()).step;
  state.files.clear();
  const auto written = [&](const char* file) { state.files[file] = file_sum(temporary / file); };
  try {
    if (!fs::create_directory(temporary)) fail(temporary, "is there already");
    write_tensors(temporary / kModel, weights(model));
    written(kModel);
    write_tensors(temporary / kOptimizer, optimizer_tensors(model, optimizer, rule));
    written(kOptimizer);
    if (state.neurons_due) {
      write_tensors(temporary / kDirections, directions);
      written(kDirections);
    }
    write_json(temporary / kConfig, model_config_json(model.config()));
    written(kConfig);
    write_trainer_state(temporary, state);
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

std::string not_finite_state(const Model& model, optim::SpectralOptimizer& optimizer, const Rule& rule) {
  for (const auto& [name, tensor] : optimizer_tensors(model, optimizer, rule))
    if (!tensor.isfinite().all().item<bool>()) return name;
  return {};
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
  const fs::path name = folder / momentum_name(step), temporary = temporary_name(name);
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
  const fs::path file = checkpoint / kConfig;
  const Json json = read_object(file);
  if (const Json& type = value(file, json, "model_type"); type != "llama")
    fail_value(file, "model_type", type, "not \"llama\"");
  ModelConfig config;
  config.vocabulary = positive(file, json, "vocab_size");
  config.width = positive(file, json, "hidden_size");
  config.layers = positive(file, json, "num_hidden_layers");
  config.heads = positive(file, json, "num_attention_heads");
  config.kv_heads = positive(file, json, "num_key_value_heads");
  config.context = positive(file, json, "max_position_embeddings");
  config.expansion =
      static_cast<double>(positive(file, json, "intermediate_size")) / static_cast<double>(config.width);
  config.norm_eps = positive_number(file, json, "rms_norm_eps");
  config.rope_theta = positive_number(file, json, "rope_theta");
  if (config.vocabulary != 256)
    fail(file, "vocab_size is " + std::to_string(config.vocabulary) + ", not 256 (bytes)");
  if (config.width % config.heads != 0 || config.heads % config.kv_heads != 0)
    fail(file, "hidden_size, num_attention_heads and num_key_value_heads do not divide each other");
  return config;
}

void load_weights(const fs::path& checkpoint, Model& model) {
  read_tensors(checkpoint / kModel, weights(model), "the model");
}

NamedTensors load_checkpoint(const fs::path& checkpoint, const TrainerState& state, Model& model,
                             optim::SpectralOptimizer& optimizer, const Rule& rule) {
  require_files(checkpoint, state);
  load_weights(checkpoint, model);
  read_tensors(checkpoint / kOptimizer, optimizer_tensors(model, optimizer, rule), "the optimizer");
  for (const auto& parameter : model.named_parameters()) {
    const auto steps = state.optimizer_steps.find(parameter.key());
    if (steps == state.optimizer_steps.end())
      fail(checkpoint / kState, "\"optimizer_steps\" has no \"" + parameter.key() + "\"");
    optimizer.state_of(parameter.value()).step = steps->second;
  }
  return state.neurons_due ? read_directions(checkpoint / kDirections, model) : NamedTensors{};
}

Model load_model(const fs::path& checkpoint, at::Device device) {
  const ModelConfig config = read_model_config(checkpoint);
  require_weights(checkpoint, config);
  Model model(config, 0, device);
  load_weights(checkpoint, model);
  if (fs::exists(checkpoint / kState)) {
    const TrainerState state = read_trainer_state(checkpoint);
    require_file(checkpoint, state, kConfig);
    require_file(checkpoint, state, kModel);
  }
  return model;
}

}  // namespace aurora::trainer
