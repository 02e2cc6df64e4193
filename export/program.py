"""Serializes an operator list for the runtime; runtime_delegates/program/program.h documents the bytes.

Values are what operators read and write: activations with a token dimension (-1), inputs, outputs,
weights inside one segment, and states (caches), which the runtime owns.
"""

import hashlib
import os
import struct
import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Callable, Iterable, Iterator

VERSION = 1
ALIGN = 64

KIND = {"temporary": 0, "input": 1, "output": 2, "weight": 3, "state": 4}
DTYPE = {"float": 0, "int64": 1, "matrix": 2, "ffn": 3}
OPCODE = {
    "embedding": 1,
    "rms_norm": 2,
    "final_norm": 2,  # an rms_norm whose result has a batch dimension
    "hidden_norm": 2,  # one whose input has it
    "linear": 3,
    "logits": 4,
    "silu_mul": 5,
    "add": 6,
    "final_add": 6,  # an add whose result has a batch dimension
    "chunk_sparse_ffn": 7,
    "mla_attention": 8,
    "gqa_attention": 9,
}


# ExecuTorch calls the backend and passes it nothing of ours, so these two travel beside the call.
_directory: ContextVar[str | None] = ContextVar("directory", default=None)
_on_write: ContextVar[Callable[[int], None] | None] = ContextVar("on_write", default=None)


@contextmanager
def packing_into(directory: str, on_write: Callable[[int], None] | None = None) -> Iterator[None]:
    """Weights packed meanwhile go to files in `directory`; on_write hears of every piece's bytes."""
    tokens = _directory.set(directory), _on_write.set(on_write)
    try:
        yield
    finally:
        _directory.reset(tokens[0])
        _on_write.reset(tokens[1])


class WeightsFile:
    """The weights segment, written to a temporary file piece by piece: packed weights never add up in memory."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(
            prefix="blockffn-weights-", suffix=".bin", dir=_directory.get(), delete=False
        )
        self._on_write = _on_write.get()
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._seen: dict[bytes, tuple[int, int]] = {}

    def add(self, pieces: Iterable[bytes], align: int = ALIGN) -> tuple[int, int]:
        """Appends one weight and returns its (offset, bytes); equal weights are stored once."""
        pieces = iter(pieces)
        first = next(pieces)
        rest = next(pieces, None)
        digest = hashlib.sha256(first).digest() if rest is None else None
        if digest in self._seen:
            return self._seen[digest]
        self._write(bytes(-self._bytes % align))
        offset = self._bytes
        self._write(first)
        if rest is not None:
            self._write(rest)
            for piece in pieces:
                self._write(piece)
        placed = (offset, self._bytes - offset)
        if digest is not None:
            self._seen[digest] = placed
        return placed

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._bytes += len(data)
        if self._on_write is not None:
            self._on_write(len(data))

    def finish(self) -> tuple[str, str, bytes]:
        """Closes the file; returns its path, the segment's key and its SHA-256."""
        self._file.close()
        digest = self._sha256.digest()
        return self._file.name, f"blockffn.weights.{digest.hex()[:32]}", digest

    def discard(self) -> None:
        """Removes the file of an export that failed."""
        self._file.close()
        os.unlink(self._file.name)

    def __len__(self) -> int:
        return self._bytes


@dataclass
class ProgramBuilder:
    """Collects values and operators, then serializes them."""

    values: list[bytes] = field(default_factory=list)
    ops: list[bytes] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    op_names: list[str] = field(default_factory=list)

    def value(self, kind: str, dtype: str, dims: Iterable[int] = (), offset: int = 0, size: int = 0) -> int:
        """Adds a value and returns its id. A dim of -1 is the number of tokens."""
        dims = list(dims)
        padded = dims + [0] * (4 - len(dims))
        self.values.append(struct.pack("<BBH4iIQQQ", KIND[kind], DTYPE[dtype], len(dims), *padded, 0, offset, size, 0))
        identity = len(self.values) - 1
        if kind == "input":
            self.inputs.append(identity)
        return identity

    def op(self, name: str, args: Iterable[int | None], outs: Iterable[int], attrs: Iterable[int | float] = ()) -> None:
        """Adds an operator; an int attribute is stored as int64, a float one as float64."""
        args, outs, attrs = [-1 if a is None else a for a in args], list(outs), list(attrs)
        record = struct.pack("<4H", OPCODE[name], len(args), len(outs), len(attrs))
        record += struct.pack(f"<{len(args)}i{len(outs)}i", *args, *outs)
        self.ops.append((record, b"".join(struct.pack("<d" if isinstance(a, float) else "<q", a) for a in attrs)))
        self.op_names.append(name)

    def serialize(self, weights_key: str) -> bytes:
        key = weights_key.encode()
        out = bytearray(
            struct.pack(
                "<4sHH6I",
                b"BFPG",
                VERSION,
                0,
                len(self.values),
                len(self.ops),
                len(self.inputs),
                len(self.outputs),
                len(key),
                0,
            )
        )
        out += key
        out += bytes(-len(out) % 8)
        out += b"".join(self.values)
        for record, attrs in self.ops:
            out += record
            out += bytes(-len(out) % 8)
            out += attrs
        out += struct.pack(f"<{len(self.inputs)}I{len(self.outputs)}I", *self.inputs, *self.outputs)
        return bytes(out)
