#include "role_table.hpp"

#include <algorithm>
#include <array>

namespace aurora {
namespace {

constexpr auto kInput = NeuronSide::input;

// Sources: the module of transformers 5 that the family names, in modeling_<model type>.py; torch.nn for what
// has no family. What splits its fused weight otherwise stands before what splits it as usual.
constexpr auto kHidden = std::to_array<RoleRow>({
    // QKV by head: view(..., heads, 3, size) or split after view(..., heads, 3 * size).
    {.family = "gptneox",
     .end = "query_key_value",
     .role = "query_key_value",
     .blocks = "1 1 1",
     .repeats = "num_attention_heads"},  // GPTNeoXAttention, GPTNeoXJapaneseAttention
    {.family = "bloom",
     .end = "query_key_value",
     .role = "query_key_value",
     .blocks = "1 1 1",
     .repeats = "num_attention_heads"},  // BloomAttention
    {.family = "persimmon",
     .end = "query_key_value",
     .role = "query_key_value",
     .blocks = "1 1 1",
     .repeats = "num_attention_heads"},  // PersimmonAttention
    {.family = "minimax",
     .end = "qkv_proj",
     .role = "query_key_value",
     .blocks = "1 1 1",
     .repeats = "num_attention_heads"},  // MiniMaxLightningAttention
    {.family = "deberta",
     .end = "in_proj",
     .role = "query_key_value",
     .blocks = "1 1 1",
     .repeats = "num_attention_heads"},  // DisentangledSelfAttention
    // FalconAttention: groups of queries with their key and value; all queries, one key, one value; by head.
    {.family = "falcon",
     .end = "query_key_value",
     .role = "query_key_value",
     .blocks = "num_attention_heads num_key_value_heads num_key_value_heads",
     .repeats = "num_key_value_heads",
     .when = "new_decoder_architecture"},
    {.family = "falcon",
     .end = "query_key_value",
     .role = "query_key_value",
     .blocks = "num_attention_heads 1 1",
     .when = "multi_query"},
    {.family = "falcon",
     .end = "query_key_value",
     .role = "query_key_value",
     .blocks = "1 1 1",
     .repeats = "num_attention_heads"},
    // GPTBigCodeAttention, the same two.
    {.family = "gptbigcode",
     .end = "c_attn",
     .role = "query_key_value",
     .blocks = "num_attention_heads 1 1",
     .when = "multi_query"},
    {.family = "gptbigcode",
     .end = "c_attn",
     .role = "query_key_value",
     .blocks = "1 1 1",
     .repeats = "num_attention_heads"},
    // CodeGenAttention: query, value, key in each of four parts.
    {.family = "codegen", .end = "qkv_proj", .role = "query_key_value", .blocks = "1 1 1", .repeats = "4"},
    // QKV one after the other, with fewer keys and values: Phi3Attention, Phi4MultimodalAttention, DbrxAttention.
    {.family = "phi",
     .end = "qkv_proj",
     .role = "query_key_value",
     .blocks = "num_attention_heads num_key_value_heads num_key_value_heads"},
    {.family = "dbrx",
     .end = "Wqkv",
     .role = "query_key_value",
     .blocks = "num_attention_heads num_key_value_heads num_key_value_heads"},
    {.family = "exaone4",
     .end = "attn.qkv",
     .role = "query_key_value",
     .blocks = "num_attention_heads num_key_value_heads num_key_value_heads"},
    {.family = "modernbert", .end = "Wqkv", .role = "query_key_value", .blocks = "1 1 1"},
    {.family = "mpt", .end = "Wqkv", .role = "query_key_value", .blocks = "1 1 1"},
    {.family = "gpt2", .end = "c_attn", .role = "query_key_value", .blocks = "square"},  // or key and value
    {.family = "imagegpt", .end = "c_attn", .role = "query_key_value", .blocks = "square"},
    {.family = "decisiontransformer", .end = "c_attn", .role = "query_key_value", .blocks = "square"},
    {.family = "openaigpt", .end = "c_attn", .role = "query_key_value", .blocks = "square"},
    {.family = "bark", .end = "att_proj", .role = "query_key_value", .blocks = "1 1 1"},
    // LevitAttention and LevitAttentionSubsample, by head; their queries stand alone.
    {.family = "levit",
     .end = "queries_keys_values.linear",
     .role = "query_key_value",
     .blocks = "key_dim key_dim attention_ratio*key_dim",
     .repeats = "num_attention_heads"},
    {.family = "levit",
     .end = "keys_values.linear",
     .role = "key_value",
     .blocks = "key_dim attention_ratio*key_dim",
     .repeats = "num_attention_heads"},
    // FocalNetModulation: query, context, a gate for each level and one for all.
    {.family = "focalnet",
     .end = "projection_in",
     .role = "query_context_gates",
     .blocks = "dim dim focal_level+1"},
    // Multi-head latent attention of DeepSeek and its heirs.
    {.end = "kv_b_proj",
     .role = "key_value",
     .blocks = "qk_nope_head_dim v_head_dim",
     .repeats = "num_attention_heads"},
    {.end = "kv_a_proj_with_mqa", .role = "key_value_latent", .blocks = "kv_lora_rank qk_rope_head_dim"},
    // Linear attention: Qwen3NextGatedDeltaNet by group, Qwen3_5GatedDeltaNet one after the other.
    {.end = "in_proj_qkvz",
     .role = "query_key_value",
     .blocks = "linear_num_key_heads*linear_key_head_dim linear_num_key_heads*linear_key_head_dim "
               "linear_num_value_heads*linear_value_head_dim linear_num_value_heads*linear_value_head_dim",
     .repeats = "linear_num_key_heads"},
    {.end = "in_proj_ba", .role = "gate", .blocks = "1 1", .repeats = "linear_num_key_heads"},
    {.end = "in_proj_qkv",
     .role = "query_key_value",
     .blocks = "linear_num_key_heads*linear_key_head_dim linear_num_key_heads*linear_key_head_dim "
               "linear_num_value_heads*linear_value_head_dim"},
    // State spaces: z, x, B, C, dt of Mamba2Mixer and its copies; x, z of MambaMixer and its.
    {.family = "mamba2",
     .end = "in_proj",
     .role = "state_space_input",
     .blocks =
         "intermediate_size intermediate_size n_groups*ssm_state_size n_groups*ssm_state_size mamba_heads"},
    {.family = "zamba2",
     .end = "mamba.in_proj",
     .role = "state_space_input",
     .blocks =
         "intermediate_size intermediate_size n_groups*ssm_state_size n_groups*ssm_state_size mamba_heads"},
    {.family = "bamba",
     .end = "mamba.in_proj",
     .role = "state_space_input",
     .blocks =
         "intermediate_size intermediate_size n_groups*ssm_state_size n_groups*ssm_state_size mamba_heads"},
    {.family = "granitemoehybrid",
     .end = "mamba.in_proj",
     .role = "state_space_input",
     .blocks =
         "intermediate_size intermediate_size n_groups*ssm_state_size n_groups*ssm_state_size mamba_heads"},
    {.family = "falconh1",
     .end = "mamba.in_proj",
     .role = "state_space_input",
     .blocks =
         "intermediate_size intermediate_size n_groups*ssm_state_size n_groups*ssm_state_size mamba_heads"},
    {.family = "nemotronh",
     .end = "mixer.in_proj",
     .role = "state_space_input",
     .blocks =
         "intermediate_size intermediate_size n_groups*ssm_state_size n_groups*ssm_state_size mamba_heads"},
    {.family = "mamba", .end = "in_proj", .role = "state_space_input", .blocks = "1 1"},
    {.family = "falconmamba", .end = "in_proj", .role = "state_space_input", .blocks = "1 1"},
    {.family = "jamba", .end = "mamba.in_proj", .role = "state_space_input", .blocks = "1 1"},
    {.family = "zamba",
     .end = "mamba.in_proj",
     .role = "state_space_input",
     .blocks = "1 1",
     .repeats = "rows"},
    {.family = "zamba",
     .end = "x_proj_weight",
     .role = "state_space_parameters",
     .stored = Stored::experts,
     .blocks = "time_step_rank ssm_state_size ssm_state_size"},
    {.family = "zamba", .end = "dt_proj_weight", .role = "time_step", .stored = Stored::experts},
    {.end = "mixer.x_proj",
     .role = "state_space_parameters",
     .blocks = "time_step_rank ssm_state_size ssm_state_size"},
    {.end = "mamba.x_proj",
     .role = "state_space_parameters",
     .blocks = "time_step_rank ssm_state_size ssm_state_size"},
    {.family = "lfm", .end = "conv.in_proj", .role = "short_convolution_input", .blocks = "1 1 1"},
    // Stacked experts: GptOssExperts interleaves gate and up, Llama4TextExperts, AriaExperts and
    // OpenAIPrivacyFilterExperts do not; all four store [in, out]. JetMoeParallelExperts, MoshiFlexibleLinear.
    {.family = "gptoss",
     .end = "experts.gate_up_proj",
     .role = "gate_up",
     .stored = Stored::experts_in_out,
     .blocks = "1 1",
     .repeats = "rows"},
    {.family = "gptoss",
     .end = "experts.down_proj",
     .role = "down",
     .neurons = kInput,
     .stored = Stored::experts_in_out},
    // DbrxExpertGLU: views (experts, neurons, hidden), w1 and v1 used transposed, w2 as it is.
    {.family = "dbrx", .end = "experts.mlp.w1", .role = "gate", .stored = Stored::rows_of_experts},
    {.family = "dbrx", .end = "experts.mlp.v1", .role = "up", .stored = Stored::rows_of_experts},
    {.family = "dbrx",
     .end = "experts.mlp.w2",
     .role = "down",
     .neurons = kInput,
     .stored = Stored::rows_of_experts_in_out},
    {.end = "experts.gate_up_proj", .role = "gate_up", .stored = Stored::experts, .blocks = "1 1"},
    {.end = "experts.gate_proj", .role = "gate", .stored = Stored::experts},
    {.end = "experts.up_proj", .role = "up", .stored = Stored::experts},
    {.end = "experts.down_proj", .role = "down", .neurons = kInput, .stored = Stored::experts},
    {.end = "shared_experts.gate_proj", .role = "gate", .stored = Stored::experts},
    {.end = "shared_experts.up_proj", .role = "up", .stored = Stored::experts},
    {.end = "shared_experts.down_proj", .role = "down", .neurons = kInput, .stored = Stored::experts},
    {.family = "jetmoe",
     .end = "mlp.input_linear",
     .role = "gate_up",
     .stored = Stored::experts,
     .blocks = "1 1"},
    {.family = "jetmoe",
     .end = "mlp.output_linear",
     .role = "down",
     .neurons = kInput,
     .stored = Stored::experts},
    {.family = "jetmoe", .end = "experts.input_linear", .role = "query", .stored = Stored::experts},
    {.family = "jetmoe",
     .end = "experts.output_linear",
     .role = "attention_output",
     .neurons = kInput,
     .stored = Stored::experts},
    {.family = "moshiflexiblelinear", .end = "", .role = "linear", .stored = Stored::experts},
    {.family = "kyutaispeechtotextflexiblelinear", .end = "", .role = "linear", .stored = Stored::experts},
    {.family = "groupedlinearlayer",
     .end = "",
     .role = "linear",
     .stored = Stored::experts_in_out},  // ConvBERT
    {.family = "recurrentgemma",
     .end = "input_gate_weight",
     .role = "gate",
     .stored = Stored::experts_in_out},
    {.family = "recurrentgemma",
     .end = "recurrent_gate_weight",
     .role = "gate",
     .stored = Stored::experts_in_out},
    {.family = "granitemoe", .end = "shared_mlp.input_linear", .role = "gate_up", .blocks = "1 1"},
    // XLNetRelativeAttention, FunnelRelMultiheadAttention: [in, heads, size]; XLNet's output [out, heads, size].
    {.family = "xlnet", .end = "q", .role = "query", .stored = Stored::in_heads},
    {.family = "xlnet", .end = "k", .role = "key", .stored = Stored::in_heads},
    {.family = "xlnet", .end = "v", .role = "value", .stored = Stored::in_heads},
    {.family = "xlnet", .end = "r", .role = "position", .stored = Stored::in_heads},
    {.family = "xlnet",
     .end = "o",
     .role = "attention_output",
     .neurons = kInput,
     .stored = Stored::out_heads},
    {.family = "funnel", .end = "r_kernel", .role = "position", .stored = Stored::in_heads},
    // Projections in front of a gated linear unit: conformers, ClvpGatedLinearUnit, Gemma3nAudioConformerLightConv1d.
    {.end = "conv_module.pointwise_conv1", .role = "gate_up", .blocks = "1 1"},
    {.family = "parakeet", .end = "conv.pointwise_conv1", .role = "gate_up", .blocks = "1 1"},
    {.family = "clvpgatedlinearunit", .end = "proj", .role = "gate_up", .blocks = "1 1"},
    {.end = "lconv1d.linear_start", .role = "gate_up", .blocks = "1 1"},
    {.family = "jetmoe", .end = "kv_proj", .role = "key_value", .blocks = "1 1"},
    // Feed-forward with gate and up in one.
    {.end = "gate_up_proj", .role = "gate_up", .blocks = "1 1"},
    {.family = "modernbert", .end = "Wi", .role = "gate_up", .blocks = "1 1"},
    // Any model, by name: a fused projection of unknown kin is taken for equal blocks one after the other.
    {.end = "in_proj_weight", .role = "query_key_value", .blocks = "1 1 1"},  // torch.nn.MultiheadAttention
    {.end = "qkv", .role = "query_key_value", .blocks = "1 1 1", .guess = true},
    {.end = "to_qkv", .role = "query_key_value", .blocks = "1 1 1", .guess = true},
    {.end = "to_kv", .role = "key_value", .blocks = "1 1", .guess = true},
    {.end = "c_attn", .role = "query_key_value", .blocks = "square", .guess = true},
    {.end = "Wqkv", .role = "query_key_value", .blocks = "square", .guess = true},
    {.end = "qkv_proj", .role = "query_key_value", .blocks = "square", .guess = true},
    {.end = "query_key_value", .role = "query_key_value", .blocks = "square", .guess = true},
    {.end = "attn.c_proj", .role = "attention_output", .neurons = kInput},
    {.end = "mlp.c_fc", .role = "up"},
    {.end = "mlp.c_proj", .role = "down", .neurons = kInput},
    {.end = "q_proj", .role = "query"},
    {.end = "wq", .role = "query"},
    {.end = "query", .role = "query"},
    {.end = "q_proj_weight", .role = "query"},
    {.end = "k_proj", .role = "key"},
    {.end = "wk", .role = "key"},
    {.end = "key", .role = "key"},
    {.end = "k_proj_weight", .role = "key"},
    {.end = "v_proj", .role = "value"},
    {.end = "wv", .role = "value"},
    {.end = "value", .role = "value"},
    {.end = "v_proj_weight", .role = "value"},
    {.end = "o_proj", .role = "attention_output", .neurons = kInput},
    {.end = "wo", .role = "attention_output", .neurons = kInput},
    {.end = "attn.out_proj", .role = "attention_output", .neurons = kInput},
    {.end = "self_attn.out_proj", .role = "attention_output", .neurons = kInput},
    {.end = "attention.dense", .role = "attention_output", .neurons = kInput},
    {.end = "self_attention.dense", .role = "attention_output", .neurons = kInput},
    {.end = "attention.output.dense", .role = "attention_output", .neurons = kInput},
    {.end = "gate_proj", .role = "gate"},
    {.end = "w1", .role = "gate"},
    {.end = "up_proj", .role = "up"},
    {.end = "w3", .role = "up"},
    {.end = "fc1", .role = "up"},
    {.end = "intermediate.dense", .role = "up"},
    {.end = "dense_h_to_4h", .role = "up"},
    {.end = "down_proj", .role = "down", .neurons = kInput},
    {.end = "w2", .role = "down", .neurons = kInput},
    {.end = "fc2", .role = "down", .neurons = kInput},
    {.end = "output.dense", .role = "down", .neurons = kInput},
    {.end = "dense_4h_to_h", .role = "down", .neurons = kInput},
    {.end = "mm_input_projection_weight", .role = "projection", .stored = Stored::in_out},  // Gemma 3
    {.end = "pooler.dense", .role = "pooler"},
    {.end = "visual_projection", .role = "projection"},
    {.end = "text_projection", .role = "projection"},
});

constexpr bool kAlsoInBlocks = true;

constexpr auto kOther = std::to_array<OtherRow>({
    {"embed_tokens", "embedding", kAlsoInBlocks},
    {"embed_in", "embedding", kAlsoInBlocks},
    {"tok_embeddings", "embedding", kAlsoInBlocks},
    {"word_embeddings", "embedding", kAlsoInBlocks},
    {"token_type_embeddings", "embedding", kAlsoInBlocks},
    {"wte", "embedding", kAlsoInBlocks},
    {"embed", "embedding", kAlsoInBlocks},
    {"embedding", "embedding", kAlsoInBlocks},
    {"embeddings", "embedding", kAlsoInBlocks},
    {"embedder", "embedding", kAlsoInBlocks},
    {"patch_embeddings.projection", "embedding"},
    {"patch_embed.proj", "embedding"},
    {"patch_embedding", "embedding"},
    {"patch_embeddings", "embedding"},
    {"wpe", "position_embedding", kAlsoInBlocks},
    {"embed_positions", "position_embedding", kAlsoInBlocks},
    {"position_embeddings", "position_embedding", kAlsoInBlocks},
    {"position_embedding", "position_embedding", kAlsoInBlocks},
    {"lm_head", "output_head", kAlsoInBlocks},
    {"lm_head.decoder", "output_head"},
    {"predictions.decoder", "output_head"},
    {"embed_out", "output_head"},
    {"seq_relationship", "output_head"},
    {"classification_head.out_proj", "output_head"},
    {"classifier.out_proj", "output_head"},
    {"qa_outputs", "output_head"},
    {"output_projection", "output_head"},
    {"output_head", "output_head"},
    {"codebooks_head", "output_head"},
    {"unembed", "output_head"},
    {"lm_heads", "output_head"},
    {"class_labels_classifier", "output_head"},
    {"generator_lm_head", "output_head"},
    {"score", "output_head"},
    {"score.out_proj", "output_head"},
    {"logits_proj", "output_head"},
    {"logits_dense", "output_head"},
    {"lm_loss", "output_head"},
    {"audio_lm_head", "output_head"},
    {"classifier.linear_out", "output_head"},
    {"classifier.linear", "output_head"},
    {"classifier_distill.linear", "output_head"},
    {"classifier", "output_head"},
    {"heads.head", "output_head"},
    {"head", "output_head"},
    {"output", "output_head"},
    {"decoder", "output_head"},
});

constexpr auto kNumbers = std::to_array<std::array<std::string_view, 5>>({
    {"num_attention_heads", "n_head", "n_heads", "num_heads", "n_heads"},
    {"num_key_value_heads", "num_kv_heads", "kv_n_heads", "n_head_kv", "num_kv_heads"},
    {"ssm_state_size", "state_size", "mamba_d_state", "state_size", "state_size"},
    {"time_step_rank", "mamba_dt_rank", "time_step_rank", "time_step_rank", "time_step_rank"},
    {"n_groups", "mamba_n_groups", "mamba_ngroups", "n_groups", "n_groups"},
    {"mamba_heads", "num_heads", "mamba_n_heads", "mamba_num_heads", "n_mamba_heads"},
    {"num_experts", "moe_num_experts", "num_local_experts", "n_routed_experts", "num_experts"},
    {"linear_num_key_heads", "num_k_heads", "linear_num_key_heads", "num_k_heads", "num_k_heads"},
    {"linear_num_value_heads", "num_v_heads", "num_v_heads", "num_v_heads", "num_v_heads"},
    {"linear_key_head_dim", "head_k_dim", "head_k_dim", "head_k_dim", "head_k_dim"},
    {"linear_value_head_dim", "head_v_dim", "head_v_dim", "head_v_dim", "head_v_dim"},
});

// Words of which one in a parameter's own name ("r_w_bias", "relative_position_bias_table") is enough.
constexpr auto kTableWords = std::to_array<std::string_view>(
    {"bias",  "biases",    "pos",        "position",    "positions", "positional", "embed",   "embeds",
     "emb",   "embedding", "embeddings", "token",       "tokens",    "table",      "latents", "latent",
     "gamma", "beta",      "alpha",      "scale",       "scaling",   "rpb",        "sinks",   "codevectors",
     "mask",  "cls",       "newline",    "probe",       "prompt",    "prompts",    "mix",     "decay",
     "A_log", "D",         "queries",    "temperature", "registers", "norm",       "init",    "sinks"});

}  // namespace

std::span<const RoleRow> hidden_rows() { return kHidden; }
std::span<const OtherRow> other_rows() { return kOther; }

std::span<const std::string_view> names_of_number(std::string_view name) {
  const auto found = std::ranges::find(kNumbers, name, [](const auto& names) { return names.front(); });
  if (found == kNumbers.end()) return {};
  return *found;
}

bool is_table_or_bias(std::string_view own_name) {
  if (std::ranges::find(kTableWords, own_name) != kTableWords.end()) return true;
  while (!own_name.empty()) {
    const auto end = own_name.find('_');
    if (std::ranges::find(kTableWords, own_name.substr(0, end)) != kTableWords.end()) return true;
    own_name = end == std::string_view::npos ? "" : own_name.substr(end + 1);
  }
  return false;
}

}  // namespace aurora
