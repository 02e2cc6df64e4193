"""Packs weights into the bytes that the kernels read in place; nothing is re-packed on a device.

All little-endian. A tile holds 8 output rows; rows past the end are zero. With K padded to a
multiple of 8 (int8) or 32 (int4) columns:
  fp32   [K][8] float, padded to 64 bytes
  int8   [K/8][8 rows][8 columns] int8, then 8 float16 scales, 8 int32 row sums, 16 zero bytes
  int4   [K/32][2][8 rows][8 bytes]: byte b of half h holds column 8h+b of its group in the low
         nibble and column 16+8h+b in the high one, each as value + 8; then [K/32][8] float16 scales,
         padded to 64 bytes
Eight rows by eight columns of int8 are what one 64-byte load feeds to the dot-product instructions
of x86 (VNNI) and ARM (sdot, smmla).

Matrix   64-byte header: "BFMX", u16 version, u8 quant, u8 0, u32 groups, u32 rows, u32 columns, zeros;
         then groups * ceil(rows/8) tiles.
FFN      128-byte header: "BFFF", u16 version, u8 quant, u8 norm, u32 D, u32 F, u32 E, f32 eps,
         f32 norm_scale, f32 out_scale, u64 offsets of router, norm weight and first expert, u64
         expert stride, zeros; the router matrix; float norm weight [E]; per expert the tiles of up
         [F, D], then of down [D, F]. An expert that is never active is never read, so regions start
         on pages where that costs little.
"""

import struct
from typing import Iterator

import numpy as np
from torch import Tensor

from export.precisions import QUANTS
from export.quantize import BLOCK_ELEMENTS, GROUP, QuantizedWeight, finite, quantize_weight, router_quant

VERSION = 1
ALIGN = 64
TILE_ROWS = 8
PAGE = 16384  # of newer phones; a multiple of the 4096 of all others
NORMS = ("none", "rms", "sum")


def _pad(data: bytes, multiple: int = ALIGN) -> bytes:
    return data + bytes(-len(data) % multiple)


def _tiles(rows: np.ndarray, columns: int) -> np.ndarray:
    """[N, K] -> [tiles, 8, columns], zero-padded."""
    n, k = rows.shape
    padded = np.zeros((-(-n // TILE_ROWS) * TILE_ROWS, columns), dtype=rows.dtype)
    padded[:n, :k] = rows
    return padded.reshape(-1, TILE_ROWS, columns)


def _fp32_tiles(weight_NK: Tensor) -> bytes:
    tiles = _tiles(finite(weight_NK.float()).numpy().astype("<f4"), weight_NK.shape[1]).transpose(0, 2, 1)
    return _join(np.ascontiguousarray(tiles).view(np.uint8).reshape(len(tiles), -1))


def _int8_tiles(weight: QuantizedWeight) -> bytes:
    k = -(-weight.values_NK.shape[1] // 8) * 8
    values = _tiles(weight.values_NK.numpy(), k)
    count = len(values)
    body = values.reshape(count, TILE_ROWS, k // 8, 8).transpose(0, 2, 1, 3)
    scales = _tiles(weight.scales_NG.numpy().astype("<f2"), 1)
    sums = values.astype("<i4").sum(axis=2, dtype="<i4")
    return _join(
        np.ascontiguousarray(body).view(np.uint8).reshape(count, -1),
        np.ascontiguousarray(scales).view(np.uint8).reshape(count, -1),
        sums.view(np.uint8).reshape(count, -1),
    )


def _int4_tiles(weight: QuantizedWeight) -> bytes:
    groups = weight.scales_NG.shape[1]
    values = (_tiles(weight.values_NK.numpy(), groups * GROUP) + 8).astype(np.uint8)
    count = len(values)
    # [tiles, rows, groups, nibble, half, byte]: columns 0..15 of a group are low nibbles.
    split = values.reshape(count, TILE_ROWS, groups, 2, 2, 8)
    body = (split[:, :, :, 0] | split[:, :, :, 1] << 4).transpose(0, 2, 3, 1, 4)
    scales = _tiles(weight.scales_NG.numpy().astype("<f2"), groups).transpose(0, 2, 1)
    return _join(
        np.ascontiguousarray(body).reshape(count, -1),
        np.ascontiguousarray(scales).view(np.uint8).reshape(count, -1),
    )


def _join(*parts: np.ndarray) -> bytes:
    """Concatenates byte rows per tile and pads every tile to 64 bytes."""
    tiles = np.concatenate(parts, axis=1)
    return np.pad(tiles, ((0, 0), (0, -tiles.shape[1] % ALIGN))).tobytes()


def tiles(weight_NK: Tensor, quant: str) -> bytes:
    """Tiles of one matrix [N, K] without a header."""
    if quant == "fp32":
        return _fp32_tiles(weight_NK)
    quantized = quantize_weight(weight_NK, quant)
    return _int8_tiles(quantized) if quant == "int8" else _int4_tiles(quantized)


def matrix_pieces(weight: Tensor, quant: str) -> Iterator[bytes]:
    """Packs [N, K], or [groups, N, K] for one matrix per head, a block of rows at a time: quantizing a
    whole embedding at once would take several times its size."""
    weight = weight.detach()
    stacked = weight if weight.dim() == 3 else weight[None]
    groups, rows, columns = stacked.shape
    header = struct.pack("<4sHBBIII", b"BFMX", VERSION, QUANTS.index(quant), 0, groups, rows, columns)
    yield _pad(header)
    step = max(BLOCK_ELEMENTS // columns // TILE_ROWS, 1) * TILE_ROWS
    for g in range(groups):
        for row in range(0, rows, step):
            yield tiles(stacked[g, row : row + step], quant)


def pack_matrix(weight: Tensor, quant: str) -> bytes:
    """matrix_pieces in one."""
    return b"".join(matrix_pieces(weight, quant))


def pack_ffn(
    router_ED: Tensor,
    router_norm_E: Tensor,
    up_EFD: Tensor,
    down_EDF: Tensor,
    norm: str,
    eps: float,
    norm_scale: float,
    out_scale: float,
    quant: str,
):
    """Yields the bytes of one FFN piece by piece, so that a layer never exists twice in memory."""
    experts, width, hidden = up_EFD.shape
    router = _pad(pack_matrix(router_ED, router_quant(quant)))
    norm_weight = _pad(finite(router_norm_E.detach().float()).numpy().astype("<f4").tobytes())
    first_up = tiles(up_EFD[0].detach(), quant)
    region = len(first_up) + len(tiles(down_EDF[0].detach(), quant))
    page = PAGE if region >= 16 * PAGE else ALIGN  # padding stays below 1/16
    router_at = 128
    norm_at = router_at + len(router)
    experts_at = -(-(norm_at + len(norm_weight)) // page) * page
    stride = -(-region // page) * page
    header = struct.pack(
        "<4sHBBIIIfffQQQQ",
        *(b"BFFF", VERSION, QUANTS.index(quant), NORMS.index(norm), hidden, width, experts),
        *(eps, norm_scale, out_scale, router_at, norm_at, experts_at, stride),
    )
    front = _pad(header, 128) + router + norm_weight
    yield front + bytes(experts_at - len(front))
    for e in range(experts):
        up = first_up if e == 0 else tiles(up_EFD[e].detach(), quant)
        yield _pad(up + tiles(down_EDF[e].detach(), quant), page)
