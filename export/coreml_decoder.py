"""The decoder that becomes a Core ML model: one chunk of tokens in plain torch operators, for float16 arithmetic.

It computes what export/decoder.py computes, in a form that Core ML can take: static shapes but for the number of tokens,
no data-dependent loop, caches as states. What float16 needs is done here: norms divide by the row's maximum before
squaring, queries are scaled before they meet the keys, and rotary angles come from tables, because an angle of
thousands of radians has no digits left in float16.

Axes    T tokens of a chunk, W = 64 columns of a tree mask, V vocabulary, D hidden, C cache rows, R rotated values of
        a head, H query heads, G key/value heads, E experts, F expert width, K experts that are gathered (of one layer).
Inputs  int32: token_ids [1, T], positions [T], n_past [1], tree_mask [T, W] (1 where the token sees token j of the
        chunk, else 0), kv_src [W]. Their meaning is that of export/ops.py; only the mask is a matrix and not bits,
        since Core ML has no 64-bit integers. A chunk of n tokens may be padded to a larger T: rows of padding are
        written behind the chunk, where nothing sees them, and the next chunk overwrites them.
Cache   C is the context and one chunk more, so that no valid n_past lets a window of 64 rows reach beyond the end.
Source  BlockFFN, arXiv:2507.08771.
"""

import math

import torch
from torch import Tensor, nn

from export.coreml_compress import representable
from export.decoder import MLA_NORM_EPS, Decoder, rope_frequencies
from export.ops import MAX_TOKENS, split_kv_b
from training.checkpoint import Checkpoint
from training.config import ModelConfig
from training.draft_files import fingerprint, tokenizer_fingerprint

FFN_FORMS = ("dense", "gather")
MASKED = -30000.0  # added to a score that does not count: float16 holds it, and exp of it is zero
LARGEST_CONTEXT = 32768
SMALLEST_MAXIMUM = 1e-4  # below it a row counts as zero; sqrt(eps) / 1e-4 squared still fits float16


def cache_rows(max_context: int) -> int:
    return -(-(max_context + MAX_TOKENS - 1) // MAX_TOKENS) * MAX_TOKENS


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, with squares of values of at most 1."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(representable(weight), requires_grad=False)
        self.register_buffer("root_eps", torch.tensor([math.sqrt(eps)]))

    def forward(self, x: Tensor) -> Tensor:
        largest = x.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST_MAXIMUM)
        x, root_eps = x / largest, self.root_eps / largest
        return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + root_eps * root_eps) * self.weight


