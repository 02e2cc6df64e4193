"""Many texts written at once by a model, one token a step over a key/value cache.

Axes    B texts, T tokens of a step, C cache rows, H heads, D hidden, V vocabulary.
Errors  ValueError where the context of the model is too short.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.attention import rope_tables
from training.config import require
from training.model import CausalLM


class CachedModel:
    """`step` appends tokens to every text; all texts have the same length."""

    def __init__(self, model: CausalLM, batch: int, capacity: int):
        config = model.config
        self.model, self.capacity, self.n_past = model, capacity, 0
        self.device = model.head_weight.device
        self.dtype = model.compute_dtype or model.head_weight.dtype
        require(capacity <= config.max_position_embeddings,
                f"{capacity} tokens do not fit into the model's context of {config.max_position_embeddings}; "
                "ask for shorter texts")
        self.rope = rope_tables(config, capacity, self.device)
        heads = config.num_attention_heads
        self.keys, self.values = ([torch.zeros(batch, heads, capacity, width, device=self.device, dtype=self.dtype)
                                   for _ in model.model.layers]
                                  for width in (config.qk_head_dim, config.v_head_dim))

    @torch.no_grad()
    def step(self, ids_BT: Tensor) -> Tensor:
        """Hidden states [B, T, D] after the final norm. T > 1 only for the first tokens."""
        start, stop = self.n_past, self.n_past + ids_BT.shape[1]
        assert start == 0 or stop == start + 1
        model, rope = self.model, tuple(table[start:stop] for table in self.rope)
        h = (F.embedding(ids_BT, model.model.embed_tokens.weight) * model.config.scale_emb).to(self.dtype)
        for layer, keys, values in zip(model.model.layers, self.keys, self.values):
            q, k, v = (x.transpose(1, 2) for x in layer.self_attn.qkv(layer.attention_input(h), rope))
            keys[:, :, start:stop], values[:, :, start:stop] = k, v
            out = F.scaled_dot_product_attention(q, keys[:, :, :stop], values[:, :, :stop], is_causal=start == 0)
            h = layer.finish(h, out.transpose(1, 2).flatten(2))
        self.n_past = stop
        return model.model.norm(h)


@torch.no_grad()
def generate(model: CausalLM, prompts_BP: Tensor, new_tokens: int, temperature_B: Tensor | None = None,
             generator: torch.Generator | None = None, on_token=None,
             keep_hidden: bool = True) -> tuple[Tensor, Tensor | None]:
    """(ids [B, P + new_tokens], hidden [B, P + new_tokens - 1, D]) of continuations; an end token does not stop one.

    Greedy where temperature_B is None or 0. on_token(B) is called after each token.
    """
    batch, prompt = prompts_BP.shape
    cached = CachedModel(model, batch, prompt + new_tokens)
    ids, hidden, last = [prompts_BP], [], prompts_BP
    for _ in range(new_tokens):
        state = cached.step(last)
        if keep_hidden:
            hidden.append(state)
        logits_BV = model.logits(state[:, -1]).float()
        last = logits_BV.argmax(-1, keepdim=True)
        if temperature_B is not None:
            scaled = (logits_BV / temperature_B.clamp_min(1e-3)[:, None]).softmax(-1)
            drawn = torch.multinomial(scaled, 1, generator=generator)
            last = torch.where(temperature_B[:, None] > 0, drawn, last)
        ids.append(last)
        if on_token is not None:
            on_token(batch)
    return torch.cat(ids, dim=1), torch.cat(hidden, dim=1) if keep_hidden else None
