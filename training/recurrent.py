"""Recurrent draft head: a small state instead of a transformer layer, and few tokens to choose from.

    s_0 = hidden_in . RMSNorm(hidden state of token t)
    s_k = s_(k-1) + cell_out (silu(g) * u)        [g; u] = cell_in . unit(s_(k-1)) + token_in . unit(embedding of token t + k)
    score of y about token t + k + 1 = unit(s_k) . (token_out unit(lm_head row of y)) / sqrt(R)

over the *successors* of token t + k: tokens that often follow it, and "none of them", whose row `none` is learned.
unit(x) = x / sqrt(mean x^2 + 1e-6). Tokens take part by what they add to a layer, so that one row of a table each is all that
drafting reads of them: a drafted token costs cell_in, cell_out and a row for each successor. There are no keys and values,
so nothing is computed for tokens that nobody drafts from. It belongs beside small targets, of which a transformer layer would
be a large part.

Axes    B batch, S sequence, D hidden, V vocabulary, R state, M inner, C successors of a token, N pairs of all tokens.
Errors  ValueError names the size that is wrong; recurrent_files.py reads and writes heads.
Source  a recurrent state on the target's hidden state: ReDrafter, arXiv:2403.09919; a draft vocabulary by frequency: FR-Spec,
        arXiv:2502.14856, here one for every token before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.blockffn import RMSNorm
from training.config import ModelConfig, require

RECURRENT_SIZES = ("state_size", "inner_size")
UNIT_EPS = 1e-6
COUNTED_AT_ONCE = 10_000_000  # tokens


@dataclass
class RecurrentConfig:
    """Sizes of a head; everything else is asked of `target`."""

    target: ModelConfig
    state_size: int
    inner_size: int

    def __post_init__(self) -> None:
        for key in RECURRENT_SIZES:
            value = getattr(self, key)
            require(isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096 and value % 16 == 0,
                    f"{key}={value!r}: set it to a multiple of 16 up to 4096")

    def sizes(self) -> dict[str, int]:
        return {key: getattr(self, key) for key in RECURRENT_SIZES}

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Stored name -> shape of every tensor of a head but its successors."""
        D, R, M = self.target.hidden_size, self.state_size, self.inner_size
        return {"input_norm.weight": (D,), "hidden_in.weight": (R, D), "token_in.weight": (2 * M, D),
                "cell_in.weight": (2 * M, R), "cell_out.weight": (R, M), "token_out.weight": (R, D), "none": (R,)}


class Successors:
    """Which tokens may follow each token: entries starts[x] to starts[x + 1] of `tokens`, the likeliest first.

    starts [V + 1] int64, tokens [N] int64.
    """

    def __init__(self, starts: Tensor, tokens: Tensor):
        self.starts, self.tokens = starts.long(), tokens.long()

    @property
    def most(self) -> int:
        """C, of the token that has most."""
        return int(self.starts.diff().max())

    def padded(self) -> Tensor:
        """[V, C] int64, -1 behind the last."""
        place = torch.arange(max(self.most, 1))[None] + self.starts[:-1, None]
        inside = place < self.starts[1:, None]
        return torch.where(inside, self.tokens[place.clamp(max=len(self.tokens) - 1)], -1)

    @classmethod
    def most_frequent(cls, shards: list[np.ndarray], weights: list[float], vocab_size: int, pairs: int,
                      most: int) -> Successors:
        """The `pairs` most frequent pairs of neighbours in the shards, at most `most` of a token; shards count by weights."""
        found, counts = [], []
        for shard, weight in zip(shards, weights):
            for begin in range(0, len(shard) - 1, COUNTED_AT_ONCE):
                part = shard[begin:begin + COUNTED_AT_ONCE + 1].astype(np.int64)
                both, times = np.unique(part[:-1] * vocab_size + part[1:], return_counts=True)
                found.append(both)
                counts.append(weight * times)
        seen, place = np.unique(np.concatenate(found), return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate(counts))
        order = seen[np.lexsort((seen, -counts))]  # of all tokens together, the most frequent first
        first, second = order // vocab_size, order % vocab_size
        by_token = np.argsort(first, kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        begins = np.searchsorted(first[by_token], np.arange(vocab_size + 1))
        rank[by_token] = np.arange(len(order)) - begins[first[by_token]]
        kept = np.flatnonzero(rank < most)[:pairs]
        by_token = kept[np.argsort(first[kept], kind="stable")]
        starts = np.searchsorted(first[by_token], np.arange(vocab_size + 1))
        return cls(torch.from_numpy(starts), torch.from_numpy(second[by_token]))


def unit(x: Tensor) -> Tensor:
    """x / sqrt(mean x^2 + eps) over the last axis, in float32, returned in the dtype of x."""
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + UNIT_EPS)).to(x.dtype)


class RecurrentHead(nn.Module):
    """The trainable part; the target's embedding and lm_head are passed in. `successors` is not a parameter."""

    def __init__(self, config: RecurrentConfig, successors: Successors):
        super().__init__()
        D, R, M = config.target.hidden_size, config.state_size, config.inner_size
        self.config, self.successors = config, successors
        self.input_norm = RMSNorm(D, config.target.rms_norm_eps)
        self.hidden_in, self.token_in = nn.Linear(D, R, bias=False), nn.Linear(D, 2 * M, bias=False)
        self.cell_in, self.cell_out = nn.Linear(R, 2 * M, bias=False), nn.Linear(M, R, bias=False)
        self.token_out, self.none = nn.Linear(D, R, bias=False), nn.Parameter(torch.zeros(R))

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0 if "norm" in name else 0.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)

    def start(self, hidden: Tensor) -> Tensor:
        """s_0 [..., R] of the target's hidden states [..., D]."""
        x = self.input_norm(hidden)
        return F.linear(x, self.hidden_in.weight.to(x.dtype))

    def token_table(self, embedding: Tensor) -> Tensor:
        """[..., 2 M]: what a token adds to the cell, of its embedding [..., D]."""
        return F.linear(unit(embedding), self.token_in.weight.to(embedding.dtype))

    def score_table(self, lm_rows: Tensor) -> Tensor:
        """[..., R]: what a token's score is made of, of its row [..., D] of the lm_head."""
        return F.linear(unit(lm_rows), self.token_out.weight.to(lm_rows.dtype)) / self.config.state_size ** 0.5

    def advance(self, state: Tensor, added: Tensor) -> Tensor:
        """s_k of s_(k-1) [..., R] and of the token's row of token_table [..., 2 M]."""
        gate, up = (F.linear(unit(state), self.cell_in.weight.to(state.dtype)) + added).chunk(2, dim=-1)
        return state + F.linear(F.silu(gate) * up, self.cell_out.weight.to(state.dtype))

    def scores(self, state: Tensor, rows: Tensor) -> Tensor:
        """[..., N] of states [..., R] for rows [N, R] of score_table."""
        return F.linear(unit(state), rows)

    def none_score(self, state: Tensor) -> Tensor:
        return (unit(state).float() @ self.none.float()) / self.config.state_size ** 0.5
