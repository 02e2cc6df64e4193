"""Activation sparsity of BlockFFN routers.

    TLS        share of experts that a token does not use, mean over tokens
    CLS(n)     share of experts that no token of a chunk of n uses, mean over chunks; 1 - CLS(n) is the
               share of expert weights that a chunk-sparse kernel has to read.  CLS(1) = TLS
    reuse      |active(t) and active(t+1)| / |active(t+1)|, mean over neighbours of which the second
               uses any expert

An expert is active where s = ReLU(r) != 0, that is r > 0: the functions take the raw scores r or s,
never the normalised ones, whose sign the RMSNorm weight may turn.  Chunks start at the first token of
a document, do not overlap and do not cross its end; an incomplete last chunk is left out, since it
would flatter the number.

Axes    L layers, T tokens, E experts, C chunks of chunk_len tokens.   Units  fractions in [0, 1].
Errors  ValueError when scores are not finite or not [T, E], or no chunk is whole.
Source  BlockFFN, arXiv:2507.08771, section 2 (TLS, CLS) and 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

MAX_CHUNK_LEN = 64  # the longest chunk the runtime takes
_BITS_SET = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def active_experts(scores: Tensor) -> Tensor:
    """bool, same shape: the expert is used.  `scores` before normalisation, with or without ReLU."""
    if not torch.isfinite(scores).all():
        raise ValueError("router scores are not finite (NaN or infinity): look at the checkpoint's weights")
    return scores > 0


def _one_document(scores_TE: Tensor) -> np.ndarray:
    """Active experts of one layer and document, bool [1, T, E]."""
    if scores_TE.ndim != 2 or not scores_TE.numel():
        raise ValueError(f"scores have shape {list(scores_TE.shape)}: expected [tokens, experts], neither of them 0")
    return active_experts(scores_TE).cpu().numpy()[None]


def _unused(active_LTE: np.ndarray, chunk_lens: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """For each of N chunk lengths: (idle [L, N], (chunk, expert) pairs without use; whole chunks [N])."""
    L, T, E = active_LTE.shape
    bits_TLB = np.packbits(active_LTE.swapaxes(0, 1), axis=-1)  # eight experts a byte: a union is a bitwise or
    idle, chunks = [], []
    for chunk_len in chunk_lens:
        count = T // chunk_len
        bits_CNLB = bits_TLB[:count * chunk_len].reshape(count, chunk_len, *bits_TLB.shape[1:])
        used_L = _BITS_SET[np.bitwise_or.reduce(bits_CNLB, axis=1)].sum(axis=(0, 2), dtype=np.int64)
        idle.append(count * E - used_L)
        chunks.append(count)
    return np.stack(idle, axis=1), np.array(chunks)


def _reuse(active_LTE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([L] sum of the reuse ratios, [L] number of neighbours that count)."""
    now, following = active_LTE[:, :-1], active_LTE[:, 1:]
    used_LT = following.sum(axis=-1)
    ratio_LT = (now & following).sum(axis=-1) / np.maximum(used_LT, 1)
    return ratio_LT.sum(axis=-1), (used_LT > 0).sum(axis=-1)


def token_level_sparsity(scores_TE: Tensor) -> float:
    """TLS of one layer over one document."""
    return chunk_level_sparsity(scores_TE, 1)


def chunk_level_sparsity(scores_TE: Tensor, chunk_len: int) -> float:
    """CLS(chunk_len) of one layer over one document; ValueError when it is shorter than a chunk."""
    active_1TE = _one_document(scores_TE)
    if not 1 <= chunk_len <= len(scores_TE):
        raise ValueError(f"chunk_len={chunk_len}: choose 1 to {len(scores_TE)}, the number of tokens")
    idle, chunks = _unused(active_1TE, [chunk_len])
    return idle.item() / (chunks.item() * scores_TE.shape[1])


def cls_curve(scores_TE: Tensor, max_chunk_len: int = MAX_CHUNK_LEN) -> list[float]:
    """[CLS(1), ..., CLS(max_chunk_len)] of one layer; NaN where the document is shorter than a chunk."""
    idle_1N, chunks_N = _unused(_one_document(scores_TE), range(1, max_chunk_len + 1))
    return _divide(idle_1N[0], chunks_N * scores_TE.shape[1]).tolist()


