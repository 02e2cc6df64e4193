"""A recurrent draft head as the runner reads it: integers by rows, in place, in one file.

Little-endian; every part starts at a multiple of 64 bytes:

    header (64 bytes)   "BFDRAFT1", u64 target_fingerprint, u32 V, D, R, M, u64 N, f32 eps, u32 CRC-32 of what follows, zeros
    hidden_in [R, D]  cell_in [2 M, R]  cell_out [R, M]  none [1, R]  token_in [V, 2 M]  token_out [V, R]
                        each as f32 scales[rows], then int8 [rows, cols]: a value is its integer times its row's scale
    u32 starts[V + 1], i32 successors[N]

The norm's weight is in hidden_in, the embedding and the lm_head of the target in token_in and token_out
(training/recurrent.py); runtime_delegates/runner/recurrent.cc computes with it.

Axes    V vocabulary, D hidden, R state, M inner, N successors of all tokens.
Errors  ValueError for weights that are not finite.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.draft_files import fingerprint

MAGIC = b"BFDRAFT1"
HEADER = struct.Struct("<8sQIIIIQfI16x")
ALIGNMENT = 64
MATRICES = ("hidden_in", "cell_in", "cell_out", "none", "token_in", "token_out")


def quantized_rows(matrix: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(float32 scales [rows], int8 [rows, cols]) of a matrix, the largest value of a row at 127."""
    values = matrix.float()
    if not bool(values.isfinite().all()):
        raise ValueError("the head has weights that are not finite; train it again")
    scales = values.abs().amax(1).clamp(min=1e-30) / 127
    return scales.numpy(), (values / scales[:, None]).round().to(torch.int8).numpy()


@torch.no_grad()
def matrices(draft, target) -> dict[str, Tensor]:
    """Float32 matrices by name, of an opened head and an opened checkpoint."""
    head, config = draft.module(), target.config
    embedding = target.tensors["model.embed_tokens.weight"].float()
    lm_head = embedding if config.tie_word_embeddings else target.tensors["lm_head.weight"].float()
    return {"hidden_in": head.hidden_in.weight * head.input_norm.weight, "cell_in": head.cell_in.weight,
            "cell_out": head.cell_out.weight, "none": head.none[None] / head.config.state_size ** 0.5,
            "token_in": head.token_table(embedding * config.scale_emb), "token_out": head.score_table(lm_head)}


def write_draft(draft, target, path: Path) -> int:
    """Writes the file; its bytes."""
    body = bytearray()

    def append(array: np.ndarray) -> None:
        body.extend(b"\0" * (-len(body) % ALIGNMENT) + np.ascontiguousarray(array).tobytes())

    for matrix in matrices(draft, target).values():
        for array in quantized_rows(matrix):
            append(array)
    append(draft.successors.starts.numpy().astype("<u4"))
    append(draft.successors.tokens.numpy().astype("<i4"))
    config = draft.config
    header = HEADER.pack(MAGIC, fingerprint(target.tensors, target.config), target.config.vocab_size, target.config.hidden_size,
                         config.state_size, config.inner_size, len(draft.successors.tokens), target.config.rms_norm_eps,
                         zlib.crc32(body))
    path.write_bytes(header + body)
    return HEADER.size + len(body)
