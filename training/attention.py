"""Causal self-attention (MLA and MHA/GQA), RoPE, and the choice of the fused kernel.

MLA: queries and keys have qk_nope + qk_rope channels, values hidden/heads.  PyTorch's flash kernel
wants equal widths, so values are then padded with zeros (exact, the pad is cut off again); cuDNN
takes 192/128 as it is.  `choose_backend` times what this device offers and keeps the fastest.

Axes    B batch, S sequence, H heads, D hidden, K query/key width, V value width, R RoPE width.
Source  DeepSeek-V2, arXiv:2405.04434 (MLA); RoFormer, arXiv:2104.09864 (RoPE, rotate-half form);
        published BlockFFN checkpoints (weight layout, rope_scaling).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.blockffn import Linear, RMSNorm
from training.config import ModelConfig

MLA_NORM_EPS = 1e-6  # of the two inner norms, as published: not rms_norm_eps
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}


def rope_tables(config: ModelConfig, seq_len: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin [S, R] in float32 for positions 0..seq_len-1, with linear or dynamic scaling."""
    width, base, scaling = config.rope_dim, config.rope_theta, config.rope_scaling or {}
    kind, factor = scaling.get("type", scaling.get("rope_type")), scaling.get("factor", 1.0)
    position_S = torch.arange(seq_len, dtype=torch.float32, device=device)
    if kind == "linear":
        position_S = position_S / factor
    elif kind == "dynamic" and seq_len > config.max_position_embeddings:
        growth = factor * seq_len / config.max_position_embeddings - (factor - 1)
        base = base * growth ** (width / (width - 2))
    exponent = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    angle_SR = torch.outer(position_S, base**-exponent).repeat(1, 2)
    return angle_SR.cos(), angle_SR.sin()


