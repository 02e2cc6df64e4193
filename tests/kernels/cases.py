"""Golden cases of kernels_test.cc: inputs, tiles packed by export/pack.py, float64 results and bounds.

NAME.tiles   u32 quant, rows N, columns K, tokens T; tiles; float x [T, K]; integer weights only: int8 q
             [T, padded K], float scale [T], and for int4 int32 starts [T, padded K / 32]; float factor [T];
             double want [T, N], bound [T, N]
NAME.vectors u32 records; each u32 n, float a, x [n], y [n], then (want, bound) in double of dot(x, y),
             y + a * x, a * y, silu(x)
"""

import math
import struct
from pathlib import Path

import numpy as np
import torch

from export import pack
from export.precisions import QUANTS
from tests.delegate import oracle
from tests.delegate.programs import on_grid

SHAPES = {  # N, K, T
    "one": (1, 1, 9),
    "odd": (19, 37, 64),
    "even": (48, 64, 64),
    "many_tiles": (75, 40, 10),  # more than any kernel keeps sums of at once
    "long": (11, 4200, 9),  # more columns than any kernel prepares at once
    "extreme": (9, 264, 9),  # the largest weights and activations: no intermediate sum may overflow
}


def activations(rng, tokens, columns, name, quant):
    x = rng.normal(size=(tokens, columns)).astype(np.float32)
    if name == "extreme":
        return np.where(rng.random((tokens, 1)) < 0.5, np.float32(1), np.sign(x)).astype(np.float32)
    if tokens > 9:
        x[2] = 0
        x[3] = np.float32(1e-38)  # below the smallest peak
        x[4] = np.round(x[4] * 20) / 2  # ties, if the peak is 127
        x[4, 0] = 127
        x[5] *= 1e30
        x[6, columns // 2] = np.nan
        if quant != "fp32":  # else infinity times zero
            x[7, columns - 1] = -np.inf
    return x


def weights(rng, rows, columns, name, quant):
    if name != "extreme":
        return on_grid(rng, (rows, columns), quant)
    top = {"fp32": 3, "int8": 127, "int4": -8}[quant]
    signs = rng.choice([-1, 1], (rows, 1)) if quant != "int4" else 1
    return torch.from_numpy(np.full((rows, columns), top * 0.25, dtype=np.float32) * signs).float()


def write_tiles(path: Path, name: str, quant: str, seed: int) -> None:
    rows, columns, tokens = SHAPES[name]
    rng = np.random.default_rng(seed)
    weight = weights(rng, rows, columns, name, quant)
    x = activations(rng, tokens, columns, name, quant)
    factor = rng.normal(size=tokens).astype(np.float32)
    w = oracle.rows(weight)
    want, bound, q, scale = [], [], [], []
    for t in range(tokens):
        if not np.isfinite(x[t]).all():
            want.append([math.nan] * rows)
            bound.append([0.0] * rows)
            q.append([0] * columns)
            scale.append(math.nan)
            continue
        (y,), (error,) = oracle.linear(oracle.rows(x[t : t + 1]), w, quant, scale=float(factor[t]))
        want.append(y)
        bound.append([e + oracle.SMALLEST for e in error])
        values, step, *_ = oracle.quantize_row([float(v) for v in x[t]], [0.0] * columns)
        q.append(values)
        scale.append(step)
    with open(path / f"{name}-{quant}.tiles", "wb") as file:
        file.write(struct.pack("<4I", QUANTS.index(quant), rows, columns, tokens))
        file.write(pack.tiles(weight, quant))
        file.write(x.tobytes())
        if quant != "fp32":
            padded = -(-columns // (8 if quant == "int8" else 32)) * (8 if quant == "int8" else 32)
            q = np.pad(np.array(q, dtype=np.int8), ((0, 0), (0, padded - columns)))
            file.write(q.tobytes() + np.array(scale, dtype="<f4").tobytes())
            if quant == "int4":
                file.write((-8 * q.astype("<i4").reshape(tokens, -1, 32).sum(axis=2, dtype="<i4")).astype("<i4").tobytes())
        file.write(factor.tobytes())
        file.write(np.array(want, dtype="<f8").tobytes() + np.array(bound, dtype="<f8").tobytes())


def vector_record(a: float, x: np.ndarray, y: np.ndarray) -> bytes:
    a, u, smallest = float(np.float32(a)), oracle.U, oracle.SMALLEST
    n = len(x)
    dx, dy = [float(v) for v in x], [float(v) for v in y]
    products = [p * q for p, q in zip(dx, dy, strict=True)]
    pairs = [(math.fsum(products), n * u * math.fsum(map(abs, products)) + smallest)]
    for p, q in zip(dx, dy, strict=True):
        pairs.append((q + a * p, u * abs(a * p) + u * abs(q + a * p) * (1 + u) + smallest))
    pairs += [(a * q, u * abs(a * q) + smallest) for q in dy]
    pairs += [(oracle.silu(v), 4 * u * abs(oracle.silu(v)) + smallest) for v in dx]
    return struct.pack("<If", n, a) + x.tobytes() + y.tobytes() + np.array(pairs, dtype="<f8").tobytes()


def write_vectors(path: Path) -> None:
    rng = np.random.default_rng(3)
    records = []
    for n in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 130):
        x, y = (4 * rng.normal(size=n).astype(np.float32) for _ in range(2))
        records.append(vector_record(rng.normal(), x, y))
    edges = [0.0, -0.0, 1e-30, -1e-30, 1e-42, 0.5, -0.5, -87.0, -88.0, -88.6, -89.0, -100.0, -103.9, -104.1, -1000.0, -3e38]
    edges += [87.0, 88.0, 89.0, 104.0, 1000.0]
    grid = np.concatenate([np.array(edges), np.linspace(-30, 30, 20_001), np.linspace(-0.1, 0.1, 1001), -np.arange(30, 88.7, 0.1)])
    x = grid.astype(np.float32)
    records.append(vector_record(0.5, x, np.ones_like(x)))
    (path / "functions.vectors").write_bytes(struct.pack("<I", len(records)) + b"".join(records))


def write_cases(path: Path) -> int:
    """Writes all cases; returns their number."""
    for seed, name in enumerate(SHAPES):
        for quant in QUANTS:
            write_tiles(path, name, quant, seed)
    write_vectors(path)
    return len(SHAPES) * len(QUANTS) + 1
