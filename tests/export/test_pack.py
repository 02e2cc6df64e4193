"""The packed bytes, read back by plain loops that follow the format's description."""

import struct

import numpy as np
import pytest
import torch

from export.pack import pack_ffn, pack_matrix
from tests.delegate.programs import on_grid

QUANTS = ("fp32", "int8", "int4")


def round_up(n, multiple):
    return -(-n // multiple) * multiple


def tile_bytes(quant, columns):
    if quant == "fp32":
        return round_up(columns * 32, 64)
    if quant == "int8":
        return round_up(columns, 8) * 8 + 64
    groups = -(-columns // 32)
    return groups * 128 + round_up(groups * 16, 64)


def element(tile, quant, row, k, columns):
    """Weight of one row of one tile, from the bytes."""
    if quant == "fp32":
        return struct.unpack_from("<f", tile, (k * 8 + row) * 4)[0]
    if quant == "int8":
        body = round_up(columns, 8) * 8
        (scale,) = struct.unpack_from("<e", tile, body + 2 * row)
        (q,) = struct.unpack_from("<b", tile, k // 8 * 64 + row * 8 + k % 8)
        return q * scale
    groups, group, i = -(-columns // 32), k // 32, k % 32
    (scale,) = struct.unpack_from("<e", tile, groups * 128 + (group * 8 + row) * 2)
    byte = tile[group * 128 + i % 16 // 8 * 64 + row * 8 + i % 8]
    return ((byte & 15 if i < 16 else byte >> 4) - 8) * scale


def unpack(data, quant, rows, columns):
    size = tile_bytes(quant, columns)
    return [
        [element(data[n // 8 * size : (n // 8 + 1) * size], quant, n % 8, k, columns) for k in range(columns)]
        for n in range(rows)
    ]


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 19, 37), (1, 8, 32), (3, 16, 65)], ids=str)
def test_matrix(quant, shape):
    groups, rows, columns = shape
    weight = on_grid(np.random.default_rng(0), shape, quant)
    data = pack_matrix(weight, quant)
    assert struct.unpack_from("<4sHBBIII", data) == (b"BFMX", 1, QUANTS.index(quant), 0, groups, rows, columns)
    tiles = -(-rows // 8)
    size = tiles * tile_bytes(quant, columns)
    assert len(data) == 64 + groups * size
    for g in range(groups):
        got = unpack(data[64 + g * size :], quant, tiles * 8, columns)
        assert got[:rows] == weight[g].tolist()
        assert all(not any(row) for row in got[rows:])  # padding rows are zero


def test_int8_tiles_hold_the_sums_of_their_rows():
    weight = on_grid(np.random.default_rng(1), (11, 21), "int8")
    data = pack_matrix(weight, "int8")[64:]
    for n in range(11):
        tile = data[n // 8 * tile_bytes("int8", 21) :]
        (scale,) = struct.unpack_from("<e", tile, 24 * 8 + 2 * (n % 8))
        (total,) = struct.unpack_from("<i", tile, 24 * 8 + 16 + 4 * (n % 8))
        assert total * scale == pytest.approx(weight[n].double().sum().item(), abs=1e-9)


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("norm", ["none", "rms", "sum"])
@pytest.mark.parametrize("sizes", [(37, 19, 5), (512, 256, 2)], ids=["small", "page-aligned"])
def test_ffn(quant, norm, sizes):
    D, F, E = sizes
    rng = np.random.default_rng(2)
    router_quant = "fp32" if quant == "fp32" else "int8"
    router, up, down = (
        on_grid(rng, (E, D), router_quant),
        on_grid(rng, (E, F, D), quant),
        on_grid(rng, (E, D, F), quant),
    )
    router_norm = torch.from_numpy(rng.normal(size=E).astype(np.float32))
    data = b"".join(pack_ffn(router, router_norm, up, down, norm, 1e-5, 0.25, 0.5, quant))
    (
        magic,
        version,
        quant_id,
        norm_id,
        *sizes_read,
        eps,
        norm_scale,
        out_scale,
        router_at,
        norm_at,
        experts_at,
        stride,
    ) = struct.unpack_from("<4sHBBIIIfffQQQQ", data)
    assert (magic, version, QUANTS[quant_id], ["none", "rms", "sum"][norm_id]) == (b"BFFF", 1, quant, norm)
    assert sizes_read == [D, F, E]
    assert (eps, norm_scale, out_scale) == (np.float32(1e-5), 0.25, 0.5)
    assert data[router_at:].startswith(pack_matrix(router, router_quant))
    assert struct.unpack_from(f"<{E}f", data, norm_at) == tuple(router_norm.tolist())
    up_size, down_size = -(-F // 8) * tile_bytes(quant, D), -(-D // 8) * tile_bytes(quant, F)
    large = up_size + down_size >= 16 * 16384
    assert experts_at % (16384 if large else 64) == 0 and stride % (16384 if large else 64) == 0
    assert len(data) == experts_at + E * stride
    for e in range(E) if D < 100 else [E - 1]:
        at = experts_at + e * stride
        rows = range(F) if D < 100 else range(0, F, 37)
        got = unpack(data[at : at + up_size], quant, F, D) if D < 100 else None
        for n in rows:
            size = tile_bytes(quant, D)
            tile = data[at + n // 8 * size : at + (n // 8 + 1) * size]
            row = got[n] if got else [element(tile, quant, n % 8, k, D) for k in range(D)]
            assert row == up[e, n].tolist()
        size = tile_bytes(quant, F)
        for n in range(0, D, 1 if D < 100 else 61):
            tile = data[at + up_size + n // 8 * size : at + up_size + (n // 8 + 1) * size]
            assert [element(tile, quant, n % 8, k, F) for k in range(F)] == down[e, n].tolist()
