"""Choice of the next token from its logits: greedy, or temperature, top-k and top-p sampling.

The filters act in this order, which is the usual one:
  1. repetition penalty   logits of tokens already seen: x / penalty if x > 0, else x * penalty
  2. temperature          logits / temperature; 0 means greedy: the largest logit, and nothing below
  3. top-k                the k most probable tokens, lower ids first among equals
  4. top-p                of those, renormalised, the fewest most probable whose sum reaches p
Equal seeds, settings and logits give equal tokens.

Axes    V vocabulary.   Errors  ValueError for settings out of range and for logits that are not finite.
Source  arXiv:1909.05858 (repetition penalty), arXiv:1805.04833 (top-k), arXiv:1904.09751 (top-p).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass
class Sampler:
    """The default is greedy. top_k=0, top_p=1 and repetition_penalty=1 are off."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for ok, message in (
            (0 <= self.temperature < float("inf"), f"temperature={self.temperature}: use 0 (greedy) or more"),
            (self.top_k >= 0, f"top_k={self.top_k}: use 0 (off) or more"),
            (0 < self.top_p <= 1, f"top_p={self.top_p}: use more than 0, up to 1 (off)"),
            (0 < self.repetition_penalty < float("inf"),
             f"repetition_penalty={self.repetition_penalty}: use more than 0; 1 is off"),
            (self.seed >= 0, f"seed={self.seed}: use 0 or more"),
        ):
            if not ok:
                raise ValueError(message)
        self._random = np.random.Generator(np.random.PCG64(self.seed))

    def choose(self, logits_V: np.ndarray, seen_ids: Iterable[int] = ()) -> int:
        """Id of the next token; seen_ids are those the repetition penalty applies to."""
        if self.temperature == 0:
            return int(np.argmax(self._penalised(logits_V, seen_ids)))
        cumulative_V = np.cumsum(self.probabilities(logits_V, seen_ids))
        # A draw from [0, total): rounding may leave the total a little off 1. side="right" skips tokens
        # of probability 0, whose cumulative sum equals the one before.
        return int(np.searchsorted(cumulative_V, self._random.random() * cumulative_V[-1], side="right"))

    def probabilities(self, logits_V: np.ndarray, seen_ids: Iterable[int] = ()) -> np.ndarray:
        """The distribution that choose() draws from, float64 [V]."""
        logits_V = self._penalised(logits_V, seen_ids)
        if self.temperature == 0:
            return np.eye(1, len(logits_V), int(np.argmax(logits_V)))[0]
        # The largest exponent is 0, so that no temperature overflows.
        p_V = np.exp((logits_V - logits_V.max()) / self.temperature)
        if self.top_k or self.top_p < 1:
            order = np.argsort(-p_V, kind="stable")
            if self.top_k:
                p_V[order[self.top_k :]] = 0
            if self.top_p < 1:
                before = np.cumsum(p_V[order]) - p_V[order]  # probability of the more probable ones
                p_V[order[before >= self.top_p * p_V.sum()]] = 0
        return p_V / p_V.sum()

    def _penalised(self, logits_V: np.ndarray, seen_ids: Iterable[int]) -> np.ndarray:
        logits_V = np.array(logits_V, dtype=np.float64)  # a copy: the caller's logits stay
        if not np.isfinite(logits_V).all():
            raise ValueError("the logits are not finite: the program or its input is damaged; export it again")
        if self.repetition_penalty != 1:
            seen = np.fromiter(set(seen_ids), dtype=np.int64)
            x = logits_V[seen]
            logits_V[seen] = np.where(x > 0, x / self.repetition_penalty, x * self.repetition_penalty)
        return logits_V
