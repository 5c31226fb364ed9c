#include "weight_roles.hpp"

#include <array>

namespace aurora::trainer {
namespace {

enum class Side : std::uint8_t { output, input };

struct Pattern {
  std::string_view end;
  std::string_view role;
  Side neurons;
  bool hidden = true;
  bool gpt2 = false;  // [in, out] where the model's Conv1D layers are
};

constexpr bool kNotHidden = false;
constexpr bool kGpt2 = true;

// The first that fits counts, so longer ends stand before their own ends.
constexpr std::array kPatterns = std::to_array<Pattern>({
    {"embed_tokens", "embedding", Side::output, kNotHidden},
    {"wte", "embedding", Side::output, kNotHidden},
    {"embed_in", "embedding", Side::output, kNotHidden},
    {"tok_embeddings", "embedding", Side::output, kNotHidden},
    {"word_embeddings", "embedding", Side::output, kNotHidden},
    {"token_type_embeddings", "embedding", Side::output, kNotHidden},
    {"wpe", "position_embedding", Side::output, kNotHidden},
    {"embed_positions", "position_embedding", Side::output, kNotHidden},
    {"position_embeddings", "position_embedding", Side::output, kNotHidden},
    {"lm_head", "output_head", Side::output, kNotHidden},
    {"embed_out", "output_head", Side::output, kNotHidden},
    {"score", "output_head", Side::output, kNotHidden},
    {"classifier", "output_head", Side::output, kNotHidden},
    {"output", "output_head", Side::output, kNotHidden},
    {"router", "router", Side::output, kNotHidden},
    {"block_sparse_moe.gate", "router", Side::output, kNotHidden},
    {"mlp.gate", "router", Side::output, kNotHidden},
    {"c_attn", "query_key_value", Side::output, true, kGpt2},
    {"attn.c_proj", "attention_output", Side::input, true, kGpt2},
    {"mlp.c_fc", "up", Side::output, true, kGpt2},
    {"mlp.c_proj", "down", Side::input, true, kGpt2},
    {"q_proj", "query", Side::output},
    {"wq", "query", Side::output},
    {"query", "query", Side::output},
    {"k_proj", "key", Side::output},
    {"wk", "key", Side::output},
    {"key", "key", Side::output},
    {"v_proj", "value", Side::output},
    {"wv", "value", Side::output},
    {"value", "value", Side::output},
    {"qkv_proj", "query_key_value", Side::output},
    {"query_key_value", "query_key_value", Side::output},
    {"Wqkv", "query_key_value", Side::output},
    {"in_proj_weight", "query_key_value", Side::output},
    {"o_proj", "attention_output", Side::input},
    {"wo", "attention_output", Side::input},
    {"attn.out_proj", "attention_output", Side::input},
    {"attention.dense", "attention_output", Side::input},
    {"self_attention.dense", "attention_output", Side::input},
    {"attention.output.dense", "attention_output", Side::input},
    {"gate_up_proj", "gate_up", Side::output},
    {"gate_proj", "gate", Side::output},
    {"w1", "gate", Side::output},
    {"up_proj", "up", Side::output},
    {"w3", "up", Side::output},
    {"fc1", "up", Side::output},
    {"intermediate.dense", "up", Side::output},
    {"dense_h_to_4h", "up", Side::output},
    {"down_proj", "down", Side::input},
    {"w2", "down", Side::input},
    {"fc2", "down", Side::input},
    {"output.dense", "down", Side::input},
    {"dense_4h_to_h", "down", Side::input},
});

const Pattern* pattern_of(std::string_view name) {
  constexpr std::string_view kWeight = ".weight";
  if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
  for (const Pattern& pattern : kPatterns) {
    if (!name.ends_with(pattern.end)) continue;
    const std::size_t before = name.size() - pattern.end.size();
    if (before == 0 || name[before - 1] == '.') return &pattern;
  }
  return nullptr;
}

}  // namespace

bool stores_in_out(std::span<const NamedShape> matrices) {
  Index in_out = 0, out_in = 0;
  for (const NamedShape& matrix : matrices) {
    const Pattern* pattern = pattern_of(matrix.name);
    if (pattern == nullptr || !pattern->gpt2 || matrix.rows == matrix.cols) continue;
    const bool more_outputs = pattern->neurons == Side::output;
    ++((matrix.cols > matrix.rows) == more_outputs ? in_out : out_in);
  }
  return in_out >= out_in;
}

WeightRole weight_role(const NamedShape& matrix, bool in_out) {
  const Pattern* pattern = pattern_of(matrix.name);
  if (pattern == nullptr) {
    const bool wide = matrix.rows < matrix.cols;
    return {.name = wide                         ? "wide"
                    : matrix.rows == matrix.cols ? "square"
                                                 : "tall",
            .axis = wide ? NeuronAxis::columns : NeuronAxis::rows,
            .hidden = true,
            .guessed = true};
  }
  const bool rows_are_outputs = !(pattern->gpt2 && in_out);
  return {
      .name = pattern->role,
      .axis = (pattern->neurons == Side::output) == rows_are_outputs ? NeuronAxis::rows : NeuronAxis::columns,
      .hidden = pattern->hidden,
      .guessed = false};
}

}  // namespace aurora::trainer