class Linear(nn.Module):
    """x weight^T."""

    def __init__(self, weight_NK: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(representable(weight_NK), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)


class Chunk:
    """What every layer needs to know of a chunk: computed once."""

    def __init__(self, n_past: Tensor, tree_mask: Tensor, kv_src: Tensor, cos_TR: Tensor, sin_TR: Tensor,
                 rows: int) -> None:
        self.cos_TR, self.sin_TR, self.n_past = cos_TR, sin_TR, n_past
        window = torch.arange(MAX_TOKENS, dtype=torch.int32)
        offset_C = torch.arange(rows, dtype=torch.int32) - n_past
        chunk_WC = (offset_C[None] == window[:, None]).float()
        visible_TC = (offset_C < 0).float()[None] + tree_mask.float() @ chunk_WC
        self.bias_TC = (1.0 - visible_TC) * MASKED
        kept_W = (kv_src >= 0).int()
        self.first_kept = n_past - kept_W.sum(dim=0, keepdim=True).int()
        self.window = self.first_kept + window
        source_W = kv_src * kept_W + window * (1 - kept_W)
        self.moves_WW = (source_W[:, None] == window[None]).float()

    def update(self, cache_CX: Tensor, rows_TX: Tensor) -> None:
        """Moves the kept rows of the previous chunk together and writes the new rows behind them."""
        first, past = self.first_kept, self.n_past
        cache_CX[first : first + MAX_TOKENS] = self.moves_WW @ cache_CX.index_select(0, self.window)
        cache_CX[past : past + rows_TX.shape[0]] = rows_TX

    def rotate(self, x_TXR: Tensor) -> Tensor:
        """Rotary embedding, rotate-half."""
        low, high = x_TXR.chunk(2, dim=-1)
        cos, sin = self.cos_TR[:, None], self.sin_TR[:, None]
        return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


class MlaAttention(nn.Module):
    """Latent attention; the cache row of a token is its normed latent and its rotated key."""

    def __init__(self, config: ModelConfig, weights, rows: int) -> None:
        super().__init__()
        self.heads, self.nope, self.latent = config.num_attention_heads, config.qk_nope_head_dim, config.kv_lora_rank
        self.scale = config.qk_head_dim**-0.5
        self.q_a_proj = Linear(weights("q_a_proj.weight"))
        self.q_a_layernorm = RMSNorm(weights("q_a_layernorm.weight"), MLA_NORM_EPS)
        self.q_b_proj = Linear(weights("q_b_proj.weight"))
        self.kv_a_proj = Linear(weights("kv_a_proj_with_mqa.weight"))
        self.kv_a_layernorm = RMSNorm(weights("kv_a_layernorm.weight"), MLA_NORM_EPS)
        absorb_HLN, expand_HVL = split_kv_b(representable(weights("kv_b_proj.weight")), self.heads, self.nope)
        self.absorb_HNL = nn.Parameter(absorb_HLN.transpose(1, 2), requires_grad=False)
        self.expand_HLV = nn.Parameter(expand_HVL.transpose(1, 2), requires_grad=False)
        self.o_proj = Linear(weights("o_proj.weight"))
        self.register_buffer("cache", torch.zeros(rows, self.latent + config.qk_rope_head_dim))

    def forward(self, x_TD: Tensor, chunk: Chunk) -> Tensor:
        q_THK = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_TD))).unflatten(1, (self.heads, -1)) * self.scale
        kv = self.kv_a_proj(x_TD)
        key_TR = chunk.rotate(kv[:, None, self.latent :])[:, 0]
        chunk.update(self.cache, torch.cat([self.kv_a_layernorm(kv[:, : self.latent]), key_TR], dim=-1))
        query_HTL = q_THK[..., : self.nope].transpose(0, 1) @ self.absorb_HNL
        query_HTR = chunk.rotate(q_THK[..., self.nope :]).transpose(0, 1)
        scores_HTC = torch.cat([query_HTL, query_HTR], dim=-1) @ self.cache.transpose(0, 1) + chunk.bias_TC
        context_HTL = scores_HTC.softmax(dim=-1) @ self.cache[:, : self.latent]
        return self.o_proj((context_HTL @ self.expand_HLV).transpose(0, 1).flatten(1))


