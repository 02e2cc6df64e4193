"""Runs an exported .pte step by step: chunks of 1..64 tokens over key/value caches that the delegate owns.

A chunk may be a tree of candidate tokens (speculative decoding): tree_mask says which tokens of the
chunk each one sees, and the next step's kv_src which of them stay.

Axes    T tokens of a chunk, V vocabulary, D hidden.
Errors  ValueError for arguments, ContextFull (a ValueError) when the context has no room, RuntimeError
        for a file that cannot be loaded or a step that failed; each is one sentence that names the fix.
Source  export/ops.py (meaning of tree_mask and kv_src), export/to_executorch.py (metadata methods).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtime_delegates.loader import executorch_runtime, load_backend

FORMAT_VERSION = 1  # of the programs this runtime can run
KV_SRC_LEN = 64
PTE_IDENTIFIER = b"ET12"


class ContextFull(ValueError):
    """The tokens do not fit into what is left of the context."""


class Session:
    """One loaded program and its caches.

    n_past      tokens in the context, the previous chunk included
    steps       programs runs since loading, which is what the backend's call counter must show
    max_chunk, max_context, vocab_size, bos_id (None without), eos_ids   metadata of the program
    """

    def __init__(self, pte_path: str | os.PathLike, threads: int | None = None, lib: str | os.PathLike | None = None):
        self.path = Path(pte_path)
        check_pte(self.path)
        self.backend = load_backend(lib)
        threads = self.backend.default_threads if threads is None else threads
        if threads != self.backend.threads:
            self.backend.set_threads(threads)
        try:
            self._program = executorch_runtime._load_program(
                str(self.path), program_verification=executorch_runtime.Verification.InternalConsistency)
        except (RuntimeError, MemoryError) as error:
            raise RuntimeError(f"{self.path}: ExecuTorch cannot load this program, it is damaged or needs another "
                               f"version ({_first_line(error)}); export it again") from None
        self._check_format()
        self.max_chunk = int(self._constant("get_max_seq_len")[0])
        self.max_context = int(self._constant("get_max_context_len")[0])
        self.vocab_size = int(self._constant("get_vocab_size")[0])
        bos_id = int(self._constant("get_bos_id")[0])
        self.bos_id = bos_id if bos_id >= 0 else None
        self.eos_ids = [int(i) for i in self._constant("get_eos_ids") if i >= 0]
        self._forward = self._load_method("forward")
        self.steps = 0
        self.reset()

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
        try:
            logits_1TV, hidden_1TD = self._forward(inputs)
        except (RuntimeError, MemoryError) as error:
            raise RuntimeError(f"the program failed: {self.backend.last_error() or _first_line(error)}") from None
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

    # ---- loading ----
    def _check_format(self) -> None:
        names = {self._program.get_method_name(i) for i in range(self._program.num_methods())}
        if not {"forward", "get_blockffn_format_version"} <= names:
            raise RuntimeError(f"{self.path}: not exported by export/to_executorch.py (it lacks our metadata); "
                               "export the checkpoint with that command")
        version = int(self._constant("get_blockffn_format_version")[0])
        if version != FORMAT_VERSION:
            raise RuntimeError(f"{self.path}: format version {version}, this runtime runs version {FORMAT_VERSION}; "
                               "export the checkpoint again")

    def _load_method(self, name: str):
        try:
            return self._program.load_method(name)
        except (RuntimeError, MemoryError) as error:
            reason = self.backend.last_error() or _first_line(error)
            raise RuntimeError(f"{self.path}: cannot load {name} ({reason}); export it again") from None

    def _constant(self, name: str) -> list:
        """The flattened values that a metadata method returns."""
        try:
            values = self._load_method(name)(())
        except (RuntimeError, MemoryError) as error:
            raise RuntimeError(f"{self.path}: cannot read {name} ({_first_line(error)}); export it again") from None
        flat = []
        for value in values:
            flat += value.flatten().tolist() if isinstance(value, Tensor) else value if isinstance(value, list) else [value]
        return flat


def check_pte(path: Path) -> None:
    """RuntimeError unless `path` starts as an ExecuTorch program and is as long as its header says.

    ExecuTorch maps the file, so a segment beyond its end would kill the process instead of raising.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(48)
        size = path.stat().st_size
    except OSError as error:
        raise RuntimeError(f"{path}: {error.strerror or error}; name a .pte file") from None
    # All four bytes: ExecuTorch's Python binding ends the process when it logs an identifier that is not text.
    if len(head) < 48 or head[4:8] != PTE_IDENTIFIER:
        raise RuntimeError(f"{path}: not an ExecuTorch program; name a .pte file written by export/to_executorch.py")
    if head[8:12] != b"eh00":
        return  # a program without weights of its own has no such header; ExecuTorch verifies the rest
    # Extended header: magic, u32 its length, u64 program bytes, u64 offset and u64 bytes of the segments.
    length, program_bytes, segments_offset, segments_bytes = struct.unpack("<IQQQ", head[12:40])
    end = max(program_bytes, segments_offset + segments_bytes if length >= 32 else 0)
    if size < end:
        raise RuntimeError(f"{path}: truncated, {size} of {end} bytes; copy or export it again")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
