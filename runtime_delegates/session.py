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
import stat
import struct
import zlib
from pathlib import Path

from torch import Tensor

from runtime_delegates.chunks import FORMAT_VERSION, ChunkSession
from runtime_delegates.loader import executorch_runtime, load_backend
from runtime_delegates.text import ContextFull  # noqa: F401  callers catch it

TRAILER_BYTES = 24  # of our exports
PTE_IDENTIFIER = b"ET12"


class LoadedProgram:
    """A program of ours in ExecuTorch: its constants and its forward."""

    def __init__(self, pte_path: str | os.PathLike, threads: int | None, lib: str | os.PathLike | None):
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

    def check_version(self, constant: str, ours: int, kind: str) -> None:
        """RuntimeError unless the program has forward and `constant`, which is the version of its interface."""
        names = {self._program.get_method_name(i) for i in range(self._program.num_methods())}
        if not {"forward", constant} <= names:
            raise RuntimeError(f"{self.path}: not exported by export/to_executorch.py as {kind} (it lacks our "
                               "metadata); export it with that command")
        version = self.constant(constant)
        if version != ours:
            raise RuntimeError(f"{self.path}: format version {version}, this runtime runs version {ours}; "
                               "export it again")

    def load_method(self, name: str):
        try:
            return self._program.load_method(name)
        except (RuntimeError, MemoryError) as error:
            reason = self.backend.last_error() or _first_line(error)
            raise RuntimeError(f"{self.path}: cannot load {name} ({reason}); export it again") from None

    def constants(self, name: str) -> list:
        """The flattened values that a metadata method returns."""
        try:
            values = self.load_method(name)(())
        except (RuntimeError, MemoryError) as error:
            raise RuntimeError(f"{self.path}: cannot read {name} ({_first_line(error)}); export it again") from None
        flat = []
        for value in values:
            flat += value.flatten().tolist() if isinstance(value, Tensor) else value if isinstance(value, list) else [value]
        return flat

    def constant(self, name: str) -> int:
        """The first of them."""
        return int(self.constants(name)[0])

    def call(self, forward, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        try:
            return forward(inputs)
        except (RuntimeError, MemoryError) as error:
            raise RuntimeError(f"the program failed: {self.backend.last_error() or _first_line(error)}") from None


class Session(ChunkSession):
    """One loaded program and its caches.

    n_past      tokens in the context, the previous chunk included
    steps       programs run since loading, which is what the backend's call counter must show
    experts     "active": a step reads the experts that its chunk uses; "all": every one, as a dense model does, with
                the same output. May be changed between steps.
    max_chunk, max_context, vocab_size, bos_id (None without), eos_ids   metadata of the program
    """

    def __init__(self, pte_path: str | os.PathLike, threads: int | None = None, lib: str | os.PathLike | None = None,
                 experts: str = "active"):
        self.experts = experts
        self._loaded = program = LoadedProgram(pte_path, threads, lib)
        self.path, self.backend = program.path, program.backend
        program.check_version("get_blockffn_format_version", FORMAT_VERSION, "a model")
        self.max_chunk = program.constant("get_max_seq_len")
        self.max_context = program.constant("get_max_context_len")
        self.vocab_size = program.constant("get_vocab_size")
        bos_id = program.constant("get_bos_id")
        self.bos_id = bos_id if bos_id >= 0 else None
        self.eos_ids = [int(i) for i in program.constants("get_eos_ids") if i >= 0]
        self._forward = program.load_method("forward")
        self.steps = 0
        self.reset()

    def _run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        with self.backend.experts(self.experts):
            return self._loaded.call(self._forward, inputs)


def check_pte(path: Path) -> None:
    """RuntimeError unless `path` starts as an ExecuTorch program, is as long as its header says, and has the
    checksum that our exports end with (export/lower.py), if there is one.

    ExecuTorch maps the file, so a segment beyond its end would kill the process instead of raising; and so would
    some damaged fields.
    """
    try:
        if not stat.S_ISREG((status := path.stat()).st_mode):
            raise RuntimeError(f"{path}: not a regular file; name a .pte file")
        size = status.st_size
        with open(path, "rb") as file:
            head = file.read(48)
            file.seek(max(0, size - TRAILER_BYTES))
            magic, checked, checksum = struct.unpack("<8sQQ", file.read(TRAILER_BYTES).rjust(TRAILER_BYTES))
            file.seek(0)
            whole = magic != b"BFCHECK1" or checked <= size and zlib.crc32(file.read(checked)) == checksum
    except OSError as error:
        raise RuntimeError(f"{path}: {error.strerror or error}; name a .pte file") from None
    # All four bytes: ExecuTorch's Python binding ends the process when it logs an identifier that is not text.
    if len(head) < 48 or head[4:8] != PTE_IDENTIFIER:
        raise RuntimeError(f"{path}: not an ExecuTorch program; name a .pte file written by export/to_executorch.py"
                           + ("; an .onnx model runs with `python -m runtime_delegates.run`" if path.suffix == ".onnx" else ""))
    if not whole:
        raise RuntimeError(f"{path}: damaged, its checksum differs; copy or export it again")
    if head[8:12] != b"eh00":
        return  # a program without weights of its own has no such header; ExecuTorch verifies the rest
    # Extended header: magic, u32 its length, u64 program bytes, u64 offset and u64 bytes of the segments.
    length, program_bytes, segments_offset, segments_bytes = struct.unpack("<IQQQ", head[12:40])
    end = max(program_bytes, segments_offset + segments_bytes if length >= 32 else 0)
    if size < end or (end < size < end + TRAILER_BYTES):
        raise RuntimeError(f"{path}: truncated, {size} of {end} bytes; copy or export it again")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
