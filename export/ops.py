"""The operators of an exported decoder as torch.library ops, namespace `blockffn`.

Each op has one eager body, which is the numeric truth that the kernels are tested against, and a
fake for tracing. Weights are plain floating-point tensors of any float dtype; `quant` ("fp32",
"int8", "int4") says in which precision a backend stores and multiplies them, and the eager bodies
reproduce that: weights rounded as quantize.py rounds them, activations quantized per row.

Axes   T tokens of a chunk (1..64), D hidden, E experts, F expert width, V vocabulary, N output rows,
       K input columns, H query heads, G key/value heads, C cache rows, R rotated values of a head.
Chunk  positions [T] int64, for the rotary embedding; n_past [1] int64, cache rows that every token
       sees; tree_mask [T] int64, bit j of entry i set when token j of the chunk is visible to token
       i; kv_src [64] int64, the rows of the previous chunk to keep, ascending, then -1. With m rows
       kept, row n_past - m + kv_src[i] moves to n_past - m + i before anything else happens.
       tree_rows [1] int64, where there is one: the last R of the n_past rows are nodes that earlier
       calls added to one tree; bit j of a mask then stands for row n_past - R + j, token j for bit R + j.
Source BlockFFN, arXiv:2507.08771; latent attention, arXiv:2405.04434.
"""

import math

import torch
from torch import Tensor
from torch.library import custom_op

from export.quantize import quantize_activation, quantize_weight, router_quant

MAX_TOKENS = 64
MATMUL_ELEMENTS = 1 << 22  # of a weight, multiplied at once


