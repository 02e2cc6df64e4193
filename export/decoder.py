"""The decoder that is exported: one chunk of tokens through `blockffn::` operators and a key/value cache.

Every computation is one of our operators, so that the whole forward becomes one delegate; residual
scaling rides in the operators' scale arguments and the rotary frequencies are constants. Weights
are parameters that alias the checkpoint's memory-mapped tensors: building a Decoder reads nothing.

Axes    T tokens of a chunk (1..64), V vocabulary, D hidden, C cache rows (the context), R rotated
        values of a head, H query heads, G key/value heads, E experts, F expert width.
Inputs  see the "Chunk" paragraph of export/ops.py.
Source  BlockFFN, arXiv:2507.08771; config.json of the published checkpoints.
"""

import math

import torch
from torch import Tensor, nn

from export.ops import MAX_TOKENS
from export.precisions import KV_QUANTS, QUANTS
from training.config import ModelConfig
from training.draft_files import fingerprint, tokenizer_fingerprint

ops = torch.ops.blockffn
FORMAT_VERSION = 1  # of the program's inputs, outputs and metadata; the runtime refuses others
MLA_NORM_EPS = 1e-6  # of the two inner norms, as published: not rms_norm_eps


def effective_rope_theta(config: ModelConfig, max_context: int) -> float:
    """Base of the rotary embedding: dynamic scaling is fixed for the exported context."""
    scaling, width = config.rope_scaling or {}, config.rope_dim
    if scaling.get("type", scaling.get("rope_type")) != "dynamic" or max_context <= config.max_position_embeddings:
        return config.rope_theta
    factor = scaling["factor"]
    growth = factor * max_context / config.max_position_embeddings - (factor - 1)
    return config.rope_theta * growth ** (width / (width - 2))


def rope_frequencies(config: ModelConfig, max_context: int) -> Tensor:
    """Angle per position and pair, float32 [R/2], with linear or dynamic scaling."""
    exponent = torch.arange(0, config.rope_dim, 2, dtype=torch.float32) / config.rope_dim
    inv_freq = effective_rope_theta(config, max_context) ** -exponent
    scaling = config.rope_scaling or {}
    linear = scaling.get("type", scaling.get("rope_type")) == "linear"
    return inv_freq / scaling["factor"] if linear else inv_freq


class _Weights:
    """A checkpoint's tensors under one prefix, as parameters without a copy."""

    def __init__(self, tensors, prefix: str = "") -> None:
        self.tensors, self.prefix = tensors, prefix

    def under(self, prefix: str) -> "_Weights":
        return _Weights(self.tensors, f"{self.prefix}{prefix}.")

    def __call__(self, name: str) -> nn.Parameter:
        return nn.Parameter(self.tensors[self.prefix + name], requires_grad=False)


class MlaAttention(nn.Module):
    """Latent attention; the cache row of a token is its normed latent and its rotated key."""

    def __init__(self, config: ModelConfig, weights: _Weights, max_context: int, quant: str, kv_quant: str) -> None:
        super().__init__()
        self.heads, self.nope, self.quant = config.num_attention_heads, config.qk_nope_head_dim, quant
        self.kv_quant = kv_quant
        self.q_a_proj, self.q_a_layernorm = weights("q_a_proj.weight"), weights("q_a_layernorm.weight")
        self.q_b_proj = weights("q_b_proj.weight")
        self.kv_a_proj, self.kv_a_layernorm = weights("kv_a_proj_with_mqa.weight"), weights("kv_a_layernorm.weight")
        self.kv_b_proj, self.o_proj = weights("kv_b_proj.weight"), weights("o_proj.weight")
        width = config.kv_lora_rank + config.qk_rope_head_dim
        self.register_buffer("cache", torch.zeros(max_context, width), persistent=False)

    def forward(self, x_TD: Tensor, inv_freq: Tensor, chunk: tuple, out_scale: float) -> Tensor:
        q_a = ops.rms_norm(ops.linear(x_TD, self.q_a_proj, None, 1.0, self.quant), self.q_a_layernorm, MLA_NORM_EPS)
        q = ops.linear(q_a, self.q_b_proj, None, 1.0, self.quant)
        kv = ops.linear(x_TD, self.kv_a_proj, None, 1.0, self.quant)
        y, cache = ops.mla_attention(
            q, kv, self.kv_a_layernorm, self.kv_b_proj, inv_freq, self.cache, *chunk,
            self.heads, self.nope, MLA_NORM_EPS, self.quant, self.kv_quant,
        )
        self.cache.copy_(cache)
        return ops.linear(y, self.o_proj, None, out_scale, self.quant)