def reuse_ratio(scores_TE: Tensor) -> float:
    """Reuse ratio of neighbouring tokens of one layer; NaN when no neighbours count."""
    return _divide(*_reuse(_one_document(scores_TE))).item()


def _divide(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """sums / counts, NaN where nothing was counted."""
    return np.divide(sums, counts, out=np.full(np.broadcast(sums, counts).shape, np.nan), where=counts != 0)


class SparsityMeter:
    """Accumulates the metrics over documents (or pieces of them) and layers, in constant memory.

    Means are over all chunks (tokens, neighbours) of all documents: a long document weighs more.
    """

    def __init__(self, num_layers: int, num_experts: int, max_chunk_len: int = MAX_CHUNK_LEN):
        self.num_layers, self.num_experts, self.max_chunk_len = num_layers, num_experts, max_chunk_len
        self.pieces = self.tokens = 0
        self._idle_LN = np.zeros((num_layers, max_chunk_len), dtype=np.int64)
        self._chunks_N = np.zeros(max_chunk_len, dtype=np.int64)
        self._reuse_L, self._pairs_L = np.zeros(num_layers), np.zeros(num_layers, dtype=np.int64)
        self._uses_LE = np.zeros((num_layers, num_experts), dtype=np.int64)

    def add(self, scores_LTE: Tensor | list[Tensor]) -> None:
        """Count one document (or one contiguous piece of it): [L, T, E], or a list of L tensors [T, E]."""
        if not isinstance(scores_LTE, Tensor):
            scores_LTE = torch.stack(tuple(scores_LTE))
        L, E = self.num_layers, self.num_experts
        if scores_LTE.ndim != 3 or scores_LTE.shape[0] != L or scores_LTE.shape[2] != E:
            raise ValueError(f"scores have shape {list(scores_LTE.shape)}: expected [{L} layers, tokens, {E} experts]")
        active_LTE = active_experts(scores_LTE).cpu().numpy()
        for total, value in zip((self._idle_LN, self._chunks_N, self._reuse_L, self._pairs_L),
                                (*_unused(active_LTE, range(1, self.max_chunk_len + 1)), *_reuse(active_LTE))):
            total += value
        self._uses_LE += active_LTE.sum(axis=1)
        self.tokens += active_LTE.shape[1]
        self.pieces += 1

    def cls_LN(self) -> np.ndarray:
        """CLS of every layer for chunks of 1 .. max_chunk_len tokens; NaN where none was whole."""
        return _divide(self._idle_LN, self._chunks_N * self.num_experts)

    def frequency_LE(self) -> np.ndarray:
        """Share of tokens that use each expert."""
        return self._uses_LE / self.tokens

    def independent_curve(self) -> list[float]:
        """CLS(n) if tokens chose independently with the measured frequencies: what locality is measured against."""
        idle_LE = 1 - self.frequency_LE()
        return [float((idle_LE**n).mean()) for n in range(1, self.max_chunk_len + 1)]

    def result(self) -> dict:
        """TLS, CLS8, the CLS curve and reuse ratio, over all layers and per layer; None where undefined."""
        if not self.tokens:
            raise ValueError("no tokens were counted: add documents first")
        cls_LN, reuse_L = self.cls_LN(), _divide(self._reuse_L, self._pairs_L)
        cls8_L = cls_LN[:, 7] if self.max_chunk_len >= 8 else np.full(self.num_layers, np.nan)
        per_layer = [{"layer": i, "tls": _or_none(cls_LN[i, 0]), "cls8": _or_none(cls8_L[i]),
                      "reuse_ratio": _or_none(reuse_L[i]), "unused_experts": int((self._uses_LE[i] == 0).sum())}
                     for i in range(self.num_layers)]
        some_reuse = reuse_L[~np.isnan(reuse_L)]  # a layer that no token uses has none
        return {"tls": _or_none(cls_LN[:, 0].mean()), "cls8": _or_none(cls8_L.mean()),
                "cls_curve": [_or_none(value) for value in cls_LN.mean(axis=0)],
                "independent_curve": self.independent_curve(),
                "reuse_ratio": _or_none(some_reuse.mean()) if len(some_reuse) else None,
                "tokens": self.tokens, "pieces": self.pieces, "per_layer": per_layer}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)  # JSON has no NaN