def _matmul(x: Tensor, weight_NK: Tensor, quant: str) -> Tensor:
    """x [..., K] times weight_NK transposed, in float32 or in the arithmetic of the quantized kernels.

    A few rows of the weight at a time, because a whole language-model head in float64 is a gigabyte.
    """
    rows = max(MATMUL_ELEMENTS // weight_NK.shape[1], 1)
    if quant == "fp32":
        return torch.cat([x.float() @ block.float().T for block in weight_NK.split(rows)], dim=-1)
    q, scale = quantize_activation(x.float())
    blocks = [q.double() @ quantize_weight(block, quant).dequantize().T for block in weight_NK.split(rows)]
    return (torch.cat(blocks, dim=-1) * scale.double()).float()


@custom_op("blockffn::embedding", mutates_args=())
def embedding(token_ids: Tensor, weight_VD: Tensor, scale: float, quant: str) -> Tensor:
    """Rows of the table: token_ids [1, T] int64 -> [T, D]."""
    rows_TD = weight_VD[token_ids[0]].float()
    if quant != "fp32":
        rows_TD = quantize_weight(rows_TD, quant).dequantize()
    return (rows_TD * scale).float()


@embedding.register_fake
def _(token_ids, weight_VD, scale, quant):
    return weight_VD.new_empty((token_ids.shape[1], weight_VD.shape[1]), dtype=torch.float32)


@custom_op("blockffn::rms_norm", mutates_args=())
def rms_norm(x_TK: Tensor, weight_K: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, in float32."""
    return x_TK * torch.rsqrt(x_TK.square().mean(dim=-1, keepdim=True) + eps) * weight_K.float()


@rms_norm.register_fake
def _(x_TK, weight_K, eps):
    return torch.empty_like(x_TK)


@custom_op("blockffn::final_norm", mutates_args=())
def final_norm(x_TK: Tensor, weight_K: Tensor, eps: float) -> Tensor:
    """rms_norm -> [1, T, K]: with the batch dimension that a program's outputs carry."""
    return rms_norm(x_TK, weight_K, eps)[None]


@final_norm.register_fake
def _(x_TK, weight_K, eps):
    return x_TK.new_empty((1, *x_TK.shape))


@custom_op("blockffn::hidden_norm", mutates_args=())
def hidden_norm(x_1TK: Tensor, weight_K: Tensor, eps: float) -> Tensor:
    """rms_norm of a program's input [1, T, K] -> [T, K]."""
    return rms_norm(x_1TK[0], weight_K, eps)


@hidden_norm.register_fake
def _(x_1TK, weight_K, eps):
    return x_1TK.new_empty(x_1TK.shape[1:])


@custom_op("blockffn::linear", mutates_args=())
def linear(x_TK: Tensor, weight_NK: Tensor, bias_N: Tensor | None, scale: float, quant: str) -> Tensor:
    """scale * (x weight^T) + bias -> [T, N]."""
    y_TN = _matmul(x_TK, weight_NK, quant) * scale
    return y_TN if bias_N is None else y_TN + bias_N.float()


@linear.register_fake
def _(x_TK, weight_NK, bias_N, scale, quant):
    return x_TK.new_empty((x_TK.shape[0], weight_NK.shape[0]))


@custom_op("blockffn::logits", mutates_args=())
def logits(x_TD: Tensor, weight_VD: Tensor, logits_start: Tensor, scale: float, quant: str) -> Tensor:
    """The language-model head: x [T, D] or [1, T, D] -> [1, T, V]. Tokens before logits_start [1] are skipped
    and give zeros."""
    y_TV = _matmul(x_TD.view(-1, x_TD.shape[-1]), weight_VD, quant) * scale
    y_TV[: int(logits_start)] = 0
    return y_TV[None]


@logits.register_fake
def _(x_TD, weight_VD, logits_start, scale, quant):
    return x_TD.new_empty((1, x_TD.shape[-2], weight_VD.shape[0]))


@custom_op("blockffn::silu_mul", mutates_args=())
def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    return torch.nn.functional.silu(gate) * up


@silu_mul.register_fake
def _(gate, up):
    return torch.empty_like(gate)


@custom_op("blockffn::add", mutates_args=())
def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b, equal shapes."""
    return a + b


@add.register_fake
def _(a, b):
    return torch.empty_like(a)


@custom_op("blockffn::final_add", mutates_args=())
def final_add(a_TK: Tensor, b_TK: Tensor) -> Tensor:
    """a + b -> [1, T, K]: with the batch dimension that a program's outputs carry."""
    return (a_TK + b_TK)[None]


@final_add.register_fake
def _(a_TK, b_TK):
    return a_TK.new_empty((1, *a_TK.shape))


@custom_op("blockffn::chunk_sparse_ffn", mutates_args=())
def chunk_sparse_ffn(
    x_TD: Tensor,
    router_ED: Tensor,
    router_norm_E: Tensor,
    up_EFD: Tensor,
    down_EDF: Tensor,
    norm: str,
    eps: float,
    norm_scale: float,
    out_scale: float,
    quant: str,
) -> Tensor:
    """out_scale * sum_e A_e(x) down_e silu(up_e x) -> [T, D], equation 1 of the paper.

    A = norm(relu(router x)). norm "rms": RMSNorm over the E scores with weight router_norm_E, which
    may be negative; "sum": scores / (sum * norm_scale + 1e-5); "none". An expert is active for a
    token where its score after ReLU is not zero.
    """
    scores_TE = torch.relu(_matmul(x_TD, router_ED, router_quant(quant)))
    if norm == "rms":
        a_TE = scores_TE * torch.rsqrt(scores_TE.square().mean(dim=-1, keepdim=True) + eps) * router_norm_E.float()
    elif norm == "sum":
        a_TE = scores_TE / (scores_TE.sum(dim=-1, keepdim=True) * norm_scale + 1e-5)
    elif norm == "none":
        a_TE = scores_TE
    else:
        raise ValueError(f"unknown router norm {norm!r}; choose rms, sum or none")
    y_TD = torch.zeros_like(x_TD)
    for e in scores_TE.any(dim=0).nonzero().flatten().tolist():
        tokens = scores_TE[:, e].nonzero().flatten()
        hidden = torch.nn.functional.silu(_matmul(x_TD[tokens], up_EFD[e], quant))
        y_TD[tokens] += a_TE[tokens, e, None] * out_scale * _matmul(hidden, down_EDF[e], quant)
    return y_TD


@chunk_sparse_ffn.register_fake
def _(x_TD, router_ED, router_norm_E, up_EFD, down_EDF, norm, eps, norm_scale, out_scale, quant):
    return torch.empty_like(x_TD)


def rotate(x: Tensor, positions: Tensor, inv_freq: Tensor) -> Tensor:
    """Rotary embedding, rotate-half, in float32. x [T, heads, R], positions [T], inv_freq [R/2]."""
    angle_TR = positions.float()[:, None] * inv_freq.float()[None]
    cos, sin = angle_TR.cos()[:, None], angle_TR.sin()[:, None]
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


def _stored(rows_TX: Tensor, widths: list[int], kv_quant: str) -> Tensor:
    """Rows as a cache holds them: "int8" rounds every part of a row, of these widths, with a scale of its own."""
    if kv_quant == "fp32":
        return rows_TX
    parts = [quantize_activation(part) for part in rows_TX.split(widths, dim=1)]
    return torch.cat([q * scale for q, scale in parts], dim=1)


def _updated(cache_CX: Tensor, rows_TX: Tensor, n_past: Tensor, kv_src: Tensor) -> Tensor:
    """The cache after compaction of the previous chunk and with the new rows."""
    cache_CX, past, tokens = cache_CX.clone(), int(n_past), rows_TX.shape[0]
    kept = kv_src[kv_src >= 0]
    base = past - len(kept)
    cache_CX[base:past] = cache_CX[base + kept]
    if past + tokens > cache_CX.shape[0]:
        raise ValueError(f"the context is full: n_past {past} plus {tokens} tokens exceeds {cache_CX.shape[0]}")
    cache_CX[past : past + tokens] = rows_TX
    return cache_CX


def _attend(q_THK: Tensor, k_CGK: Tensor, v_CGV: Tensor, n_past: Tensor, tree_mask: Tensor, scale: float,
            tree_rows: Tensor | None = None) -> Tensor:
    """Softmax attention over the past and the visible nodes of the tree -> [T, H, V]."""
    tokens, heads, earlier = q_THK.shape[0], q_THK.shape[1], 0 if tree_rows is None else int(tree_rows)
    rows, past = int(n_past) + tokens, int(n_past) - earlier
    repeat = heads // k_CGK.shape[1]
    k = k_CGK[:rows].repeat_interleave(repeat, dim=1)
    v = v_CGV[:rows].repeat_interleave(repeat, dim=1)
    visible_TN = (tree_mask[:, None] >> torch.arange(earlier + tokens)[None]) & 1
    blocked_TC = torch.cat([torch.zeros(tokens, past, dtype=torch.bool), visible_TN == 0], dim=1)
    scores_HTC = torch.einsum("thk,chk->htc", q_THK, k) * scale
    weights_HTC = scores_HTC.masked_fill(blocked_TC[None], -math.inf).softmax(dim=-1)
    return torch.einsum("htc,chv->thv", weights_HTC, v)


def _per_head(x_THK: Tensor, weight_HNK: Tensor, quant: str) -> Tensor:
    """Every head's own matrix: [T, H, K] -> [T, H, N]."""
    return torch.stack([_matmul(x_THK[:, h], weight_HNK[h], quant) for h in range(weight_HNK.shape[0])], dim=1)


def split_kv_b(kv_b_proj: Tensor, heads: int, nope: int) -> tuple[Tensor, Tensor]:
    """kv_b_proj [H * (nope + v), latent] -> what is absorbed into the query [H, latent, nope], and what
    turns attended latents into values [H, v, latent]."""
    per_head = kv_b_proj.view(heads, -1, kv_b_proj.shape[1])
    return per_head[:, :nope].transpose(1, 2), per_head[:, nope:]


@custom_op("blockffn::mla_attention", mutates_args=())
def mla_attention(
    q: Tensor,
    kv: Tensor,
    kv_norm: Tensor,
    kv_b_proj: Tensor,
    inv_freq: Tensor,
    cache: Tensor,
    positions: Tensor,
    n_past: Tensor,
    tree_mask: Tensor,
    kv_src: Tensor,
    heads: int,
    nope: int,
    eps: float,
    quant: str,
    kv_quant: str = "fp32",
) -> tuple[Tensor, Tensor]:
    """Multi-head latent attention over a cache of latents, kv_b_proj absorbed; the cache holds what kv_quant leaves.

    q [T, H * (nope + R)], kv [T, latent + R], kv_b_proj [H * (nope + v), latent], cache
    [C, latent + R] -> (y [T, H * v], the updated cache).
    """
    tokens, rope = q.shape[0], 2 * inv_freq.shape[0]
    latent = kv.shape[1] - rope
    normed = rms_norm(kv[:, :latent].contiguous(), kv_norm, eps)
    rotated = rotate(kv[:, None, latent:], positions, inv_freq)[:, 0]
    rows = _stored(torch.cat([normed, rotated], dim=1), [latent, rope], kv_quant)
    cache = _updated(cache, rows, n_past, kv_src)
    absorb, expand = split_kv_b(kv_b_proj, heads, nope)
    q = q.view(tokens, heads, nope + rope)
    query = torch.cat([_per_head(q[..., :nope], absorb, quant), rotate(q[..., nope:], positions, inv_freq)], dim=-1)
    context = _attend(query, cache[:, None], cache[:, None, :latent], n_past, tree_mask, (nope + rope) ** -0.5)
    return _per_head(context, expand, quant).flatten(1), cache


@mla_attention.register_fake
def _(q, kv, kv_norm, kv_b_proj, inv_freq, cache, positions, n_past, tree_mask, kv_src, heads, nope, eps, quant,
      kv_quant="fp32"):
    return q.new_empty((q.shape[0], kv_b_proj.shape[0] - heads * nope)), torch.empty_like(cache)


@custom_op("blockffn::gqa_attention", mutates_args=())
def gqa_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inv_freq: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    positions: Tensor,
    n_past: Tensor,
    tree_mask: Tensor,
    kv_src: Tensor,
    heads: int,
    kv_heads: int,
    tree_rows: Tensor | None = None,
    kv_quant: str = "fp32",
) -> tuple[Tensor, Tensor, Tensor]:
    """Multi-head or grouped-query attention; the caches hold what kv_quant leaves.

    q [T, H * R], k and v [T, G * R], caches [C, G * R] -> (y [T, H * R], the updated caches).
    """
    tokens, dim = q.shape[0], 2 * inv_freq.shape[0]
    rotated = rotate(k.view(tokens, kv_heads, dim), positions, inv_freq).flatten(1)
    widths = [dim] * kv_heads
    key_cache = _updated(key_cache, _stored(rotated, widths, kv_quant), n_past, kv_src)
    value_cache = _updated(value_cache, _stored(v, widths, kv_quant), n_past, kv_src)
    query = rotate(q.view(tokens, heads, dim), positions, inv_freq)
    split = (-1, kv_heads, dim)
    y = _attend(query, key_cache.view(split), value_cache.view(split), n_past, tree_mask, dim**-0.5, tree_rows)
    return y.flatten(1), key_cache, value_cache


@gqa_attention.register_fake
def _(q, k, v, inv_freq, key_cache, value_cache, positions, n_past, tree_mask, kv_src, heads, kv_heads,
      tree_rows=None, kv_quant="fp32"):
    return torch.empty_like(q), torch.empty_like(key_cache), torch.empty_like(value_cache)
