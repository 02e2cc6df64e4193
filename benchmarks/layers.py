"""The FFN layers that the benchmark times: sizes, routing, random weights, and what they must compute.

Sparse layer   sum_e A_e down_e silu(up_e x), A = rms_norm(relu(router x)): two matrices of D x F per expert.
Dense twin     down(silu(gate x) * up x) with as many weights, so that both read the same bytes when all are read.

Routing. A chunk's active experts are prescribed, and inputs and routers are constructed so that the real router
yields them: x = noise + sum_e s_te u_e with orthonormal rows u_e that the noise is orthogonal to, and the router's
rows are the u_e of another expert in every layer. So no kernel is told anything; the backend's statistics must agree.

Axes   L layers, V variants of the input (each with its own routing), T tokens (64), D hidden, E experts, F expert
       width, I width of the dense twin.
Source TLS and CLS as in training/sparsity.py; sizes of arXiv:2507.08771, table of the models.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOKENS = 64  # of the longest chunk
VARIANTS = 3
EPS = 1e-5
TLS, CLS8 = 0.80, 0.70  # of the synthetic routing


@dataclass(frozen=True)
class Size:
    """hidden D, experts E, width F, layers of the whole model."""

    name: str
    hidden: int
    experts: int
    width: int
    layers: int

    @property
    def weights(self) -> int:
        """Weights of one sparse layer, without the router."""
        return 2 * self.hidden * self.experts * self.width

    @property
    def dense_width(self) -> int:
        """I of the dense twin: nearest multiple of 128 (every peer's group) to equally many weights."""
        return max(round(2 * self.experts * self.width / 3 / 128), 1) * 128

    @property
    def dense_weights(self) -> int:
        return 3 * self.hidden * self.dense_width


SIZES = {s.name: s for s in (
    Size("0.1B", 768, 48, 64, 16),
    Size("1.2B", 1792, 56, 128, 35),
    Size("2.8B", 2048, 128, 128, 36),
    Size("toy", 256, 16, 32, 4),  # for the tests
)}


def union_share(tokens: int) -> float:
    """Share of the experts that a chunk needs: every token swaps the same number of experts at random, with the
    rate that gives TLS at one token and CLS8 at eight."""
    return 1 - TLS * (CLS8 / TLS) ** ((tokens - 1) / 7)


def synthetic_routing(experts: int, seed: int) -> np.ndarray:
    """Active experts of one chunk, bool [T, E]; the first n tokens need round(E * union_share(n)) experts, any n."""
    rng = np.random.default_rng(seed)
    k = round(experts * (1 - TLS))
    unions = [max(k, round(experts * union_share(t + 1))) for t in range(TOKENS)]
    swaps_per_token = -experts * TLS / 7 * math.log(CLS8 / TLS)
    active = list(rng.permutation(experts)[:k])
    seen, swaps, rows = set(active), 0, []
    for t in range(TOKENS):
        if t:
            novel = unions[t] - unions[t - 1]
            due = round(swaps_per_token * t) - swaps
            swaps += due
            added = list(rng.permutation([e for e in range(experts) if e not in seen])[:novel])
            back = list(rng.permutation([e for e in seen if e not in active])[:max(due - novel, 0)])
            stay = list(rng.permutation(active))[len(added) + len(back):]
            active = stay + added + back
            seen.update(added)
        rows.append(np.isin(np.arange(experts), active))
    return np.stack(rows)


@dataclass(frozen=True)
class Inputs:
    """x_VTD float32; directions_ED, the orthonormal rows of the routers; active_VTE bool, before a layer's permutation."""

    x_VTD: Tensor
    directions_ED: Tensor
    active_VTE: np.ndarray

    def union(self, tokens: int) -> list[int]:
        """Experts that the first `tokens` tokens of each variant need."""
        return self.active_VTE[:, :tokens].any(axis=1).sum(axis=1).tolist()


def make_inputs(size: Size, active_VTE: np.ndarray | None = None, seed: int = 0) -> Inputs:
    """Inputs of about unit variance that the routers of `sparse_weights` map to the given active experts."""
    rng = np.random.default_rng(seed)
    D, E = size.hidden, size.experts
    if active_VTE is None:
        active_VTE = np.stack([synthetic_routing(E, 1000 * seed + v) for v in range(VARIANTS)])
    directions_ED = np.linalg.qr(rng.normal(size=(D, E)))[0].T
    sign = np.where(active_VTE, 1, -1)
    scores = sign * rng.uniform(0.8, 1.2, active_VTE.shape) * math.sqrt(0.75 * D / E)  # 3/4 of the energy
    noise = rng.normal(size=(*active_VTE.shape[:2], D))
    noise -= noise @ directions_ED.T @ directions_ED
    x = scores @ directions_ED + noise * math.sqrt(0.25 * D / (D - E))
    as_tensor = lambda a: torch.from_numpy(a.astype(np.float32))  # noqa: E731
    return Inputs(as_tensor(x), as_tensor(directions_ED), active_VTE)


def _normal(shape, fan_in: int, *seed: int) -> Tensor:
    """Weights of unit output variance; the same for the same seed."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    return torch.randn(shape, generator=generator) * fan_in**-0.5


def sparse_weights(size: Size, inputs: Inputs, layer: int) -> dict[str, Tensor]:
    """router [E, D], norm [E] (some negative), up [E, F, D], down [E, D, F] of one layer."""
    D, E, F = size.hidden, size.experts, size.width
    order = np.random.default_rng([layer, 7]).permutation(E)
    norm = torch.linspace(0.5, 1.5, E) * torch.where(torch.arange(E) % 5 == 4, -1.0, 1.0)
    up, down = _normal((E, F, D), D, layer, 1), _normal((E, D, F), F, layer, 2)
    return {"router": inputs.directions_ED[order].clone(), "norm": norm, "up": up, "down": down}


def dense_weights(size: Size, layer: int) -> dict[str, Tensor]:
    """gate and up [I, D], down [D, I] of one layer's dense twin."""
    D, I = size.hidden, size.dense_width  # noqa: E741
    return {"gate": _normal((I, D), D, layer, 3), "up": _normal((I, D), D, layer, 4), "down": _normal((D, I), I, layer, 5)}


def _silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def sparse_reference(x_TD: Tensor, w: dict[str, Tensor]) -> Tensor:
    """The sparse layer in float64. `w` holds the weights as a peer represents them."""
    x = x_TD.double()
    scores = (x @ w["router"].double().T).clamp(min=0)
    gates = scores / (scores.square().mean(dim=1, keepdim=True) + EPS).sqrt() * w["norm"].double()
    y = torch.zeros_like(x)
    for e in range(len(w["up"])):
        tokens = scores[:, e].nonzero().flatten()
        if len(tokens):
            y[tokens] += gates[tokens, e, None] * (_silu(x[tokens] @ w["up"][e].double().T) @ w["down"][e].double().T)
    return y


def dense_reference(x_TD: Tensor, w: dict[str, Tensor]) -> Tensor:
    """The dense twin in float64."""
    x = x_TD.double()
    return (_silu(x @ w["gate"].double().T) * (x @ w["up"].double().T)) @ w["down"].double().T
