"""Bodies of the exported operators in stock ONNX operators, over the same packed bytes that our kernels read.

They make an exported file complete: a runtime without our operator library runs the bodies. Each is a function
of the file, written for the sizes of its weights; unpacking depends on constants only, so that a runtime folds it
once, when it loads the file.

Bounds  Activations are quantized exactly as the kernels do it. int8 rows are multiplied as whole numbers in float32:
        exact while 127 * 127 * K < 2^24 (K up to 1040), then off by at most K roundings of the sum of the magnitudes;
        int4 and float32 sum K products, each product of an int4 weight, its scale and an activation being exact.
Axes    T tokens, G stacked matrices, K input columns, N output rows, E experts, F expert width, D hidden, C rows of a
        cache, H query heads, X values of a cache row.
Source  export/ops.py for the arithmetic, export/pack.py for the bytes.
"""

import struct
from dataclasses import dataclass

import numpy as np
from onnx import FunctionProto, TensorProto, helper, numpy_helper

from export.pack import ALIGN, NORMS, TILE_ROWS
from export.precisions import QUANTS
from export.quantize import GROUP, SMALLEST_PEAK, router_quant

MATRIX_HEADER, FFN_HEADER = 64, 128
EVERYTHING = 2**62  # the end of a slice that has none


class Body:
    """Nodes of one function: body.Kind(inputs..., attributes) adds an operator and returns its result's name."""

    def __init__(self, inputs: list[str], prefix: str = "") -> None:
        self.inputs, self.nodes, self._constants, self._prefix = inputs, [], {}, prefix

    def __getattr__(self, kind: str):
        if not kind[0].isupper():
            raise AttributeError(kind)
        return lambda *inputs, outputs=1, **attributes: self.node(kind, inputs, outputs, **attributes)

    def node(self, kind: str, inputs, outputs: int = 1, domain: str = "", **attributes):
        names = [f"{self._prefix}{kind}_{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        # The name matters: an optimization of ONNX Runtime 1.21 derives new names from it.
        self.nodes.append(helper.make_node(kind, list(inputs), names, names[0], domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value, dtype) -> str:
        array = np.asarray(value, dtype)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.node("Constant", [], value=numpy_helper.from_array(array))
        return self._constants[key]

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def float(self, value: float) -> str:
        return self.constant(value, np.float32)

    def slice(self, x: str, start: int | str, end: int | str, axis: int) -> str:
        start, end = (self.ints(v) if isinstance(v, int) else v for v in (start, end))
        return self.Slice(x, start, end, self.ints(axis))

    def function(self, domain: str, name: str, outputs: list[str], opsets) -> FunctionProto:
        """The function; `outputs` are names of results, which appear under names of their own."""
        nodes = list(self.nodes)
        nodes += [helper.make_node("Identity", [result], [f"out_{i}"]) for i, result in enumerate(outputs)]
        return helper.make_function(domain, name, self.inputs, [f"out_{i}" for i in range(len(outputs))], nodes, opsets)


@dataclass(frozen=True)
class Matrix:
    """What the header of a packed matrix says."""

    quant: str
    groups: int
    rows: int
    cols: int

    @staticmethod
    def read(header: bytes) -> "Matrix":
        _, _, quant, _, groups, rows, cols = struct.unpack_from("<4sHBBIII", header)
        return Matrix(QUANTS[quant], groups, rows, cols)

    @property
    def tiles(self) -> int:
        return self.groups * -(-self.rows // TILE_ROWS)

    @property
    def padded_cols(self) -> int:
        multiple = {"fp32": 1, "int8": 8, "int4": GROUP}[self.quant]
        return -(-self.cols // multiple) * multiple

    @property
    def tile_bytes(self) -> int:
        k = self.padded_cols
        size = {"fp32": 4 * k * TILE_ROWS, "int8": k * TILE_ROWS + ALIGN, "int4": k * TILE_ROWS // 2 + k // GROUP * 16}
        return -(-size[self.quant] // ALIGN) * ALIGN


@dataclass(frozen=True)
class Ffn:
    """What the header of a packed FFN says."""

    quant: str
    norm: str
    hidden: int
    width: int
    experts: int
    eps: float
    norm_scale: float
    out_scale: float
    router_at: int
    norm_at: int
    experts_at: int
    stride: int

    @staticmethod
    def read(header: bytes) -> "Ffn":
        _, _, quant, norm, *rest = struct.unpack_from("<4sHBBIIIfffQQQQ", header)
        return Ffn(QUANTS[quant], NORMS[norm], *rest)

    @property
    def router(self) -> Matrix:
        return Matrix(router_quant(self.quant), 1, self.experts, self.hidden)

    @property
    def up(self) -> Matrix:
        return Matrix(self.quant, self.experts, self.width, self.hidden)

    @property
    def down(self) -> Matrix:
        return Matrix(self.quant, self.experts, self.hidden, self.width)


def element_bytes(quant: str) -> int:
    """Packed weights of float32 are tensors of floats, others of bytes."""
    return 4 if quant == "fp32" else 1


def tiles_at(f: Body, w: str, at: int, m: Matrix) -> str:
    """[tiles, elements of a tile] that start `at` bytes into the packed weights w."""
    size = element_bytes(m.quant)
    part = f.slice(w, at // size, (at + m.tiles * m.tile_bytes) // size, 0)
    return f.Reshape(part, f.ints(-1, m.tile_bytes // size))


def half(f: Body, pairs: str) -> str:
    """float16 bytes [..., 2] -> float32 [..., 1]; every step is exact."""
    low, high = f.Split(f.Cast(pairs, to=TensorProto.INT32), outputs=2, axis=-1, num_outputs=2)
    i32 = lambda value: f.constant(value, np.int32)  # noqa: E731
    exponent = f.Div(f.Mod(high, i32(128)), i32(4))
    fraction = f.Add(f.Mul(f.Mod(high, i32(4)), i32(256)), low)
    fraction = f.Where(f.Greater(exponent, i32(0)), f.Add(fraction, i32(1024)), fraction)
    shift = f.Cast(f.Max(f.Sub(exponent, i32(1)), i32(0)), to=TensorProto.UINT32)
    power = f.BitShift(f.constant(1, np.uint32), shift, direction="LEFT")
    value = f.Mul(f.Cast(fraction, to=TensorProto.FLOAT), f.Cast(power, to=TensorProto.FLOAT))
    return f.Mul(value, f.Where(f.Less(high, i32(128)), f.float(2.0**-24), f.float(-(2.0**-24))))


def floats_of_bytes(f: Body, quads: str) -> str:
    """Little-endian float32 bytes [n, 4] -> float32 [n]; subnormal ones become zero."""
    b0, b1, b2, b3 = f.Split(f.Cast(quads, to=TensorProto.INT32), outputs=4, axis=-1, num_outputs=4)
    i32 = lambda value: f.constant(value, np.int32)  # noqa: E731
    fraction = f.Add(f.Add(f.Mul(f.Mod(b2, i32(128)), i32(65536)), f.Mul(b1, i32(256))), b0)
    exponent = f.Add(f.Mul(f.Mod(b3, i32(128)), i32(2)), f.Div(b2, i32(128)))
    powers = f.constant([0.0] + [2.0 ** (e - 127) for e in range(1, 255)] + [np.inf], np.float32)
    one_and = f.Add(f.Mul(f.Cast(fraction, to=TensorProto.FLOAT), f.float(2.0**-23)), f.float(1.0))
    value = f.Mul(one_and, f.Gather(powers, exponent))
    return f.Reshape(f.Where(f.Less(b3, i32(128)), value, f.Neg(value)), f.ints(-1))


def unpack(f: Body, tiles: str, m: Matrix) -> tuple[str, str | None]:
    """tiles [G * n, elements] -> weights [G, K, N] and, for int8, their scales [G, 1, N] still to be applied.

    G is taken from the tiles, which may be some of the matrix' only.
    """
    n, k = -(-m.rows // TILE_ROWS), m.padded_cols

    def assembled(x: str, shape: tuple, order: tuple, columns: int) -> str:
        x = f.Transpose(f.Reshape(x, f.ints(-1, n, *shape)), perm=order)
        return f.Reshape(x, f.ints(-1, columns, n * TILE_ROWS))

    def trimmed(x: str) -> str:
        if k > m.cols:
            x = f.slice(x, 0, m.cols, 1)
        return f.slice(x, 0, m.rows, 2) if m.rows % TILE_ROWS else x

    if m.quant == "fp32":
        values = f.slice(tiles, 0, k * TILE_ROWS, 1)
        return trimmed(assembled(values, (k, TILE_ROWS), (0, 2, 1, 3), k)), None
    if m.quant == "int8":
        values = f.slice(tiles, 0, k * TILE_ROWS, 1)
        values = f.Cast(trimmed(assembled(values, (k // 8, 8, 8), (0, 2, 4, 1, 3), k)), to=TensorProto.FLOAT)
        values = f.Where(f.Greater(values, f.float(127)), f.Sub(values, f.float(256)), values)
        scales = f.slice(tiles, k * TILE_ROWS, k * TILE_ROWS + 16, 1)
        scales = f.Reshape(half(f, f.Reshape(scales, f.ints(-1, 2))), f.ints(-1, 1, n * TILE_ROWS))
        return values, f.slice(scales, 0, m.rows, 2) if m.rows % TILE_ROWS else scales
    groups = k // GROUP
    values = f.slice(tiles, 0, k * TILE_ROWS // 2, 1)
    values = f.Transpose(f.Reshape(values, f.ints(-1, n, groups, 2, 8, 8)), perm=(0, 2, 3, 5, 1, 4))
    values = f.Reshape(values, f.ints(-1, groups, 16, n * TILE_ROWS))  # 16 bytes of a group: its low, its high nibbles
    low = f.BitwiseAnd(values, f.constant(15, np.uint8))
    high = f.BitShift(values, f.constant(4, np.uint8), direction="RIGHT")
    values = f.Sub(f.Cast(f.Concat(low, high, axis=2), to=TensorProto.FLOAT), f.float(8))
    scales = f.slice(tiles, k * TILE_ROWS // 2, k * TILE_ROWS // 2 + groups * 16, 1)
    scales = f.Reshape(half(f, f.Reshape(scales, f.ints(-1, 2))), f.ints(-1, n, groups, TILE_ROWS))
    scales = f.Reshape(f.Transpose(scales, perm=(0, 2, 1, 3)), f.ints(-1, groups, 1, n * TILE_ROWS))
    return trimmed(f.Reshape(f.Mul(values, scales), f.ints(-1, k, n * TILE_ROWS))), None


def matmul(f: Body, x: str, tiles: str, m: Matrix) -> str:
    """x [G or 1, T, K] times the matrices -> [G, T, N], in the arithmetic of their precision."""
    weights, scales = unpack(f, tiles, m)
    if m.quant == "fp32":
        return f.MatMul(x, weights)
    peak = f.ReduceMax(f.Abs(x), f.ints(-1), keepdims=1)
    tiny = f.Less(peak, f.float(SMALLEST_PEAK))
    inverse = f.Where(tiny, f.float(0), f.Div(f.float(127), f.Where(tiny, f.float(1), peak)))
    y = f.MatMul(f.Round(f.Mul(x, inverse)), weights)
    step = f.Div(peak, f.float(127))
    return f.Mul(f.Mul(y, scales) if scales else y, step)


def per_group(f: Body, x: str, w: str, m: Matrix) -> str:
    """x [T, G, K], every group with its own matrix -> [T, G, N]."""
    y = matmul(f, f.Transpose(x, perm=(1, 0, 2)), tiles_at(f, w, MATRIX_HEADER, m), m)
    return f.Transpose(y, perm=(1, 0, 2))


def scaled(f: Body, x: str, scale: float) -> str:
    return x if scale == 1 else f.Mul(x, f.float(scale))


def embedding(f: Body, ids: str, w: str, m: Matrix, scale: float) -> str:
    ids = f.Reshape(ids, f.ints(-1))
    tiles = f.Gather(tiles_at(f, w, MATRIX_HEADER, m), f.Div(ids, f.ints(TILE_ROWS)))
    rows, scales = unpack(f, tiles, Matrix(m.quant, 1, TILE_ROWS, m.cols))
    rows = f.Transpose(f.Mul(rows, scales) if scales else rows, perm=(0, 2, 1))
    row = f.Unsqueeze(f.Mod(ids, f.ints(TILE_ROWS)), f.ints(1))
    return scaled(f, f.GatherND(rows, row, batch_dims=1), scale)


def rms_norm(f: Body, x: str, weight: str, eps: float) -> str:
    mean = f.ReduceMean(f.Mul(x, x), f.ints(-1), keepdims=1)
    return f.Mul(f.Mul(x, f.Reciprocal(f.Sqrt(f.Add(mean, f.float(eps))))), weight)


def linear(f: Body, x: str, w: str, bias: str | None, m: Matrix, scale: float) -> str:
    y = per_group(f, f.Reshape(x, f.ints(-1, m.groups, m.cols)), w, m)
    y = scaled(f, f.Reshape(y, f.ints(-1, m.groups * m.rows)), scale)
    return y if bias is None else f.Add(y, bias)


def logits(f: Body, x: str, w: str, start: str, m: Matrix, scale: float) -> str:
    y = matmul(f, f.Reshape(x, f.ints(1, -1, m.cols)), tiles_at(f, w, MATRIX_HEADER, m), m)
    tokens = f.Squeeze(f.Shape(y, start=1, end=2))
    wanted = f.GreaterOrEqual(f.Range(f.constant(0, np.int64), tokens, f.constant(1, np.int64)), start)
    return f.Where(f.Unsqueeze(wanted, f.ints(1)), scaled(f, y, scale), f.float(0))


def silu(f: Body, x: str) -> str:
    """Without Sigmoid, which ONNX Runtime approximates."""
    return f.Div(x, f.Add(f.float(1), f.Exp(f.Neg(x))))


def silu_mul(f: Body, gate: str, up: str) -> str:
    return f.Mul(silu(f, gate), up)


def add(f: Body, a: str, b: str) -> str:
    return f.Add(a, b)


def chunk_sparse_ffn(f: Body, x: str, w: str, ffn: Ffn) -> str:
    """Every expert for every token, the inactive ones with weight zero."""
    x = f.Unsqueeze(x, f.ints(0))
    scores = f.Relu(matmul(f, x, tiles_at(f, w, ffn.router_at + MATRIX_HEADER, ffn.router), ffn.router))
    if ffn.norm == "rms":
        size = element_bytes(ffn.quant)
        norm = f.slice(w, ffn.norm_at // size, (ffn.norm_at + 4 * ffn.experts) // size, 0)
        if size == 1:
            norm = floats_of_bytes(f, f.Reshape(norm, f.ints(-1, 4)))
        scores = rms_norm(f, scores, norm, ffn.eps)
    elif ffn.norm == "sum":
        total = f.ReduceSum(scores, f.ints(-1), keepdims=1)
        scores = f.Div(scores, f.Add(f.Mul(total, f.float(ffn.norm_scale)), f.float(1e-5)))
    size = element_bytes(ffn.quant)
    region = f.slice(w, ffn.experts_at // size, (ffn.experts_at + ffn.experts * ffn.stride) // size, 0)
    region = f.Reshape(region, f.ints(ffn.experts, ffn.stride // size))
    up_elements, down_elements = (m.tiles // ffn.experts * m.tile_bytes // size for m in (ffn.up, ffn.down))
    up = f.Reshape(f.slice(region, 0, up_elements, 1), f.ints(-1, ffn.up.tile_bytes // size))
    down = f.slice(region, up_elements, up_elements + down_elements, 1)
    down = f.Reshape(down, f.ints(-1, ffn.down.tile_bytes // size))
    hidden = matmul(f, x, up, ffn.up)
    y = matmul(f, silu(f, hidden), down, ffn.down)
    weight = f.Transpose(scaled(f, scores, ffn.out_scale), perm=(2, 1, 0))  # [E, T, 1]
    return f.ReduceSum(f.Mul(y, weight), f.ints(0), keepdims=0)


def rotate(f: Body, x: str, positions: str, inv_freq: str) -> str:
    """x [T, heads, R], rotate-half."""
    angle = f.Mul(f.Unsqueeze(f.Cast(positions, to=TensorProto.FLOAT), f.ints(1, 2)), inv_freq)  # [T, 1, R/2]
    cos, sin = f.Cos(angle), f.Sin(angle)
    low, high = f.Split(x, outputs=2, axis=-1, num_outputs=2)
    return f.Concat(f.Sub(f.Mul(low, cos), f.Mul(high, sin)), f.Add(f.Mul(high, cos), f.Mul(low, sin)), axis=-1)


def updated(f: Body, cache: str, rows: str, n_past: str, kv_src: str, capacity: int) -> str:
    """The cache [C, X] after compaction of the previous chunk and with the new rows [T, X]."""
    kept = f.ReduceSum(f.Cast(f.GreaterOrEqual(kv_src, f.ints(0)), to=TensorProto.INT64), keepdims=1)
    base = f.Sub(n_past, kept)
    zero, one, last = (f.constant(value, np.int64) for value in (0, 1, 63))
    row = f.Range(zero, f.constant(capacity, np.int64), one)
    moved = f.Gather(kv_src, f.Clip(f.Sub(row, base), zero, last))
    new = f.Add(f.Sub(row, n_past), f.ints(capacity))
    end = f.Add(n_past, f.Shape(rows, start=0, end=1))
    source = f.Where(f.Less(row, end), new, row)
    source = f.Where(f.Less(row, n_past), f.Add(base, moved), source)
    source = f.Where(f.Less(row, base), row, source)
    return f.Gather(f.Concat(cache, rows, axis=0), source, axis=0)


def attend(f: Body, q: str, keys: str, values: str, n_past: str, mask: str, heads: int, groups: int, dims: tuple[int, int],
           scale: float, tree_rows: str | None = None) -> str:
    """q [T, H * K], keys [C, G * K], values [C, G * V] -> [T, H, V] over the past and the visible nodes of the tree."""
    repeat, (key_dim, value_dim) = heads // groups, dims
    count = f.Add(n_past, f.Shape(q, start=0, end=1))
    keys = f.Reshape(f.slice(keys, 0, count, 0), f.ints(-1, groups, key_dim))
    values = f.Reshape(f.slice(values, 0, count, 0), f.ints(-1, groups, value_dim))
    q = f.Transpose(f.Reshape(q, f.ints(-1, groups, repeat, key_dim)), perm=(1, 2, 0, 3))
    q = f.Reshape(q, f.ints(groups, -1, key_dim))
    scores = f.MatMul(q, f.Transpose(keys, perm=(1, 2, 0)))  # [G, H/G * T, C]
    column = f.Sub(f.Range(f.constant(0, np.int64), f.Squeeze(count), f.constant(1, np.int64)),
                   n_past if tree_rows is None else f.Sub(n_past, tree_rows))
    bit = f.Cast(f.Clip(column, f.constant(0, np.int64), f.constant(63, np.int64)), to=TensorProto.UINT64)
    bits = f.BitShift(f.Unsqueeze(f.Cast(mask, to=TensorProto.UINT64), f.ints(1)), bit, direction="RIGHT")
    bits = f.Cast(f.BitwiseAnd(bits, f.constant(1, np.uint64)), to=TensorProto.BOOL)
    visible = f.Or(f.Less(column, f.ints(0)), bits)  # [T, C]
    tokens = f.Shape(mask, start=0, end=1)
    split = f.Concat(f.ints(groups * repeat), tokens, f.ints(-1), axis=0)
    scores = f.Where(visible, f.Mul(f.Reshape(scores, split), f.float(scale)), f.float(-np.inf))
    weights = f.Reshape(f.Softmax(scores, axis=-1), f.Concat(f.ints(groups, -1), count, axis=0))
    y = f.Reshape(f.MatMul(weights, f.Transpose(values, perm=(1, 0, 2))), f.Concat(f.ints(heads), tokens, f.ints(-1), axis=0))
    return f.Transpose(y, perm=(1, 0, 2))


def mla_attention(f: Body, q, kv, kv_norm, absorb, expand, inv_freq, cache, positions, n_past, mask, kv_src, *,
                  matrices: tuple[Matrix, Matrix], heads: int, nope: int, eps: float, capacity: int, rope: int) -> list[str]:
    absorb_m, expand_m = matrices
    latent, key_dim = absorb_m.rows, absorb_m.rows + rope
    normed = rms_norm(f, f.slice(kv, 0, latent, 1), kv_norm, eps)
    rotated = rotate(f, f.Unsqueeze(f.slice(kv, latent, latent + rope, 1), f.ints(1)), positions, inv_freq)
    cache = updated(f, cache, f.Concat(normed, f.Squeeze(rotated, f.ints(1)), axis=1), n_past, kv_src, capacity)
    q = f.Reshape(q, f.ints(-1, heads, nope + rope))
    query = per_group(f, f.slice(q, 0, nope, 2), absorb, absorb_m)
    query = f.Concat(query, rotate(f, f.slice(q, nope, nope + rope, 2), positions, inv_freq), axis=-1)
    context = attend(f, f.Reshape(query, f.ints(-1, heads * key_dim)), cache, f.slice(cache, 0, latent, 1), n_past, mask,
                     heads, 1, (key_dim, latent), (nope + rope) ** -0.5)
    y = per_group(f, context, expand, expand_m)
    return [f.Reshape(y, f.ints(-1, heads * expand_m.rows)), cache]


def gqa_attention(f: Body, q, k, v, inv_freq, key_cache, value_cache, positions, n_past, mask, kv_src, tree_rows=None, *,
                  heads: int, kv_heads: int, capacity: int, dim: int) -> list[str]:
    rotated = rotate(f, f.Reshape(k, f.ints(-1, kv_heads, dim)), positions, inv_freq)
    rotated = f.Reshape(rotated, f.ints(-1, kv_heads * dim))
    key_cache = updated(f, key_cache, rotated, n_past, kv_src, capacity)
    value_cache = updated(f, value_cache, v, n_past, kv_src, capacity)
    query = rotate(f, f.Reshape(q, f.ints(-1, heads, dim)), positions, inv_freq)
    y = attend(f, f.Reshape(query, f.ints(-1, heads * dim)), key_cache, value_cache, n_past, mask, heads, kv_heads,
               (dim, dim), dim**-0.5, tree_rows)
    return [f.Reshape(y, f.ints(-1, heads * dim)), key_cache, value_cache]
