"""Runs an exported .onnx step by step in ONNX Runtime, as session.py runs a .pte; needs no ExecuTorch.

Errors  as chunks.py and onnx_model.py.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from runtime_delegates.chunks import ChunkSession
from runtime_delegates.onnx_model import OnnxModel


class OnnxSession(ChunkSession):
    """One loaded model with a context; the arguments are OnnxModel's, and its `experts`."""

    def __init__(self, path: str | os.PathLike, threads: int | None = None, lib: str | os.PathLike | None = None,
                 plain: bool = False, experts: str = "active") -> None:
        self.model = OnnxModel(path, threads, lib, plain)
        self.model.experts = experts
        for name in ("path", "max_chunk", "max_context", "vocab_size", "bos_id", "eos_ids"):
            setattr(self, name, getattr(self.model, name))
        self.reset()

    def _run(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        logits, hidden = self.model.run_chunk(*(tensor.numpy() for tensor in inputs))
        return torch.from_numpy(logits.copy()), torch.from_numpy(hidden.copy())  # the model uses its buffers again