class GqaAttention(nn.Module):
    """Multi-head or grouped-query attention."""

    def __init__(self, config: ModelConfig, weights, rows: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = config.num_attention_heads, config.num_key_value_heads, config.v_head_dim
        self.q_proj, self.k_proj = Linear(weights("q_proj.weight")), Linear(weights("k_proj.weight"))
        self.v_proj, self.o_proj = Linear(weights("v_proj.weight")), Linear(weights("o_proj.weight"))
        for name in ("key_cache", "value_cache"):
            self.register_buffer(name, torch.zeros(rows, self.kv_heads * self.width))

    def forward(self, x_TD: Tensor, chunk: Chunk) -> Tensor:
        q_THR = self.q_proj(x_TD).unflatten(1, (self.heads, self.width)) * self.width**-0.5
        k_TGR = self.k_proj(x_TD).unflatten(1, (self.kv_heads, self.width))
        chunk.update(self.key_cache, chunk.rotate(k_TGR).flatten(1))
        chunk.update(self.value_cache, self.v_proj(x_TD))
        # [G, H/G * T, R]: the query heads of one key head are more rows of the same product.
        q_GXR = chunk.rotate(q_THR).transpose(0, 1).unflatten(0, (self.kv_heads, -1))
        k_GRC = self.key_cache.unflatten(1, (self.kv_heads, self.width)).permute(1, 2, 0)
        v_GCR = self.value_cache.unflatten(1, (self.kv_heads, self.width)).permute(1, 0, 2)
        scores = q_GXR @ k_GRC[:, None] + chunk.bias_TC
        context = scores.softmax(dim=-1) @ v_GCR[:, None]
        return self.o_proj(context.flatten(0, 1).transpose(0, 1).flatten(1))


class BlockFFN(nn.Module):
    """The sparse experts as two large matrices: all of them ("dense"), or the K that a chunk may use ("gather").

    forward -> (y [T, D], experts of the chunk that did not fit into K).
    """

    def __init__(self, config: ModelConfig, weights, gathered: int | None) -> None:
        super().__init__()
        self.experts, self.width, self.gathered = config.num_experts, config.expert_size, gathered
        self.norm, self.norm_scale = config.norm_after_router, config.norm_scale
        self.router_proj = Linear(weights("router_proj.weight"))
        if self.norm == "rms":
            self.router_norm = RMSNorm(weights("router_norm.weight"), config.rms_norm_eps)
        self.up_proj = Linear(weights("up_proj").flatten(0, 1))
        self.down_proj = Linear(weights("down_proj").transpose(0, 1).flatten(1))

    def forward(self, x_TD: Tensor) -> tuple[Tensor, Tensor | None]:
        scores_TE = self.router_proj(x_TD).relu()
        a_TE = scores_TE
        if self.norm == "rms":
            a_TE = self.router_norm(scores_TE)
        elif self.norm == "sum":
            a_TE = scores_TE / (scores_TE.sum(dim=-1, keepdim=True) * self.norm_scale + 1e-5)
        up_ND, down_DN, missing = self.up_proj.weight, self.down_proj.weight, None
        if self.gathered is not None:
            used_E = scores_TE.amax(dim=0)
            chosen_K = used_E.topk(self.gathered)[1].int()
            rows = (chosen_K[:, None] * self.width + torch.arange(self.width, dtype=torch.int32)).flatten()
            up_ND, down_DN = up_ND.index_select(0, rows), down_DN.index_select(1, rows)
            a_TE = a_TE.index_select(1, chosen_K)
            missing = ((used_E > 0).int().sum(dim=0, keepdim=True).int() - self.gathered).clamp(min=0)
        hidden_TEF = nn.functional.silu(nn.functional.linear(x_TD, up_ND)).unflatten(1, (-1, self.width))
        return nn.functional.linear((hidden_TEF * a_TE[..., None]).flatten(1), down_DN), missing


class DenseFFN(nn.Module):
    """The gated dense twin."""

    def __init__(self, weights) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = Linear(weights("gate_proj.weight")), Linear(weights("up_proj.weight"))
        self.down_proj = Linear(weights("down_proj.weight"))

    def forward(self, x_TD: Tensor) -> tuple[Tensor, None]:
        return self.down_proj(nn.functional.silu(self.gate_proj(x_TD)) * self.up_proj(x_TD)), None


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig, weights, rows: int, gathered: int | None) -> None:
        super().__init__()
        attention = MlaAttention if config.attention_type == "mla" else GqaAttention
        self.residual_scale = config.scale_depth / math.sqrt(config.num_hidden_layers)
        self.input_layernorm = RMSNorm(weights("input_layernorm.weight"), config.rms_norm_eps)
        self.self_attn = attention(config, lambda name: weights(f"self_attn.{name}"), rows)
        self.post_attention_layernorm = RMSNorm(weights("post_attention_layernorm.weight"), config.rms_norm_eps)
        mlp = lambda name: weights(f"mlp.{name}")  # noqa: E731
        self.mlp = BlockFFN(config, mlp, gathered) if config.is_block_ffn else DenseFFN(mlp)

    def forward(self, h_TD: Tensor, chunk: Chunk) -> tuple[Tensor, Tensor | None]:
        h_TD = h_TD + self.self_attn(self.input_layernorm(h_TD), chunk) * self.residual_scale
        y_TD, missing = self.mlp(self.post_attention_layernorm(h_TD))
        return h_TD + y_TD * self.residual_scale, missing


