"""EAGLE-style draft head: one (or a few) transformer layers on top of a target's last hidden state.

    e = RMSNorm1(embed[next token] * scale_emb)       g = RMSNorm2(hidden state after the target's final norm)
    f = fc [e; g] + bias                              h = f + what the layers add to f
    draft logits = h / (hidden_size / dim_model_base) . lm_head rows token_id_remap

Row t of a sequence is made of the hidden state of token t and the embedding of token t + 1; its logits
are about token t + 2.  Drafting on, h takes the place of the hidden state that the target has not
computed yet.  A layer is the target's dense one without residual scaling; layer 0 has no input norm.
Embedding, lm_head, rms_norm_eps and RoPE settings are the target's and are not stored again.

Axes    B batch, S sequence, D hidden, V vocabulary, W draft vocabulary, R RoPE width.
Errors  ValueError names the size that is wrong; draft_files.py reads and writes heads.
Source  EAGLE, arXiv:2401.15077; FR-Spec, arXiv:2502.14856 (draft vocabulary by frequency).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.attention import GroupedAttention
from training.blockffn import DenseFFN, RMSNorm
from training.config import ModelConfig, require

SIZES = ("num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
REMAP = "token_id_remap"


@dataclass
class DraftConfig:
    """Sizes of a head; everything else is asked of `target`."""

    target: ModelConfig
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_hidden_layers: int = 1

    def __post_init__(self) -> None:
        for key in SIZES:
            value = getattr(self, key)
            require(isinstance(value, int) and not isinstance(value, bool) and value > 0,
                    f"{key}={value!r}: set it to an integer above 0")
        require(self.num_attention_heads % self.num_key_value_heads == 0,
                f"num_key_value_heads={self.num_key_value_heads}: make it a divisor of num_attention_heads="
                f"{self.num_attention_heads}")
        require(self.head_dim % 2 == 0, f"head_dim={self.head_dim}: make it even, RoPE rotates pairs")

    def __getattr__(self, name: str):
        if name in ("hidden_size", "vocab_size", "rms_norm_eps", "rope_theta", "rope_scaling", "scale_emb",
                    "dim_model_base", "max_position_embeddings"):
            return getattr(self.target, name)
        raise AttributeError(name)

    @property
    def v_head_dim(self) -> int:
        return self.head_dim

    @property
    def rope_dim(self) -> int:
        return self.head_dim

    @classmethod
    def from_dict(cls, values: dict, target: ModelConfig) -> DraftConfig:
        values = {"num_hidden_layers": 1, "head_dim": target.hidden_size // (values.get("num_attention_heads") or 1),
                  "num_key_value_heads": values.get("num_attention_heads"), **values}
        missing = [key for key in SIZES if values.get(key) is None]
        require(not missing, f"{', '.join(missing)} missing: this is not the config.json of a draft head")
        return cls(target, **{key: values[key] for key in SIZES})

    def sizes(self) -> dict[str, int]:
        return {key: getattr(self, key) for key in SIZES}

    def expected_shapes(self, draft_vocab_size: int) -> dict[str, tuple[int, ...]]:
        """Stored name -> shape of every tensor of a head."""
        D, q, kv = self.hidden_size, self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        shapes = {"fc.weight": (D, 2 * D), "fc.bias": (D,), "input_norm1.weight": (D,), "input_norm2.weight": (D,),
                  REMAP: (draft_vocab_size,)}
        for i in range(self.num_hidden_layers):
            layer = {"self_attn.q_proj": (q, D), "self_attn.k_proj": (kv, D), "self_attn.v_proj": (kv, D),
                     "self_attn.o_proj": (D, q), "post_attention_layernorm": (D,),
                     "mlp.gate_proj": (self.intermediate_size, D), "mlp.up_proj": (self.intermediate_size, D),
                     "mlp.down_proj": (D, self.intermediate_size)}
            if i:
                layer["input_layernorm"] = (D,)
            shapes |= {f"layers.{i}.{name}.weight": shape for name, shape in layer.items()}
        return shapes


# ---- the module ----

class DraftLayer(nn.Module):
    def __init__(self, config: DraftConfig, index: int):
        super().__init__()
        if index:
            self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = GroupedAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = DenseFFN(config)

    def attention_input(self, x: Tensor) -> Tensor:
        return self.input_layernorm(x) if hasattr(self, "input_layernorm") else x

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """x plus the attention's output [..., H * head_dim], then the feed-forward."""
        x = x + self.self_attn.o_proj(attended)
        return x + self.mlp(self.post_attention_layernorm(x))[0]


class DraftHead(nn.Module):
    """The trainable part; the target's embedding and lm_head rows are passed in.

    Weights are float32 masters where compute_dtype of the inputs is bfloat16.
    """

    def __init__(self, config: DraftConfig, token_id_remap: Tensor):
        super().__init__()
        D = config.hidden_size
        self.config = config
        self.input_norm1, self.input_norm2 = RMSNorm(D, config.rms_norm_eps), RMSNorm(D, config.rms_norm_eps)
        self.fc = nn.Linear(2 * D, D)
        self.layers = nn.ModuleList(DraftLayer(config, i) for i in range(config.num_hidden_layers))
        self.register_buffer(REMAP, token_id_remap.to(torch.int32))

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Fresh weights: the head starts near the identity on the hidden state, which is what it shall continue."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name == "fc.bias":
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                spread = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator)
                                * spread / parameter.shape[-1] ** 0.5)

    def combine(self, embedded: Tensor, hidden: Tensor) -> Tensor:
        """f of token embeddings [..., D], times scale_emb already, and hidden states [..., D]."""
        x = torch.cat((self.input_norm1(embedded), self.input_norm2(hidden)), dim=-1)
        return F.linear(x, self.fc.weight.to(x.dtype), self.fc.bias.to(x.dtype))

    def forward(self, embedded_BSD: Tensor, hidden_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """h [B, S, D] of whole sequences."""
        x = self.combine(embedded_BSD, hidden_BSD)
        for layer in self.layers:
            x = layer.finish(x, layer.self_attn.attend(layer.attention_input(x), rope))
        return x


def draft_embedding(token_ids: Tensor, target: nn.Module, dtype: torch.dtype) -> Tensor:
    """What the head reads of a token: the embedding that the target feeds itself, [..., D]."""
    return (F.embedding(token_ids, target.model.embed_tokens.weight) * target.config.scale_emb).to(dtype)
