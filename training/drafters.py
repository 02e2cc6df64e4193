"""What drafts in an acceptance measurement: a head, or a language model with the target's tokenizer.

Committed rows depend on the text alone, not on how it was drafted, so their keys and values are computed once
for whole texts; candidates then attend to the rows before them and to their ancestors.

Axes    B texts, S tokens, M trees (a text and a place in it), N candidates of a level, A rows of a tree so far,
        H heads, R head width, D hidden, W draft vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.attention import causal_attention, rope_tables
from training.draft import DraftHead, draft_embedding
from training.model import CausalLM


class Drafter:
    """Rows of one or more layers over committed text; subclasses say what a row is made of.

    token_ids [W] int64: which tokens the logits are about.   lag: the last committed row, counted from the text's end.
    """

    lag: int
    token_ids: Tensor

    def __init__(self, layers, config, capacity: int, device: torch.device):
        self.layers = list(layers)
        self.rope = rope_tables(config, capacity, device)

    def logits(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def row(self, tokens: Tensor, states: Tensor | None) -> Tensor:
        """Input of the layers for tokens [...] and the states [..., D] of the rows before."""
        raise NotImplementedError

    def read(self, ids_BS: Tensor, hidden_BSD: Tensor) -> None:
        """Take in whole texts and the target's hidden states of all tokens but the last."""
        x = self.committed(ids_BS, hidden_BSD)
        rope = tuple(table[:x.shape[1]] for table in self.rope)
        self.keys, self.values = [], []
        for layer in self.layers:
            q, k, v = layer.self_attn.qkv(layer.attention_input(x), rope)
            self.keys.append(k)
            self.values.append(v)
            x = layer.finish(x, causal_attention(q, k, v, False).flatten(2))
        self.states = x  # [B, rows, D]

    def committed(self, ids_BS: Tensor, hidden_BSD: Tensor) -> Tensor:
        raise NotImplementedError

    def start(self, text_M: Tensor, length_M: Tensor) -> Tree:
        """Trees at the ends of the first length_M tokens of texts text_M."""
        return Tree(self, text_M, length_M - self.lag)


class Tree:
    """Rows of M trees that grow level by level behind the committed rows 0..root_M."""

    def __init__(self, drafter: Drafter, text_M: Tensor, root_M: Tensor):
        self.drafter, self.text, self.root = drafter, text_M, root_M
        self.root_states = drafter.states[text_M, root_M]
        rows = int(root_M.max()) + 1
        self.past_keys = [k[text_M, :rows] for k in drafter.keys]
        self.past_values = [v[text_M, :rows] for v in drafter.values]
        self.unseen = torch.arange(rows, device=root_M.device)[None] > root_M[:, None]  # [M, rows]
        self.keys: list[list[Tensor]] = [[] for _ in drafter.layers]
        self.values: list[list[Tensor]] = [[] for _ in drafter.layers]

    def root_log_p(self) -> Tensor:
        """[M, W] log-probabilities of the first drafted token."""
        return self.drafter.logits(self.root_states).float().log_softmax(-1)

    def grow(self, tokens_MN: Tensor, states_MND: Tensor, sees_MNA: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """(log-probabilities [M, N, W], states [M, N, D]) of a level of candidates.

        sees_MNA says which of all rows of the tree, this level's included, each candidate attends to; depth is 1 for
        the first level.
        """
        drafter = self.drafter
        x = drafter.row(tokens_MN, states_MND)
        position_M1 = (self.root + depth)[:, None].expand(-1, tokens_MN.shape[1])
        rope = tuple(table[position_M1] for table in drafter.rope)
        blocked = torch.cat([self.unseen[:, None].expand(-1, tokens_MN.shape[1], -1), ~sees_MNA], dim=-1)
        for index, layer in enumerate(drafter.layers):
            q, k, v = layer.self_attn.qkv(layer.attention_input(x), rope)
            self.keys[index].append(k)
            self.values[index].append(v)
            keys = torch.cat([self.past_keys[index], *self.keys[index]], dim=1).transpose(1, 2)
            values = torch.cat([self.past_values[index], *self.values[index]], dim=1).transpose(1, 2)
            out = F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=~blocked[:, None])
            x = layer.finish(x, out.transpose(1, 2).flatten(2))
        return drafter.logits(x).float().log_softmax(-1), x


class HeadDrafter(Drafter):
    """A draft head: row t is made of token t + 1 and of the state of token t."""

    lag = 2

    def __init__(self, head: DraftHead, target: CausalLM, capacity: int):
        super().__init__(head.layers, head.config, capacity, target.head_weight.device)
        self.head, self.target = head, target
        self.token_ids = head.token_id_remap.long()
        self.lm_rows = target.head_weight[self.token_ids]
        self.dtype = head.fc.weight.dtype

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(self.target.head_input(x), self.lm_rows.to(x.dtype))

    def row(self, tokens: Tensor, states: Tensor) -> Tensor:
        return self.head.combine(draft_embedding(tokens, self.target, self.dtype), states)

    def committed(self, ids_BS: Tensor, hidden_BSD: Tensor) -> Tensor:
        return self.row(ids_BS[:, 1:hidden_BSD.shape[1] + 1], hidden_BSD.to(self.dtype))


class ModelDrafter(Drafter):
    """A language model: row t is made of token t."""

    lag = 1

    def __init__(self, model: CausalLM, capacity: int):
        super().__init__(model.model.layers, model.config, capacity, model.head_weight.device)
        self.model = model
        self.token_ids = torch.arange(model.config.vocab_size, device=model.head_weight.device)

    def logits(self, x: Tensor) -> Tensor:
        return self.model.logits(self.model.model.norm(x))

    def row(self, tokens: Tensor, states: Tensor | None) -> Tensor:
        return draft_embedding(tokens, self.model, self.model.compute_dtype or self.model.head_weight.dtype)

    def committed(self, ids_BS: Tensor, hidden_BSD: Tensor) -> Tensor:
        return self.row(ids_BS, None)
