"""What every runtime's session does alike: it counts the context and turns a chunk into the program's inputs.

A chunk may be a tree of candidate tokens (speculative decoding): tree_mask says which tokens of the
chunk each one sees, and the next step's kv_src which of them stay.

Axes    T tokens of a chunk, V vocabulary, D hidden.
Errors  ValueError for arguments, ContextFull (a ValueError) when the context has no room, RuntimeError
        for a step that failed; each is one sentence that names the fix.
Source  export/ops.py (meaning of tree_mask and kv_src).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtime_delegates import FORMAT_VERSION  # noqa: F401  part of this module's interface
from runtime_delegates.text import ContextFull

KV_SRC_LEN = 64


class ChunkSession:
    """A context that grows chunk by chunk.

    n_past      tokens in the context, the previous chunk included
    steps       program runs since loading
    max_chunk, max_context, vocab_size, bos_id (None without), eos_ids   set by the subclass
    """

    steps = 0
    max_chunk: int
    max_context: int
    vocab_size: int
    bos_id: int | None
    eos_ids: list[int]

    def _run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """(token_ids [1, T], positions, n_past, tree_mask, kv_src, logits_start) -> (logits [1, T, V], hidden
        [1, T, D]); RuntimeError if the program fails."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forgets the context; the next step starts at position 0."""
        self.n_past = 0
        self._chunk = 0  # tokens of the previous chunk, of which kv_src may still drop some
        self._failed = False

    def step(self, token_ids: Sequence[int], positions: Sequence[int] | None = None,
             tree_mask: Sequence[int] | None = None, kv_src: Sequence[int] | None = None,
             logits_start: int = 0) -> tuple[Tensor, Tensor]:
        """Appends a chunk -> (logits [T, V], hidden [T, D] after the final norm), both float32.

        kv_src        rows of the previous chunk that stay, ascending (None: all of it stays)
        tree_mask     per token, bit j set = it sees token j of the chunk (None: a linear chunk)
        positions     for RoPE (None: depth in the tree, counted from the end of the context)
        logits_start  logits of earlier tokens of the chunk are not computed and are zero
        """
        ids = [int(i) for i in token_ids]
        tokens = len(ids)
        if not 1 <= tokens <= self.max_chunk:
            raise ValueError(f"a step takes 1 to {self.max_chunk} tokens, not {tokens}; prefill() splits longer input")
        if any(not 0 <= i < self.vocab_size for i in ids):
            raise ValueError(f"token ids must be 0 to {self.vocab_size - 1}; is this the model's own tokenizer?")
        if not 0 <= logits_start < tokens:
            raise ValueError(f"logits_start={logits_start}: use 0 to {tokens - 1}")
        kept = self._kept_rows(kv_src)
        n_past = self.n_past if kept is None else self.n_past - self._chunk + len(kept)
        self._check_room(tokens, n_past)
        masks = [(2 << i) - 1 for i in range(tokens)] if tree_mask is None else [int(m) % 2**64 for m in tree_mask]
        if positions is None:
            positions = [n_past + bin(mask).count("1") - 1 for mask in masks]
        if len(masks) != tokens or len(positions) != tokens:
            raise ValueError(f"tree_mask and positions must have one entry for each of the {tokens} tokens")
        if self._failed:
            raise RuntimeError("an earlier step failed and left its caches undefined; call reset() first")

        rows = np.full(KV_SRC_LEN, -1, dtype=np.int64)
        if kept is not None:
            rows[: len(kept)] = kept
        inputs = (
            torch.tensor([ids]),
            torch.tensor([int(p) for p in positions]),
            torch.tensor([n_past]),
            torch.from_numpy(np.array(masks, dtype=np.uint64).view(np.int64)),
            torch.from_numpy(rows),
            torch.tensor([logits_start]),
        )
        self._failed = True
        logits_1TV, hidden_1TD = self._run(inputs)
        self._failed = False
        self.steps += 1
        self.n_past, self._chunk = n_past + tokens, tokens
        return logits_1TV[0], hidden_1TD[0]

    def prefill(self, ids: Sequence[int], on_chunk: Callable[[int], Any] | None = None) -> Tensor:
        """Appends tokens in chunks -> logits [V] of the last one. on_chunk(tokens) is called after each chunk."""
        if len(ids) == 0:
            raise ValueError("nothing to read: the prompt has no tokens")
        self._check_room(len(ids), self.n_past)
        for start in range(0, len(ids), self.max_chunk):
            chunk = ids[start : start + self.max_chunk]
            logits_TV, _ = self.step(chunk, logits_start=len(chunk) - 1)
            if on_chunk is not None:
                on_chunk(len(chunk))
        return logits_TV[-1]

    def _check_room(self, tokens: int, n_past: int) -> None:
        if n_past + tokens > self.max_context:
            used = f" of which {n_past} are used" if n_past else ""
            raise ContextFull(f"{tokens} tokens do not fit into the context of {self.max_context} tokens{used}; "
                              "shorten the text, or export with a larger --max-context")

    def _kept_rows(self, kv_src: Sequence[int] | None) -> list[int] | None:
        if kv_src is None:
            return None
        kept = [int(row) for row in kv_src]
        if kept and (kept[0] < 0 or kept[-1] >= self._chunk or any(b <= a for a, b in zip(kept, kept[1:]))):
            raise ValueError(f"kv_src={kept}: list rows of the previous chunk (0 to {self._chunk - 1}), ascending")
        return kept
