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

import torch
from torch import Tensor

MAX_CHUNK_LEN = 64  # the longest chunk the runtime takes


def active_experts(scores: Tensor) -> Tensor:
    """bool, same shape: the expert is used.  `scores` before normalisation, with or without ReLU."""
    if not torch.isfinite(scores).all():
        raise ValueError("router scores are not finite (NaN or infinity): look at the checkpoint's weights")
    return scores > 0


def _one_document(scores_TE: Tensor) -> Tensor:
    if scores_TE.ndim != 2 or not scores_TE.numel():
        raise ValueError(f"scores have shape {list(scores_TE.shape)}: expected [tokens, experts], neither of them 0")
    return active_experts(scores_TE)


def _unused(active_LTE: Tensor, chunk_len: int) -> tuple[Tensor, int]:
    """([L] number of (chunk, expert) pairs without use, number of whole chunks C)."""
    L, T, E = active_LTE.shape
    chunks = T // chunk_len
    active_LCNE = active_LTE[:, :chunks * chunk_len].reshape(L, chunks, chunk_len, E)
    return (~active_LCNE.any(dim=2)).sum(dim=(1, 2)), chunks


def _reuse(active_LTE: Tensor) -> tuple[Tensor, Tensor]:
    """([L] sum of the reuse ratios, [L] number of neighbours that count)."""
    now, following = active_LTE[:, :-1], active_LTE[:, 1:]
    used_LT = following.sum(dim=-1)
    shared_LT = (now & following).sum(dim=-1)
    ratio_LT = shared_LT.double() / used_LT.clamp(min=1)
    return ratio_LT.sum(dim=-1), (used_LT > 0).sum(dim=-1)


def token_level_sparsity(scores_TE: Tensor) -> float:
    """TLS of one layer over one document."""
    return chunk_level_sparsity(scores_TE, 1)


def chunk_level_sparsity(scores_TE: Tensor, chunk_len: int) -> float:
    """CLS(chunk_len) of one layer over one document; ValueError when it is shorter than a chunk."""
    active_TE = _one_document(scores_TE)
    if not 1 <= chunk_len <= len(active_TE):
        raise ValueError(f"chunk_len={chunk_len}: choose 1 to {len(active_TE)}, the number of tokens")
    unused, chunks = _unused(active_TE[None], chunk_len)
    return unused.item() / (chunks * active_TE.shape[1])


def cls_curve(scores_TE: Tensor, max_chunk_len: int = MAX_CHUNK_LEN) -> list[float]:
    """[CLS(1), ..., CLS(max_chunk_len)] of one layer; NaN where the document is shorter than a chunk."""
    active_TE = _one_document(scores_TE)
    curve = []
    for chunk_len in range(1, max_chunk_len + 1):
        unused, chunks = _unused(active_TE[None], chunk_len)
        curve.append(unused.item() / (chunks * active_TE.shape[1]) if chunks else math.nan)
    return curve


def reuse_ratio(scores_TE: Tensor) -> float:
    """Reuse ratio of neighbouring tokens of one layer; NaN when no neighbours count."""
    total, pairs = _reuse(_one_document(scores_TE)[None])
    return total.item() / pairs.item() if pairs.item() else math.nan


class SparsityMeter:
    """Accumulates the metrics over documents (or pieces of them) and layers, in constant memory.

    Means are over all chunks (tokens, neighbours) of all documents: a long document weighs more.
    """

    def __init__(self, num_layers: int, num_experts: int, max_chunk_len: int = MAX_CHUNK_LEN):
        self.num_layers, self.num_experts, self.max_chunk_len = num_layers, num_experts, max_chunk_len
        self.pieces = self.tokens = 0
        self._unused_LN = torch.zeros(num_layers, max_chunk_len, dtype=torch.int64)
        self._chunks_N = torch.zeros(max_chunk_len, dtype=torch.int64)
        self._reuse_L = torch.zeros(num_layers, dtype=torch.float64)
        self._pairs_L = torch.zeros(num_layers, dtype=torch.int64)
        self._uses_LE = torch.zeros(num_layers, num_experts, dtype=torch.int64)

    def add(self, scores_LTE: Tensor | list[Tensor]) -> None:
        """Count one document (or one contiguous piece of it): [L, T, E], or a list of L tensors [T, E]."""
        if not isinstance(scores_LTE, Tensor):
            scores_LTE = torch.stack(tuple(scores_LTE))
        L, E = self.num_layers, self.num_experts
        if scores_LTE.ndim != 3 or scores_LTE.shape[0] != L or scores_LTE.shape[2] != E:
            raise ValueError(f"scores have shape {list(scores_LTE.shape)}: expected [{L} layers, tokens, {E} experts]")
        active_LTE = active_experts(scores_LTE)
        counts = [_unused(active_LTE, n) for n in range(1, self.max_chunk_len + 1)]
        self._unused_LN += torch.stack([unused for unused, _ in counts], dim=1).cpu()
        self._chunks_N += torch.tensor([chunks for _, chunks in counts])
        ratio_L, pairs_L = _reuse(active_LTE)
        self._reuse_L += ratio_L.cpu()
        self._pairs_L += pairs_L.cpu()
        self._uses_LE += active_LTE.sum(dim=1).cpu()
        self.tokens += scores_LTE.shape[1]
        self.pieces += 1

    def cls_LN(self) -> Tensor:
        """CLS of every layer for chunks of 1 .. max_chunk_len tokens, float64; NaN where none was whole."""
        return self._unused_LN.double() / (self._chunks_N * self.num_experts)

    def frequency_LE(self) -> Tensor:
        """Share of tokens that use each expert, float64."""
        return self._uses_LE.double() / self.tokens

    def independent_curve(self) -> list[float]:
        """CLS(n) if tokens chose independently with the measured frequencies: what locality is measured against."""
        idle_LE = 1 - self.frequency_LE()
        return [idle_LE.pow(n).mean().item() for n in range(1, self.max_chunk_len + 1)]

    def result(self) -> dict:
        """TLS, CLS8, the CLS curve and reuse ratio, over all layers and per layer; None where undefined."""
        if not self.tokens:
            raise ValueError("no tokens were counted: add documents first")
        cls_LN, reuse_L = self.cls_LN(), self._reuse_L / self._pairs_L
        cls8_L = cls_LN[:, 7] if self.max_chunk_len >= 8 else torch.full((self.num_layers,), math.nan)
        per_layer = [{"layer": i, "tls": _or_none(cls_LN[i, 0]), "cls8": _or_none(cls8_L[i]),
                      "reuse_ratio": _or_none(reuse_L[i]), "unused_experts": int((self._uses_LE[i] == 0).sum())}
                     for i in range(self.num_layers)]
        return {"tls": _or_none(cls_LN[:, 0].mean()), "cls8": _or_none(cls8_L.mean()),
                "cls_curve": [_or_none(value) for value in cls_LN.mean(dim=0)],
                "independent_curve": self.independent_curve(),
                "reuse_ratio": _or_none(reuse_L.nanmean()), "tokens": self.tokens, "pieces": self.pieces,
                "per_layer": per_layer}


def _or_none(value: Tensor) -> float | None:
    return None if math.isnan(value.item()) else value.item()  # JSON has no NaN