class GqaAttention(nn.Module):
    """Multi-head or grouped-query attention."""

    def __init__(
        self, config: ModelConfig, weights: _Weights, max_context: int, quant: str, kv_quant: str = "fp32"
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.quant = config.num_attention_heads, config.num_key_value_heads, quant
        self.kv_quant = kv_quant
        self.q_proj, self.k_proj = weights("q_proj.weight"), weights("k_proj.weight")
        self.v_proj, self.o_proj = weights("v_proj.weight"), weights("o_proj.weight")
        for name in ("key_cache", "value_cache"):
            self.register_buffer(name, torch.zeros(max_context, self.kv_heads * config.v_head_dim), persistent=False)

    def forward(
        self, x_TD: Tensor, inv_freq: Tensor, chunk: tuple, out_scale: float, tree_rows: Tensor | None = None
    ) -> Tensor:
        q, k, v = (ops.linear(x_TD, w, None, 1.0, self.quant) for w in (self.q_proj, self.k_proj, self.v_proj))
        y, keys, values = ops.gqa_attention(
            q, k, v, inv_freq, self.key_cache, self.value_cache, *chunk, self.heads, self.kv_heads, tree_rows,
            self.kv_quant,
        )
        self.key_cache.copy_(keys)
        self.value_cache.copy_(values)
        return ops.linear(y, self.o_proj, None, out_scale, self.quant)


class BlockFFN(nn.Module):
    """The chunk-sparse mixture of experts, one operator."""

    def __init__(self, config: ModelConfig, weights: _Weights, quant: str) -> None:
        super().__init__()
        self.norm, self.eps = config.norm_after_router, config.rms_norm_eps
        self.norm_scale, self.quant = config.norm_scale, quant
        self.router_proj, self.up_proj = weights("router_proj.weight"), weights("up_proj")
        self.down_proj = weights("down_proj")
        if self.norm == "rms":
            self.router_norm = weights("router_norm.weight")
        else:  # the operator takes one in any case
            self.register_buffer("router_norm", torch.ones(config.num_experts))

    def forward(self, x_TD: Tensor, out_scale: float) -> Tensor:
        return ops.chunk_sparse_ffn(
            x_TD, self.router_proj, self.router_norm, self.up_proj, self.down_proj,
            self.norm, self.eps, self.norm_scale, out_scale, self.quant,
        )


class DenseFFN(nn.Module):
    """The gated dense twin."""

    def __init__(self, config: ModelConfig, weights: _Weights, quant: str) -> None:
        super().__init__()
        self.quant = quant
        self.gate_proj, self.up_proj = weights("gate_proj.weight"), weights("up_proj.weight")
        self.down_proj = weights("down_proj.weight")

    def forward(self, x_TD: Tensor, out_scale: float) -> Tensor:
        gate, up = (ops.linear(x_TD, w, None, 1.0, self.quant) for w in (self.gate_proj, self.up_proj))
        return ops.linear(ops.silu_mul(gate, up), self.down_proj, None, out_scale, self.quant)


class DecoderLayer(nn.Module):
    """h += attention(norm(h)) * residual_scale; h += ffn(norm(h)) * residual_scale."""

    def __init__(self, config: ModelConfig, weights: _Weights, max_context: int, quant: str, attention_quant: str,
                 kv_quant: str) -> None:
        super().__init__()
        attention = MlaAttention if config.attention_type == "mla" else GqaAttention
        ffn = BlockFFN if config.is_block_ffn else DenseFFN
        self.eps = config.rms_norm_eps
        self.residual_scale = config.scale_depth / math.sqrt(config.num_hidden_layers)
        self.input_layernorm = weights("input_layernorm.weight")
        self.self_attn = attention(config, weights.under("self_attn"), max_context, attention_quant, kv_quant)
        self.post_attention_layernorm = weights("post_attention_layernorm.weight")
        self.mlp = ffn(config, weights.under("mlp"), quant)

    def forward(self, h_TD: Tensor, inv_freq: Tensor, chunk: tuple) -> Tensor:
        normed = ops.rms_norm(h_TD, self.input_layernorm, self.eps)
        h_TD = ops.add(h_TD, self.self_attn(normed, inv_freq, chunk, self.residual_scale))
        normed = ops.rms_norm(h_TD, self.post_attention_layernorm, self.eps)
        return ops.add(h_TD, self.mlp(normed, self.residual_scale))


def checked_context(config, quant: str, max_context: int | None) -> int:
    """Rows of the caches: max_context, or what the config says. ValueError for an unknown quant or less than one chunk."""
    if quant not in QUANTS:
        raise ValueError(f"unknown quantization {quant!r}; choose {', '.join(QUANTS)}")
    rows = config.max_position_embeddings if max_context is None else max_context
    if rows < MAX_TOKENS:
        raise ValueError(f"a context of {rows} tokens is shorter than one chunk; choose at least {MAX_TOKENS}")
    return rows


class Decoder(nn.Module):
    """One chunk of a language model.

    forward(token_ids [1, T], positions [T], n_past [1], tree_mask [T], kv_src [64], logits_start [1],
    all int64) -> (logits [1, T, V], hidden [1, T, D] after the final norm), float32. Caches are
    buffers that forward updates.

    checkpoint has `.config` and `.tensors` (canonical names, experts as [E, F, D] and [E, D, F]).
    quant is the precision of every matrix (routers keep at least int8), unless attention_quant is
    another one for attention, embedding and head. kv_quant is the precision of the caches, which are float32 here in
    any case: with "int8" they hold the rounded values. Raises ValueError for an unknown quant or a context
    shorter than one chunk.
    """

    def __init__(self, checkpoint, quant: str = "fp32", max_context: int | None = None,
                 attention_quant: str | None = None, kv_quant: str = "fp32") -> None:
        super().__init__()
        config = checkpoint.config
        if kv_quant not in KV_QUANTS:
            raise ValueError(f"unknown precision of the caches {kv_quant!r}; choose {', '.join(KV_QUANTS)}")
        self.kv_quant = kv_quant
        self.config, self.quant, self.max_context = config, quant, checked_context(config, quant, max_context)
        self.attention_quant = quant if attention_quant is None else attention_quant
        checked_context(config, self.attention_quant, max_context)
        weights = _Weights(checkpoint.tensors)
        self.embed_tokens = weights("model.embed_tokens.weight")
        self.layers = nn.ModuleList(
            DecoderLayer(config, weights.under(f"model.layers.{i}"), self.max_context, quant, self.attention_quant,
                         kv_quant)
            for i in range(config.num_hidden_layers)
        )
        self.norm = weights("model.norm.weight")
        self.lm_head = self.embed_tokens if config.tie_word_embeddings else weights("lm_head.weight")
        self.register_buffer("inv_freq", rope_frequencies(config, self.max_context))
        self.fingerprint = fingerprint(checkpoint.tensors, config)  # a draft head names the same number
        self.tokenizer_fingerprint = tokenizer_fingerprint(checkpoint)  # a language model that drafts has the same
        self.logits_scale = config.dim_model_base / config.hidden_size

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        n_past: Tensor,
        tree_mask: Tensor,
        kv_src: Tensor,
        logits_start: Tensor,
    ) -> tuple[Tensor, Tensor]:
        chunk = (positions, n_past, tree_mask, kv_src)
        h_TD = ops.embedding(token_ids, self.embed_tokens, float(self.config.scale_emb), self.attention_quant)
        for layer in self.layers:
            h_TD = layer(h_TD, self.inv_freq, chunk)
        hidden_1TD = ops.final_norm(h_TD, self.norm, self.config.rms_norm_eps)
        logits_1TV = ops.logits(hidden_1TD, self.lm_head, logits_start, self.logits_scale, self.attention_quant)
        return logits_1TV, hidden_1TD

    def example(self) -> tuple[tuple[Tensor, ...], tuple]:
        """(inputs, dynamic shapes) for torch.export. T = 2 or it would be specialised."""
        tokens = torch.export.Dim("tokens", min=1, max=MAX_TOKENS)
        return causal_chunk([0, 0]), ({1: tokens}, {0: tokens}, None, {0: tokens}, None, None)

    def metadata(self, eos_ids: list[int] | None = None) -> dict:
        """Constant methods that ExecuTorch's runners and ours read. An id of -1 stands for "none"."""
        config = self.config
        eos_ids = config.eos_ids if eos_ids is None else eos_ids
        return {
            "get_max_seq_len": MAX_TOKENS,
            "get_max_context_len": self.max_context,
            "get_vocab_size": config.vocab_size,
            "get_bos_id": -1 if config.bos_token_id is None else config.bos_token_id,
            "get_eos_ids": eos_ids or [-1],
            "use_kv_cache": True,
            "enable_dynamic_shape": True,
            "use_sdpa_with_kv_cache": False,
            "get_blockffn_format_version": FORMAT_VERSION,
            "get_model_fingerprint": self.fingerprint,
            "get_tokenizer_fingerprint": self.tokenizer_fingerprint,
        }

    @torch.no_grad()
    def reset(self) -> None:
        """Forgets the context."""
        for name, buffer in self.named_buffers():
            if name.endswith("cache"):
                buffer.zero_()


def causal_chunk(token_ids: list[int], n_past: int = 0, logits_start: int = 0) -> tuple[Tensor, ...]:
    """Inputs of Decoder.forward for consecutive tokens after n_past others."""
    tokens = len(token_ids)
    # Bit 63 is the sign: token 63 sees all 64 tokens as -1.
    visible = [(1 << (i + 1)) - 1 if i < 63 else -1 for i in range(tokens)]
    return (
        torch.tensor([token_ids]),
        torch.arange(n_past, n_past + tokens),
        torch.tensor([n_past]),
        torch.tensor(visible),
        torch.full((MAX_TOKENS,), -1),
        torch.tensor([logits_start]),
    )
