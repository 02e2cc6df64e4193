"""The language model: BlockFFN decoder or its dense twin, with the published scaling and names.

    h = embed[ids] * scale_emb
    h = h + attention(norm(h)) * scale_depth / sqrt(L)
    h = h + ffn(norm(h)) * scale_depth / sqrt(L)           for each of the L layers
    logits = head(norm(h) / (hidden_size / dim_model_base))

`state_dict()` has the tensor names of a published checkpoint, in the layout of `config.ffn_type`.
Weights may be float32 masters while `compute_dtype` is bfloat16: every matrix is cast where it is
used, the router and the norms compute in float32.

Initial values   embeddings N(0, r) with r = initializer_range; a matrix with n inputs
N(0, r * sqrt(dim_model_base / n)), which is MiniCPM's rule for n = hidden_size; the router
N(0, 0.5 / sqrt(hidden_size)), so that raw scores start near 0.5 and can change their sign early.

Axes    B batch, S sequence, D hidden, E experts, V vocabulary, L layers.
Source  MiniCPM, arXiv:2404.06395 (scaling); BlockFFN, arXiv:2507.08771; the published checkpoints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from training.attention import GroupedAttention, LatentAttention, rope_tables
from training.blockffn import BlockFFN, DenseFFN, RMSNorm
from training.config import ModelConfig

ROUTER_GAIN = 0.5  # spread of the raw router scores of a fresh model


class Output(NamedTuple):
    """hidden_BSD follows the final norm and precedes the head; one score tensor [B, S, E] per
    layer, float32, or None for a dense layer.  raw: before ReLU.  scores: normalised."""

    hidden: Tensor
    raw_scores: list[Tensor | None]
    scores: list[Tensor | None]


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        attention = LatentAttention if config.attention_type == "mla" else GroupedAttention
        self.residual_scale = config.scale_depth / math.sqrt(config.num_hidden_layers)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = BlockFFN(config) if config.is_block_ffn else DenseFFN(config)

    def attention_input(self, h_BSD: Tensor) -> Tensor:
        return self.input_layernorm(h_BSD)

    def finish(self, h_BSD: Tensor, attended: Tensor) -> Tensor:
        """h plus the attention's output [B, S, H * V] before o_proj, then the feed-forward."""
        h_BSD = h_BSD + self.self_attn.o_proj(attended) * self.residual_scale
        return h_BSD + self.mlp(self.post_attention_layernorm(h_BSD))[0] * self.residual_scale

    def forward(self, h_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        h_BSD = h_BSD + self.self_attn(self.input_layernorm(h_BSD), rope) * self.residual_scale
        y_BSD, raw_BSE, scores_BSE = self.mlp(self.post_attention_layernorm(h_BSD))
        return h_BSD + y_BSD * self.residual_scale, raw_BSE, scores_BSE


class Decoder(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class CausalLM(nn.Module):
    """forward(ids_BS) -> Output.  Weights are uninitialised until `init_weights` or a load."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.compute_dtype: torch.dtype | None = None  # None: that of the weights
        self.activation_checkpointing = False
        self.model = Decoder(config)
        self.lm_head = None if config.tie_word_embeddings else nn.Linear(
            config.hidden_size, config.vocab_size, bias=False)

    @property
    def head_weight(self) -> Tensor:
        """[V, D]: the embedding itself when tied."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fill every parameter from `seed` alone, the same on any device and number of processes."""
        generator = torch.Generator().manual_seed(seed)
        spread, base = self.config.initializer_range, self.config.dim_model_base
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:  # norms
                parameter.fill_(1.0)
                continue
            inputs = parameter.shape[-1]
            if name.endswith("mlp.down_proj"):  # [D, E*F] or [E, D, F]: the inputs of all experts add up
                inputs = self.config.num_experts * self.config.expert_size
            std = spread * math.sqrt(base / inputs)
            if name.endswith(("embed_tokens.weight", "lm_head.weight")):
                std = spread
            elif name.endswith("router_proj.weight"):
                std = ROUTER_GAIN / math.sqrt(inputs)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)

    @torch.no_grad()
    def load_weights(self, checkpoint) -> None:
        """Overwrite every parameter with that of an opened checkpoint, whichever layout its experts have.

        ValueError names a tensor that is missing or does not fit.
        """
        for name, parameter in self.named_parameters():
            if name not in checkpoint.tensors:
                raise ValueError(f"{checkpoint.path}: has no {name}, which the model section asks for; leave that section out to "
                                 "take the checkpoint's own config.json")
            parameter.copy_(fit_layout(checkpoint.tensors[name], parameter.shape, name))

    def forward(self, ids_BS: Tensor, rope: tuple[Tensor, Tensor] | None = None) -> Output:
        rope = rope_tables(self.config, ids_BS.shape[1], ids_BS.device) if rope is None else rope
        h_BSD = F.embedding(ids_BS, self.model.embed_tokens.weight) * self.config.scale_emb
        h_BSD = h_BSD.to(self.compute_dtype or h_BSD.dtype)
        raw_scores, scores = [], []
        for layer in self.model.layers:
            if self.activation_checkpointing and torch.is_grad_enabled():
                h_BSD, raw_BSE, scores_BSE = recompute(layer, h_BSD, rope, use_reentrant=False)
            else:
                h_BSD, raw_BSE, scores_BSE = layer(h_BSD, rope)
            raw_scores.append(raw_BSE)
            scores.append(scores_BSE)
        return Output(self.model.norm(h_BSD), raw_scores, scores)

    def head_input(self, hidden: Tensor) -> Tensor:
        """What the head multiplies: hidden / (hidden_size / dim_model_base)."""
        return hidden * (self.config.dim_model_base / self.config.hidden_size)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] after the final norm -> [..., V]."""
        return F.linear(self.head_input(hidden), self.head_weight.to(hidden.dtype))

    @classmethod
    def from_checkpoint(cls, checkpoint, device: str | torch.device = "cpu",
                        dtype: torch.dtype = torch.float32) -> CausalLM:
        """Weights of an opened checkpoint (`training.checkpoint.open_checkpoint`)."""
        with torch.device("meta"):
            model = cls(checkpoint.config)
        state = {name: fit_layout(checkpoint.tensors[name], parameter.shape, name).to(device=device, dtype=dtype)
                 for name, parameter in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
        return model.requires_grad_(False).eval()


def fit_layout(tensor: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Expert weights as [E, F, D] / [E, D, F] or stacked as [E*F, D] / [D, E*F], whichever `shape` asks for."""
    if tensor.shape == shape:
        return tensor
    down = name.endswith("down_proj")
    if tensor.dim() == 3 and len(shape) == 2:
        tensor = tensor.transpose(0, 1).flatten(1) if down else tensor.flatten(0, 1)
    elif tensor.dim() == 2 and len(shape) == 3:
        E, rows, columns = shape
        tensor = tensor.unflatten(1, (E, columns)).transpose(0, 1) if down else tensor.unflatten(0, (E, rows))
    if tensor.shape != shape:
        raise ValueError(f"{name}: shape {list(tensor.shape)} does not fit {list(shape)}; is config.json its own?")
    return tensor