def apply_rope(x_BSHR: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate channel i with channel i + R/2 (rotate-half), in float32. Tables are [S, R], or [B, S, R]."""
    cos_SR, sin_SR = rope
    x = x_BSHR.float()
    low, high = x.chunk(2, dim=-1)
    turned = torch.cat((-high, low), dim=-1)
    return (x * cos_SR.unsqueeze(-2) + turned * sin_SR.unsqueeze(-2)).to(x_BSHR.dtype)


def causal_attention(q_BSHK: Tensor, k_BSHK: Tensor, v_BSHV: Tensor, pad_values: bool) -> Tensor:
    """softmax(q k^T / sqrt(K) + causal mask) v -> [B, S, H, V]."""
    width = v_BSHV.shape[-1]
    if pad_values and width < q_BSHK.shape[-1]:
        v_BSHV = F.pad(v_BSHV, (0, q_BSHK.shape[-1] - width))
    out = F.scaled_dot_product_attention(
        q_BSHK.transpose(1, 2), k_BSHK.transpose(1, 2), v_BSHV.transpose(1, 2), is_causal=True)
    return out.transpose(1, 2)[..., :width]


class LatentAttention(nn.Module):
    """MLA: low-rank queries, one shared latent for keys and values, one shared RoPE key."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, H = config.hidden_size, config.num_attention_heads
        self.heads, self.v_dim = H, config.v_head_dim
        self.nope, self.rope_dim = config.qk_nope_head_dim, config.qk_rope_head_dim
        self.kv_rank = config.kv_lora_rank
        self.pad_values = False
        self.q_a_proj = Linear(D, config.q_lora_rank)
        self.q_a_layernorm = RMSNorm(config.q_lora_rank, MLA_NORM_EPS)
        self.q_b_proj = Linear(config.q_lora_rank, H * config.qk_head_dim)
        self.kv_a_proj_with_mqa = Linear(D, self.kv_rank + self.rope_dim)
        self.kv_a_layernorm = RMSNorm(self.kv_rank, MLA_NORM_EPS)
        self.kv_b_proj = Linear(self.kv_rank, H * (self.nope + self.v_dim))
        self.o_proj = Linear(H * self.v_dim, D)

    def qkv(self, x_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys [B, S, H, K] and values [B, S, H, V]."""
        q_BSHK = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_BSD))).unflatten(-1, (self.heads, -1))
        q_nope, q_rope = q_BSHK.split((self.nope, self.rope_dim), dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x_BSD).split((self.kv_rank, self.rope_dim), dim=-1)
        kv_BSHN = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (self.heads, -1))
        k_nope, v_BSHV = kv_BSHN.split((self.nope, self.v_dim), dim=-1)
        k_rope = apply_rope(k_rope.unsqueeze(2), rope).expand(-1, -1, self.heads, -1)
        return torch.cat((q_nope, apply_rope(q_rope, rope)), dim=-1), torch.cat((k_nope, k_rope), dim=-1), v_BSHV

    def forward(self, x_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        return self.o_proj(causal_attention(*self.qkv(x_BSD, rope), self.pad_values).flatten(2))


class GroupedAttention(nn.Module):
    """MHA, or GQA when num_key_value_heads < num_attention_heads."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, width = config.hidden_size, config.v_head_dim
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.pad_values = False
        self.q_proj = Linear(D, self.heads * width)
        self.k_proj = Linear(D, self.kv_heads * width)
        self.v_proj = Linear(D, self.kv_heads * width)
        self.o_proj = Linear(self.heads * width, D)

    def qkv(self, x_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys and values, [B, S, H, K] all: those of a group are repeated."""
        q = apply_rope(self.q_proj(x_BSD).unflatten(-1, (self.heads, -1)), rope)
        k = apply_rope(self.k_proj(x_BSD).unflatten(-1, (self.kv_heads, -1)), rope)
        v = self.v_proj(x_BSD).unflatten(-1, (self.kv_heads, -1))
        group = self.heads // self.kv_heads
        if group > 1:
            k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
        return q, k, v

    def attend(self, x_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """What o_proj multiplies, [B, S, H * K]."""
        return causal_attention(*self.qkv(x_BSD, rope), self.pad_values).flatten(2)

    def forward(self, x_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        return self.o_proj(self.attend(x_BSD, rope))


def _time_backend_ms(name: str, pad: bool, config: ModelConfig, batch: int, seq_len: int, dtype: torch.dtype) -> float:
    """Forward + backward time of one attention call; RuntimeError when the kernel refuses the shape."""
    shape = (batch, seq_len, config.num_attention_heads)
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (torch.randn(*shape, width, device="cuda", dtype=dtype, generator=generator).requires_grad_()
               for width in (config.qk_head_dim, config.qk_head_dim, config.v_head_dim))
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with sdpa_kernel(BACKENDS[name]):
        for repeat in range(8):
            if repeat == 3:
                start.record()
            causal_attention(q, k, v, pad).sum().backward()
    stop.record()
    stop.synchronize()
    if not torch.isfinite(q.grad).all():
        raise RuntimeError("non-finite gradient")
    return start.elapsed_time(stop) / 5


def choose_backend(requested: str, config: ModelConfig, batch: int, seq_len: int,
                   dtype: torch.dtype) -> tuple[str, bool]:
    """(backend, pad values) on CUDA: the requested kernel, or for "auto" the fastest that runs.

    ValueError when the requested kernel cannot run these head widths on this device.
    """
    names = ["cudnn", "flash", "efficient", "math"] if requested == "auto" else [requested]
    pads = [False] if config.qk_head_dim <= config.v_head_dim else [False, True]
    timed, refusals = {}, []
    for name in names:
        if name == "math" and timed:
            continue  # the last resort: it stores the whole attention matrix
        for pad in pads:
            try:
                timed[name, pad] = _time_backend_ms(name, pad, config, min(batch, 16), seq_len, dtype)
            except RuntimeError as error:
                refusals.append(f"{name}: {str(error).splitlines()[0]}")
    if not timed:
        raise ValueError(f"attention_backend={requested}: no kernel runs here ({'; '.join(refusals)}); use auto")
    return min(timed, key=timed.get)


def use_backend(name: str) -> None:
    """Allow one fused kernel only, in this process (torch.compile then sees no other)."""
    torch.backends.cuda.enable_cudnn_sdp(name == "cudnn")
    torch.backends.cuda.enable_flash_sdp(name == "flash")
    torch.backends.cuda.enable_mem_efficient_sdp(name == "efficient")
    torch.backends.cuda.enable_math_sdp(name == "math")
