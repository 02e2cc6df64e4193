"""Training windows from the memory-mapped shards that `python -m training.data prepare` wrote.

Any process can compute which windows it trains on at any step from the seed alone: nothing but the
step has to be stored to resume.

Axes    B windows, S tokens predicted per window.
Units   tokens, documents, windows.
Errors  ValueError names the file and the fix, also for shards that were cut short.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
SPLITS = ("train", "heldout")
_PERMUTATION_ROUNDS = 6


class TokenDataset:
    """Windows of seq_len + 1 tokens over all shards of a split, at a stride of seq_len.

    Neighbouring windows share one token, so that every token of the split but the first is
    predicted exactly once per epoch.  The last window is padded (id eos, document -1).
    """

    def __init__(self, directory: str | os.PathLike, split: str, seq_len: int):
        self.directory, self.split, self.seq_len = Path(directory), split, seq_len
        path = self.directory / "metadata.json"
        try:
            self.metadata = json.loads(path.read_text(encoding="utf-8"))
            entry, version = self.metadata["splits"][split], self.metadata["format_version"]
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file; write it with `python -m training.data prepare`") from None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: damaged, or split {split!r} is none of {', '.join(SPLITS)} ({error!r}); "
                             "run `python -m training.data prepare --force`") from None
        if version != FORMAT_VERSION:
            raise ValueError(f"{path}: format {version}, this code reads {FORMAT_VERSION}; prepare the data again")
        if seq_len < 1:
            raise ValueError(f"seq_len={seq_len}: set it above 0")
        if entry["tokens"] < 2:
            raise ValueError(f"{self.directory}: split {split!r} is empty; prepare the data with "
                             f"{'--heldout or --heldout-percent' if split == 'heldout' else 'more --input'}")
        dtype = np.dtype(self.metadata["dtype"]).newbyteorder("<")
        self.num_tokens, self.num_documents = entry["tokens"], entry["documents"]
        self.vocab_size, self.eos_id = self.metadata["vocab_size"], self.metadata["eos_id"]
        self._tokens = [self._map(f"{s['name']}.tokens", dtype, s["tokens"]) for s in entry["shards"]]
        self._starts = [self._map(f"{s['name']}.documents", np.dtype("<i8"), s["documents"]) for s in entry["shards"]]
        self._first_token = np.cumsum([0] + [s["tokens"] for s in entry["shards"]])
        self._first_document = np.cumsum([0] + [s["documents"] for s in entry["shards"]])

    @property
    def tokenizer_dir(self) -> Path:
        return self.directory / "tokenizer"

    def _map(self, name: str, dtype: np.dtype, count: int) -> np.ndarray:
        path = self.directory / name
        size = path.stat().st_size if path.is_file() else -1
        if size != count * dtype.itemsize:
            state = "missing" if size < 0 else f"{size} bytes long instead of {count * dtype.itemsize}"
            raise ValueError(f"{path}: {state}; run `python -m training.data prepare --force` again")
        return np.memmap(path, dtype=dtype, mode="r", shape=(count,))

    def __len__(self) -> int:
        return -(-(self.num_tokens - 1) // self.seq_len)

    def shards(self) -> list[np.ndarray]:
        """The token ids of every shard, memory-mapped."""
        return list(self._tokens)

    def _read(self, start: int, ids_out: np.ndarray, docs_out: np.ndarray) -> None:
        """Fill one row from token `start` of the split on; what lies past its end is left alone."""
        filled, stop = 0, min(start + len(ids_out), self.num_tokens)
        while start + filled < stop:
            shard = int(np.searchsorted(self._first_token, start + filled, side="right")) - 1
            local = start + filled - int(self._first_token[shard])
            count = min(stop - start - filled, len(self._tokens[shard]) - local)
            row = slice(filled, filled + count)
            ids_out[row] = self._tokens[shard][local:local + count]
            docs_out[row] = np.searchsorted(self._starts[shard], np.arange(local, local + count), side="right") \
                - 1 + self._first_document[shard]
            filled += count

    def batch(self, indices: Iterable[int]) -> tuple[Tensor, Tensor]:
        """(ids [B, S+1] int64, document of each token [B, S+1] int32, -1 where padded)."""
        import torch  # here, so that tokenizing processes start without it

        indices = [int(i) for i in indices]
        ids = np.full((len(indices), self.seq_len + 1), self.eos_id, dtype=np.int64)
        docs = np.full(ids.shape, -1, dtype=np.int32)
        for row, index in enumerate(indices):
            if not 0 <= index < len(self):
                raise IndexError(f"window {index}: there are {len(self)}")
            self._read(index * self.seq_len, ids[row], docs[row])
        return torch.from_numpy(ids), torch.from_numpy(docs)


def _mix(values: np.ndarray, key: int) -> np.ndarray:
    """splitmix64 finaliser: every bit of the result depends on every bit of value and key."""
    x = values + np.uint64(key & (2**64 - 1))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _permute(positions: np.ndarray, n: int, key: int) -> np.ndarray:
    """Positions in [0, n) under a seeded permutation: a Feistel network on the next even power of two,
    walked on until the value falls below n.  Needs no table, however large n is."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    values = positions.astype(np.uint64)
    todo = np.ones(len(values), dtype=bool)
    while todo.any():
        left, right = values[todo] >> half, values[todo] & mask
        for turn in range(_PERMUTATION_ROUNDS):
            left, right = right, left ^ (_mix(right, key + turn * 0x9E3779B97F4A7C15) & mask)
        values[todo] = (left << half) | right
        todo[todo] = values[todo] >= n
    return values.astype(np.int64)


def window_order(n: int, seed: int, sample_start: int, count: int) -> np.ndarray:
    """Windows of the training samples sample_start .. sample_start + count - 1, int64.

    Each epoch (n samples) visits every window once, in an order of its own.  The result depends on
    the arguments only, so a resumed run needs nothing but the number of samples it has seen.
    """
    if n < 1:
        raise ValueError(f"n={n}: there must be at least one window")
    samples = np.arange(sample_start, sample_start + count, dtype=np.int64)
    order = np.empty(count, dtype=np.int64)
    for epoch in np.unique(samples // n):
        chosen = samples // n == epoch
        key = int(_mix(np.array([seed & (2**64 - 1)], dtype=np.uint64), int(epoch) * 2 + 1)[0])
        order[chosen] = _permute(samples[chosen] % n, n, key)
    return order