class CoreMLDecoder(nn.Module):
    """forward(token_ids, positions, n_past, tree_mask, kv_src) -> (logits [1, T, V], hidden [1, T, D] after the final
    norm), and with gathered experts (overflow [1] int32: how many experts the worst layer could not hold; where it is
    not 0 the results are wrong).

    gathered: how many experts of each layer (coreml_gather.py), None for all of them.
    Raises ValueError for a context shorter than one chunk.
    """

    def __init__(self, checkpoint: Checkpoint, max_context: int | None = None, gathered: list[int] | None = None) -> None:
        super().__init__()
        self.config = config = checkpoint.config
        self.max_context = config.max_position_embeddings if max_context is None else max_context
        if not MAX_TOKENS <= self.max_context <= LARGEST_CONTEXT:
            raise ValueError(f"a context of {self.max_context} tokens: choose {MAX_TOKENS} (one chunk) to {LARGEST_CONTEXT} "
                             "(Core ML counts rows in 16 bits) with --max-context")
        self.gathered, self.rows = gathered, cache_rows(self.max_context)
        self.fingerprint = fingerprint(checkpoint.tensors, config)
        self.tokenizer_fingerprint = tokenizer_fingerprint(checkpoint)
        tensors = checkpoint.tensors
        self.embed_tokens = Linear(tensors["model.embed_tokens.weight"])
        self.layers = nn.ModuleList(
            DecoderLayer(config, lambda name, i=i: tensors[f"model.layers.{i}.{name}"], self.rows,
                         None if gathered is None else gathered[i])
            for i in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(tensors["model.norm.weight"], config.rms_norm_eps)
        self.lm_head = self.embed_tokens if config.tie_word_embeddings else Linear(tensors["lm_head.weight"])
        inv_freq = rope_frequencies(config, self.max_context).double()
        angle_PR = torch.arange(self.max_context).double()[:, None] * inv_freq[None]
        self.register_buffer("cos_PR", angle_PR.cos().float())
        self.register_buffer("sin_PR", angle_PR.sin().float())

    def forward(self, token_ids: Tensor, positions: Tensor, n_past: Tensor, tree_mask: Tensor, kv_src: Tensor):
        chunk = self.chunk_type(n_past, tree_mask, kv_src, self.cos_PR.index_select(0, positions),
                      self.sin_PR.index_select(0, positions), self.rows)
        h_TD = nn.functional.embedding(token_ids[0], self.embed_tokens.weight) * self.config.scale_emb
        missing = []
        for layer in self.layers:
            h_TD, left = layer(h_TD, chunk)
            missing.append(left)
        hidden_TD = self.norm(h_TD)
        logits_TV = self.lm_head(hidden_TD * (self.config.dim_model_base / self.config.hidden_size))
        outputs = logits_TV[None], hidden_TD[None]
        return outputs if self.gathered is None else (*outputs, torch.cat(missing).amax(dim=0, keepdim=True))

    def matrices(self) -> dict[str, Tensor]:
        """What is compressed: every matrix but the routers."""
        return {name: weight for name, weight in self.named_parameters() if weight.dim() > 1 and "router" not in name}

    metadata = Decoder.metadata
    chunk_type = Chunk

    @torch.no_grad()
    def reset(self) -> None:
        """Forgets the context."""
        for name, buffer in self.named_buffers():
            if name.endswith("cache"):
                buffer.zero_()
