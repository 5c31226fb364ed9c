"""Small random models of many families, and what their parameters are: written down from the code of their modules, not
from the table that the tests look at.

`adamw`: patterns of the names of matrices that AdamW steps; vectors go there anyway. `blocks`: name pattern -> the matrices
[out, in] in a weight; every other weight of two axes is one matrix [out, in].
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import transformers
from torch import Tensor, nn

Blocks = Callable[[Tensor], list[Tensor]]


@dataclass
class Family:
    name: str
    source: str  # the class whose forward says so
    make: Callable[[], nn.Module]
    adamw: list[str] = field(default_factory=list)
    blocks: dict[str, Blocks] = field(default_factory=dict)
    patterns: dict[str, str] = field(default_factory=dict)  # what a user has to say

    def is_adamw(self, name: str, weight: Tensor) -> bool:
        return weight.ndim < 2 or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.adamw)

    def matrices(self, name: str, weight: Tensor) -> list[Tensor]:
        for pattern, blocks in self.blocks.items():
            if fnmatch.fnmatchcase(name, pattern):
                return blocks(weight)
        assert weight.ndim == 2, f"{self.name} does not say what {name} {list(weight.shape)} is"
        return [weight]


# Ways to be several matrices


def equal(count: int) -> Blocks:
    return lambda w: list(w.chunk(count))


def lengths(*sizes: int) -> Blocks:
    return lambda w: list(w.split(list(sizes)))


def in_out(count: int = 1) -> Blocks:
    return lambda w: list(w.t().chunk(count))


def by_head(heads: int, *sizes: int) -> Blocks:
    """Rows are [heads, sum(sizes)]."""
    return lambda w: [part.flatten(0, 1) for part in w.view(heads, sum(sizes), -1).split(list(sizes), dim=1)]


def experts(count: int = 1) -> Blocks:
    return lambda w: [block for expert in w for block in expert.chunk(count)]


def experts_in_out(count: int = 1) -> Blocks:
    return lambda w: [block for expert in w for block in expert.t().chunk(count)]


def interleaved_experts(w: Tensor) -> list[Tensor]:
    return [part for expert in w for part in (expert[:, ::2].t(), expert[:, 1::2].t())]


def filters(w: Tensor) -> list[Tensor]:
    return [w.flatten(1)]


def grouped_filters(groups: int) -> Blocks:
    return lambda w: list(w.flatten(1).chunk(groups))


def transposed_filters(w: Tensor) -> list[Tensor]:
    return [w.transpose(0, 1).flatten(1)]


# Models


def causal(config: str, **options) -> Callable[[], nn.Module]:
    return of("AutoModelForCausalLM", config, **options)


def of(auto: str, config: str, **options) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        made = getattr(transformers, config)(**options)
        return getattr(transformers, auto).from_config(made)

    return make


SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
GATED = {**SMALL, "intermediate_size": 24, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
MOE = {**GATED, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
ENDS = ["*embed_tokens.weight", "lm_head.weight"]
ROUTED = [*ENDS, "*.mlp.gate.weight"]
STACK = {"*experts.gate_up_proj": experts(2), "*experts.down_proj": experts()}
BERT_ENDS = ["*_embeddings.weight", "*.embeddings.*"]

LANGUAGE = [
    Family("Llama", "LlamaAttention", causal("LlamaConfig", **GATED), ENDS),
    Family("Qwen3", "Qwen3Attention", causal("Qwen3Config", **GATED, head_dim=8), ENDS),
    Family("Gemma 3", "Gemma3Attention", causal("Gemma3TextConfig", **GATED, head_dim=8), ENDS),
    Family("Cohere", "CohereAttention", causal("CohereConfig", **GATED), ENDS),
    Family("GPT-2", "GPT2Attention", causal("GPT2Config", vocab_size=40, n_embd=16, n_layer=2, n_head=4, n_positions=32),
           ["*wte.weight", "*wpe.weight"],
           {"*c_attn.weight": in_out(3), "*c_proj.weight": in_out(), "*c_fc.weight": in_out()}),
    Family("OpenAI-GPT", "Attention", causal("OpenAIGPTConfig", vocab_size=40, n_embd=16, n_layer=2, n_head=4, n_positions=32),
           ["*_embed.weight"], {"*c_attn.weight": in_out(3), "*c_proj.weight": in_out(), "*c_fc.weight": in_out()}),
    Family("GPT-BigCode", "GPTBigCodeAttention",
           causal("GPTBigCodeConfig", vocab_size=40, n_embd=16, n_layer=2, n_head=4, n_positions=32, multi_query=True),
           ["*wte.weight", "*wpe.weight"], {"*c_attn.weight": lengths(16, 4, 4)}),
    Family("GPT-NeoX", "GPTNeoXAttention", causal("GPTNeoXConfig", **SMALL, intermediate_size=32),
           ["*embed_in.weight", "lm_head.weight"], {"*query_key_value.weight": by_head(4, 4, 4, 4)}),
    Family("GPT-J", "GPTJAttention", causal("GPTJConfig", vocab_size=40, n_embd=16, n_layer=2, n_head=4, rotary_dim=4),
           ["*wte.weight", "lm_head.weight"]),
    Family("CodeGen", "CodeGenAttention", causal("CodeGenConfig", vocab_size=40, n_embd=16, n_layer=2, n_head=4, rotary_dim=4),
           ["*wte.weight", "lm_head.weight"], {"*qkv_proj.weight": by_head(4, 4, 4, 4)}),
    Family("Bloom", "BloomAttention", causal("BloomConfig", vocab_size=40, hidden_size=16, n_layer=2, n_head=4),
           ["*word_embeddings.weight"], {"*query_key_value.weight": by_head(4, 4, 4, 4)}),
    Family("Falcon, new decoder", "FalconAttention",
           causal("FalconConfig", **SMALL, new_decoder_architecture=True, num_kv_heads=2),
           ["*word_embeddings.weight"], {"*query_key_value.weight": by_head(2, 8, 4, 4)}),
    Family("Falcon, multi-query", "FalconAttention",
           causal("FalconConfig", **SMALL, new_decoder_architecture=False, multi_query=True),
           ["*word_embeddings.weight"], {"*query_key_value.weight": lengths(16, 4, 4)}),
    Family("Falcon, multi-head", "FalconAttention",
           causal("FalconConfig", **SMALL, new_decoder_architecture=False, multi_query=False),
           ["*word_embeddings.weight"], {"*query_key_value.weight": by_head(4, 4, 4, 4)}),
    Family("MPT", "MptAttention", causal("MptConfig", vocab_size=40, d_model=16, n_layers=2, n_heads=4),
           ["*wte.weight"], {"*Wqkv.weight": equal(3)}),
    Family("Phi-3", "Phi3Attention", causal("Phi3Config", **GATED), ENDS,
           {"*qkv_proj.weight": lengths(16, 8, 8), "*gate_up_proj.weight": equal(2)}),
    Family("Persimmon", "PersimmonAttention", causal("PersimmonConfig", **SMALL, intermediate_size=32),
           ENDS, {"*query_key_value.weight": by_head(4, 4, 4, 4)}),
    Family("OPT", "OPTAttention", causal("OPTConfig", **SMALL, ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=32),
           ["*embed_tokens.weight", "*embed_positions.weight", "lm_head.weight"]),
    Family("GLM-4", "Glm4MLP", causal("Glm4Config", **GATED, head_dim=4), ENDS, {"*gate_up_proj.weight": equal(2)}),
    Family("RWKV", "RwkvSelfAttention", causal("RwkvConfig", vocab_size=40, hidden_size=16, num_hidden_layers=2, context_length=16),
           ["*embeddings.weight", "head.weight", "*time_*"]),
    Family("XLNet", "XLNetRelativeAttention",
           causal("XLNetConfig", vocab_size=40, d_model=16, n_layer=2, n_head=4, d_inner=32),
           ["*word_embedding.weight", "*mask_emb", "*_bias", "*seg_embed", "lm_loss.weight"],
           {"*rel_attn.[qkvr]": lambda w: [w.flatten(1).t()], "*rel_attn.o": lambda w: [w.flatten(1)]}),
]

EXPERTS = [
    Family("Mixtral", "MixtralExperts", causal("MixtralConfig", **GATED, num_local_experts=4), ROUTED, STACK),
    Family("Qwen2-MoE", "Qwen2MoeExperts",
           causal("Qwen2MoeConfig", **MOE, num_experts=4, shared_expert_intermediate_size=12),
           [*ROUTED, "*.shared_expert_gate.weight"], STACK),
    Family("Qwen3-MoE", "Qwen3MoeExperts", causal("Qwen3MoeConfig", **MOE, head_dim=4, num_experts=4), ROUTED, STACK),
    Family("DeepSeek-V3", "DeepseekV3Attention",
           causal("DeepseekV3Config", **{**MOE, "num_key_value_heads": 4}, n_routed_experts=4, n_group=2, topk_group=1,
                  first_k_dense_replace=1, q_lora_rank=8, kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=6),
           ROUTED, {**STACK, "*kv_b_proj.weight": by_head(4, 4, 6), "*kv_a_proj_with_mqa.weight": lengths(8, 4)}),
    Family("OLMoE", "OlmoeExperts", causal("OlmoeConfig", **GATED, num_experts=4, num_experts_per_tok=2), ROUTED, STACK),
    Family("Granite MoE", "GraniteMoeExperts", causal("GraniteMoeConfig", **GATED, num_local_experts=4, num_experts_per_tok=2),
           [*ENDS, "*router*"], STACK),
    Family("JetMoE", "JetMoeParallelExperts",
           causal("JetMoeConfig", **{k: v for k, v in GATED.items() if k not in ("num_attention_heads",)}, kv_channels=4,
                  num_local_experts=4, num_experts_per_tok=2),
           [*ENDS, "*router*"],
           {"*kv_proj.weight": equal(2), "*mlp.input_linear.weight": experts(2), "*mlp.output_linear.weight": experts(),
            "*experts.input_linear.weight": experts(), "*experts.output_linear.weight": experts()}),
    Family("Llama 4", "Llama4TextExperts",
           causal("Llama4TextConfig", **GATED, head_dim=4, intermediate_size_mlp=24, num_local_experts=4, num_experts_per_tok=1),
           [*ENDS, "*router*"], {"*experts.gate_up_proj": experts_in_out(2), "*experts.down_proj": experts_in_out()}),
    Family("GPT-OSS", "GptOssExperts", causal("GptOssConfig", **GATED, head_dim=4, num_local_experts=4, num_experts_per_tok=2),
           [*ENDS, "*router*", "*_bias"], {"*experts.gate_up_proj": interleaved_experts, "*experts.down_proj": experts_in_out()}),
    Family("DBRX", "DbrxExpertGLU",
           causal("DbrxConfig", vocab_size=40, d_model=16, n_heads=4, n_layers=2, max_seq_len=32,
                  attn_config={"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
                  ffn_config={"hidden_size": 16, "ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2}),
           ["*wte.weight", "lm_head.weight", "*router.layer.weight", "*experts.mlp.w2"],
           {"*Wqkv.weight": lengths(16, 8, 8), "*mlp.w1": equal(4), "*mlp.v1": equal(4)},
           {"*.experts.mlp.w2": "adamw"}),
    Family("Switch", "SwitchTransformersTop1Router",
           of("AutoModelForSeq2SeqLM", "SwitchTransformersConfig", vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2,
              num_decoder_layers=2, num_heads=4, num_experts=3, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1,
              pad_token_id=0, decoder_start_token_id=0),
           ["shared.weight", "lm_head.weight", "*router*", "*relative_attention_bias.weight"]),
]

OTHERS = [
    Family("BERT", "BertSelfAttention",
           of("AutoModelForPreTraining", "BertConfig", **SMALL, intermediate_size=32, max_position_embeddings=32),
           ["*_embeddings.weight", "*seq_relationship.weight"]),
    Family("RoBERTa, language model", "RobertaLMHead",
           of("AutoModelForMaskedLM", "RobertaConfig", **SMALL, intermediate_size=32, max_position_embeddings=32),
           ["*_embeddings.weight"]),
    Family("RoBERTa, classes", "RobertaClassificationHead",
           of("AutoModelForSequenceClassification", "RobertaConfig", **SMALL, intermediate_size=32, num_labels=3),
           ["*_embeddings.weight", "classifier.out_proj.weight"]),
    Family("ALBERT", "AlbertLayer",
           of("AutoModelForMaskedLM", "AlbertConfig", **SMALL, embedding_size=8, intermediate_size=32, max_position_embeddings=32),
           ["*_embeddings.weight"]),
    Family("DeBERTa", "DisentangledSelfAttention",
           of("AutoModelForMaskedLM", "DebertaConfig", **SMALL, intermediate_size=32, relative_attention=True,
              pos_att_type=["c2p", "p2c"]),
           ["*_embeddings.weight"], {"*in_proj.weight": by_head(4, 4, 4, 4)}),
    Family("ModernBERT", "ModernBertAttention",
           of("AutoModelForMaskedLM", "ModernBertConfig", **SMALL, intermediate_size=24),
           ["*tok_embeddings.weight"], {"*Wqkv.weight": equal(3), "*Wi.weight": equal(2)}),
    Family("T5", "T5Attention",
           of("AutoModelForSeq2SeqLM", "T5Config", vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4,
              feed_forward_proj="gated-gelu", decoder_start_token_id=0),
           ["shared.weight", "lm_head.weight", "*relative_attention_bias.weight"]),
    Family("BART, classes", "BartClassificationHead",
           of("AutoModelForSequenceClassification", "BartConfig", vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1,
              encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24,
              max_position_embeddings=32, num_labels=3, pad_token_id=0, bos_token_id=1, eos_token_id=2,
              decoder_start_token_id=1, forced_eos_token_id=2),
           ["*shared.weight", "*embed_positions.weight", "*embed_tokens.weight", "classification_head.out_proj.weight"]),
    Family("ViT", "ViTSelfAttention",
           of("AutoModelForImageClassification", "ViTConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
              intermediate_size=32, image_size=16, patch_size=8, num_labels=3),
           ["*cls_token", "*position_embeddings", "*patch_embeddings.projection.weight", "classifier.weight"]),
    Family("Swin", "SwinSelfAttention",
           of("AutoModelForImageClassification", "SwinConfig", image_size=16, patch_size=2, embed_dim=8, depths=[1, 1],
              num_heads=[2, 2], window_size=2, num_labels=3),
           ["*relative_position_bias_table", "*patch_embeddings.projection.weight", "classifier.weight"]),
    Family("ConvNeXt", "ConvNextLayer",
           of("AutoModelForImageClassification", "ConvNextConfig", hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, num_labels=3),
           ["*dwconv.weight", "*patch_embeddings.weight", "classifier.weight"], {"*downsampling_layer.1.weight": filters}),
    Family("FocalNet", "FocalNetModulation",
           of("AutoModelForImageClassification", "FocalNetConfig", image_size=16, patch_size=2, embed_dim=8, depths=[1, 1],
              focal_levels=[2, 1], focal_windows=[3, 3], num_labels=3),
           ["*embeddings.patch_embeddings.projection.weight", "*focal_layers*", "classifier.weight"],
           {"*projection_in.weight": lambda w: list(w.split([w.shape[1], w.shape[1], len(w) - 2 * w.shape[1]])),
            "*projection_context.weight": filters, "*downsample.projection.weight": filters}),
    Family("LeViT", "LevitAttention",
           lambda: transformers.LevitForImageClassification(transformers.LevitConfig(
               image_size=32, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 2, 2], depths=[1, 1, 1], key_dim=[8, 8, 8],
               attention_ratio=[2, 2, 2], mlp_ratio=[2, 2, 2], num_labels=3)),
           ["*attention_biases", "classifier.linear.weight"],
           {"*queries_keys_values.linear.weight": by_head(2, 8, 8, 16), "*convolution.weight": filters,
            "*.keys_values.linear.weight": lambda w: by_head(len(w) // 40, 8, 32)(w)}),
    Family("Qwen2-VL, vision", "VisionAttention",
           lambda: transformers.models.qwen2_vl.modeling_qwen2_vl.Qwen2VisionTransformerPretrainedModel(
               transformers.models.qwen2_vl.configuration_qwen2_vl.Qwen2VLVisionConfig(
                   depth=1, embed_dim=16, hidden_size=16, num_heads=4, mlp_ratio=2, patch_size=4)),
           ["*patch_embed.proj.weight"], {"*attn.qkv.weight": equal(3)}),
    Family("Mamba", "MambaMixer",
           causal("MambaConfig", vocab_size=40, hidden_size=16, num_hidden_layers=2, state_size=4, time_step_rank=3),
           ["*embeddings.weight", "*A_log", "*conv1d.weight"],
           {"*in_proj.weight": equal(2), "*x_proj.weight": lengths(3, 4, 4)}),
    Family("Mamba-2", "Mamba2Mixer",
           causal("Mamba2Config", vocab_size=40, hidden_size=16, num_hidden_layers=2, state_size=4, num_heads=4, head_dim=8,
                  n_groups=2, expand=2),
           ["*embeddings.weight", "*conv1d.weight", "lm_head.weight"], {"*in_proj.weight": lengths(32, 32, 8, 8, 4)}),
    Family("Qwen3-Next", "Qwen3NextGatedDeltaNet",
           causal("Qwen3NextConfig", **MOE, head_dim=4, num_experts=4, shared_expert_intermediate_size=12,
                  layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=4,
                  linear_key_head_dim=4, linear_value_head_dim=4),
           [*ROUTED, "*shared_expert_gate.weight", "*conv1d.weight"],
           {**STACK, "*in_proj_qkvz.weight": by_head(2, 4, 4, 8, 8), "*in_proj_ba.weight": by_head(2, 2, 2)}),
    Family("Wav2Vec2", "Wav2Vec2PositionalConvEmbedding",
           of("AutoModelForCTC", "Wav2Vec2Config", vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
              intermediate_size=24, conv_dim=[8, 8], conv_stride=[2, 2], conv_kernel=[3, 3], num_feat_extract_layers=2,
              num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=4, mask_time_prob=0.0),
           ["lm_head.weight", "*original0"],
           {"*conv_layers.0.conv.weight": filters, "*conv_layers.1.conv.weight": filters, "*original1": grouped_filters(4)}),
    Family("Wav2Vec2-BERT", "Wav2Vec2BertConvolutionModule",
           of("AutoModelForCTC", "Wav2Vec2BertConfig", vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
              intermediate_size=24, feature_projection_input_dim=8, conv_depthwise_kernel_size=3, mask_time_prob=0.0),
           ["lm_head.weight", "*depthwise_conv.weight", "*distance_embedding.weight"],
           {"*pointwise_conv1.weight": lambda w: list(w.flatten(1).chunk(2)), "*pointwise_conv2.weight": filters}),
    Family("Zamba", "ZambaMambaMixer",
           lambda: nn.ModuleDict({
               "mamba": transformers.models.zamba.modeling_zamba.ZambaMambaMixer(
                   transformers.ZambaConfig(hidden_size=16, mamba_d_state=4, mamba_dt_rank=3, n_mamba_heads=2,
                                            use_mamba_kernels=False), layer_idx=0),
               "classifier": nn.Linear(16, 3)}),
           ["*A_log", "*conv1d.weight", "*dt_proj_bias", "*mamba.D", "classifier.weight"],
           {"*in_proj.weight": lambda w: [w[::2], w[1::2]], "*dt_proj_weight": experts(),
            "*x_proj_weight": lambda w: [part for head in w for part in head.split([3, 4, 4])]}),
    Family("Whisper", "WhisperAttention",
           of("AutoModelForSpeechSeq2Seq", "WhisperConfig", vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1,
              encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=8,
              max_source_positions=16, max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
              decoder_start_token_id=1),
           ["*embed_tokens.weight", "*embed_positions.weight", "proj_out.weight"], {"*encoder.conv?.weight": filters}),
]


class Plain(nn.Module):
    """Layers of torch itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.grouped = nn.Conv2d(8, 12, 3, groups=2)
        self.depthwise = nn.Conv2d(12, 12, 3, groups=12)
        self.up = nn.ConvTranspose2d(12, 4, 2)
        self.attention = nn.MultiheadAttention(8, 2)
        self.cross = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, add_bias_kv=True)
        self.lstm = nn.LSTM(6, 4, num_layers=2, bidirectional=True, proj_size=3)
        self.gru = nn.GRU(6, 4)
        self.rnn = nn.RNNCell(6, 4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16)
        self.norm = nn.LayerNorm([3, 4, 4])
        self.positions = nn.Parameter(torch.randn(9, 8))
        self.table = nn.EmbeddingBag(9, 4)
        self.classifier = nn.Linear(8, 3)


TORCH = [
    Family("torch.nn", "torch.nn", Plain,
           ["depthwise.weight", "norm.*", "positions", "table.weight", "classifier.weight", "cross.bias_*"],
           {"first.weight": filters, "grouped.weight": grouped_filters(2), "up.weight": transposed_filters,
            "*in_proj_weight": equal(3), "lstm.weight_ih*": equal(4), "lstm.weight_hh*": equal(4), "gru.weight*": equal(3)}),
]  # fmt: skip

FAMILIES = [*LANGUAGE, *EXPERTS, *OTHERS, *TORCH]
