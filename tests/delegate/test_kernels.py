"""The micro-kernels of every instruction set that this processor runs, one by one.

Each result is compared with float64 arithmetic on unpacked weights. All buffers lie between guards: a
write outside the output changes one, and a read outside the input meets values that spoil the result.

Bounds   u = 2^-24. An int8 product is an exact integer, then scaled: three roundings. int4 sums one
         product per group of 32 columns, in any number of lanes. A lane may hold a part of the group's
         product plus at most 4 * scale * sum|x|, the share of the offset 8 that the other lanes take off.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.pack import tiles
from tests.delegate.programs import on_grid

U = 2.0**-24
GUARD = 16
CANARY = np.float32(-7.25e29)
QUANTS = ("fp32", "int8", "int4")
TOKENS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 64)
# Output rows and columns: whole and partial tiles, one and several tiles at once, one and several groups.
SHAPES = ((8, 8), (16, 32), (5, 1), (21, 37), (64, 128), (93, 71), (72, 601))


@pytest.fixture(scope="session")
def library(backend):
    """tests/delegate/kernel_entry.cc, linked to the micro-kernels of the library's build folder."""
    folder = Path(sys.executable).parent
    cmake = shutil.which("cmake", path=f"{folder}{os.pathsep}{os.environ['PATH']}")
    build = backend.path.parent
    subprocess.run([cmake, "--build", build, "--target", "blockffn_kernel_test"], check=True, stdout=subprocess.DEVNULL)
    lib = ctypes.CDLL(str(build / "libblockffn_kernel_test.so"))
    lib.kernel_name.restype = ctypes.c_char_p
    lib.kernel_tile_bytes.restype = ctypes.c_uint64
    lib.kernel_softmax.restype = ctypes.c_float
    return lib


@pytest.fixture
def variant(request, library):
    """Number of the kernels named by the parameter; skips those that this processor lacks."""
    supported = ctypes.c_int()
    for i in range(100):
        name = library.kernel_name(i, ctypes.byref(supported))
        if name is None:
            pytest.skip(f"{request.param} is of another architecture")
        if name.decode() == request.param:
            if not supported.value:
                pytest.skip(f"this processor cannot run {request.param}")
            return i


NAMES = ("avx512_vnni", "avx_vnni", "avx2", "portable")
every_variant = pytest.mark.parametrize("variant", NAMES, indirect=True)


def test_every_variant_of_the_library_is_tested(backend):
    assert set(backend.variants) <= set(NAMES)
    assert backend.variants["portable"]


def pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


class Guarded:
    """Rows [tokens, n] of one array, each between guards."""

    def __init__(self, values, guard):
        self.guard = guard
        tokens, n = values.shape
        self.whole = np.full((tokens, n + 2 * GUARD), guard, dtype=values.dtype)
        self.inner = self.whole[:, GUARD:-GUARD]
        self.inner[:] = values

    @property
    def rows(self):
        return [row for row in self.inner]

    def intact(self):
        outside = np.concatenate([self.whole[:, :GUARD], self.whole[:, -GUARD:]], axis=1)
        return bool((outside == self.guard).all())


class Product:
    """y[T, N] (+)= factor * x w^T by one call of a micro-kernel, and what float64 says."""

    def __init__(self, quant, rows, cols, tokens, seed=0):
        rng = np.random.default_rng([seed, rows, cols])
        self.quant, self.rows, self.cols, self.tokens = quant, rows, cols, tokens
        weight = on_grid(rng, (rows, cols), quant)
        self.weight = weight.numpy().astype(np.float64)
        # What follows the tiles is not theirs: 0x7f bytes are large weights and scales that are not numbers.
        self.tiles = np.frombuffer(tiles(weight, quant) + b"\x7f" * 4096, dtype=np.uint8).copy()
        self.tile_count = -(-rows // 8)
        multiple = {"fp32": 1, "int8": 8, "int4": 32}[quant]
        padded = -(-cols // multiple) * multiple
        self.factor = rng.uniform(0.5, 2, tokens).astype(np.float32)
        if quant == "fp32":
            self.x = rng.normal(size=(tokens, cols)).astype(np.float32)
            self.inputs = Guarded(self.x, np.float32(np.nan))
        else:
            self.x = np.zeros((tokens, padded), dtype=np.int8)
            self.x[:, :cols] = rng.integers(-127, 128, (tokens, cols))
            self.x[0, :cols] = 127  # the largest sums
            self.x[-1, :cols] = -127
            self.inputs = Guarded(self.x, np.int8(127))
        self.starts = -8 * self.x.reshape(tokens, -1, 32).sum(axis=2, dtype=np.int32) if quant == "int4" else None
        self.before = rng.normal(size=(tokens, rows)).astype(np.float32)

    def run(self, library, variant, accumulate=False, tokens=slice(None), rows=None):
        y = Guarded(self.before[tokens], CANARY)
        x = self.inputs.rows[tokens]
        starts = pointers([s for s in self.starts[tokens]]) if self.starts is not None else None
        factor = self.factor[tokens].copy()
        library.kernel_tiles(
            *(variant, QUANTS.index(self.quant), pointer(self.tiles), self.tile_count, rows or self.rows, self.cols),
            *(len(x), pointers(x), starts, pointer(factor), pointers(y.rows), int(accumulate), pointer(self.tiles)),
        )
        return y

    def expected(self, accumulate):
        x = self.x[:, : self.cols].astype(np.float64)
        factor = self.factor.astype(np.float64)[:, None]
        value = factor * (x @ self.weight.T)
        if self.quant == "int8":
            bound = 4 * U * abs(value)
        elif self.quant == "int4":
            magnitude = np.zeros_like(value)
            for k in range(0, self.cols, 32):
                group = abs(self.weight[:, k : k + 32])
                scale = group.max(axis=1) / 8  # on_grid reaches -8 in every group
                magnitude += abs(x[:, k : k + 32]) @ (group + 4 * scale[:, None]).T
            bound = (-(-self.cols // 32) + 6) * U * factor * magnitude
        else:
            bound = (self.cols + 3) * U * factor * (abs(x) @ abs(self.weight).T)
        if accumulate:
            value = value + self.before
            bound = bound + U * abs(value)
        return value, bound


@every_variant
@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("accumulate", [False, True], ids=["set", "add"])
def test_tiles_match_float64_and_stay_inside(library, variant, quant, accumulate):
    for rows, cols in SHAPES:
        for tokens in TOKENS:
            product = Product(quant, rows, cols, tokens)
            y = product.run(library, variant, accumulate)
            value, bound = product.expected(accumulate)
            wrong = ~(abs(y.inner - value) <= bound)
            assert not wrong.any(), f"{rows}x{cols}, {tokens} tokens: {wrong.sum()} of {wrong.size} are wrong"
            assert y.intact(), f"{rows}x{cols}, {tokens} tokens: wrote outside the output"
            assert np.median(bound) < 1e-3 * np.sqrt(np.mean(np.square(value))), "the bound proves nothing"


@every_variant
@pytest.mark.parametrize("quant", QUANTS)
def test_a_token_has_the_same_bits_in_every_call(library, variant, quant):
    for rows, cols in SHAPES:
        product = Product(quant, rows, cols, 64)
        whole = product.run(library, variant).inner
        for tokens in (1, 2, 3, 4, 5, 6, 7, 8, 11):
            for first in (0, 17):
                part = product.run(library, variant, tokens=slice(first, first + tokens)).inner
                assert np.array_equal(part, whole[first : first + tokens]), f"{rows}x{cols}, {tokens} tokens"


@every_variant
@pytest.mark.parametrize("quant", QUANTS)
def test_the_guards_notice_a_row_too_many(library, variant, quant):
    assert not Product(quant, 21, 37, 3).run(library, variant, rows=22).intact()


@every_variant
def test_rows_are_quantized_to_the_bit(library, variant):
    rng = np.random.default_rng(1)
    for cols in (1, 7, 8, 15, 16, 31, 32, 33, 100, 640):
        for multiple in (8, 32):
            x = (rng.normal(size=cols) * 10.0 ** rng.integers(-30, 30)).astype(np.float32)
            if cols > 32:  # ties: 127 / peak is 1, and halves are exact
                x = (rng.integers(-253, 254, cols) / 2).astype(np.float32)
                x[5] = -127
            padded = -(-cols // multiple) * multiple
            values = Guarded(x[None], np.float32(np.inf))
            q = Guarded(np.full((1, padded), 99, dtype=np.int8), np.int8(55))
            starts = Guarded(np.full((1, max(padded // 32, 1)), 12345, dtype=np.int32), np.int32(-777))
            scale = np.zeros(1, dtype=np.float32)
            library.kernel_quantize_row(
                *(variant, pointer(values.inner), cols, padded, pointer(q.inner), pointer(scale)),
                pointer(starts.inner) if multiple == 32 else None,
            )
            peak = abs(x).max()
            want = np.zeros(padded, dtype=np.int8)
            want[:cols] = np.rint(x * (np.float32(127) / peak))  # numpy rounds half to even
            assert np.array_equal(q.inner[0], want)
            assert scale[0] == peak / np.float32(127)
            if multiple == 32:
                assert np.array_equal(starts.inner[0], -8 * want.astype(int).reshape(-1, 32).sum(axis=1))
            assert q.intact() and starts.intact()


@every_variant
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, 0.0, 9e-37])
def test_rows_that_cannot_be_quantized(library, variant, bad):
    for cols in (1, 33):
        x = np.zeros(cols, dtype=np.float32)
        x[-1] = bad
        q = np.full(64, 99, dtype=np.int8)
        starts, scale = np.full(2, 12345, dtype=np.int32), np.full(1, 5, dtype=np.float32)
        library.kernel_quantize_row(variant, pointer(x), cols, 64, pointer(q), pointer(scale), pointer(starts))
        assert not q.any() and not starts.any()
        assert scale[0] == 0 if np.isfinite(bad) else np.isnan(scale[0])


@every_variant
def test_vector_functions(library, variant):
    rng = np.random.default_rng(2)
    for n in (*range(1, 36), 160, 321):
        a, b, c = (rng.normal(size=(1, n)).astype(np.float32) for _ in range(3))
        factor = float(np.float32(rng.normal()))
        x, y = Guarded(a, np.float32(np.nan)), Guarded(b, CANARY)
        library.kernel_axpy(variant, ctypes.c_float(factor), pointer(x.inner), pointer(y.inner), n)
        want = b.astype(np.float64) + factor * a.astype(np.float64)
        assert (abs(y.inner - want) <= U * (abs(factor * a) + abs(want))).all() and y.intact()
        y = Guarded(c, CANARY)
        library.kernel_scale(variant, ctypes.c_float(factor), pointer(y.inner), n)
        assert np.array_equal(y.inner, c * np.float32(factor)) and y.intact()


KEY_BLOCK = 16  # kKeyBlock of contract.h


@every_variant
def test_dots_and_weighted_sum(library, variant):
    rng = np.random.default_rng(3)

    def scores(queries, keys, n):
        out = Guarded(np.full((1, len(queries) * KEY_BLOCK), CANARY, dtype=np.float32), CANARY)
        library.kernel_dots(variant, pointers(queries), len(queries), pointers(keys), len(keys), n, pointer(out.inner))
        table = out.inner.reshape(len(queries), KEY_BLOCK)
        assert out.intact() and (table[:, len(keys):] == CANARY).all()
        return table[:, : len(keys)]

    for n in (1, 7, 8, 15, 16, 17, 33, 64, 65, 128, 160, 333):
        queries, keys = (Guarded(rng.normal(size=(count, n)).astype(np.float32), np.float32(np.nan))
                         for count in (5, KEY_BLOCK))
        q, k = queries.inner.astype(np.float64), keys.inner.astype(np.float64)
        whole = scores(queries.rows, keys.rows, n)
        assert (abs(whole - q @ k.T) <= n * U * (abs(q) @ abs(k).T)).all()
        for query_count, count in ((1, 1), (1, 16), (2, 3), (3, 4), (4, 13), (5, 8), (1, 12)):
            assert np.array_equal(scores(queries.rows[:query_count], keys.rows[:count], n), whole[:query_count, :count])

        weights, before = rng.uniform(0, 1, KEY_BLOCK).astype(np.float32), rng.normal(size=(1, n)).astype(np.float32)
        for count in (1, 2, 5, 8, 16):
            y, wide = Guarded(before, CANARY), weights[:count].astype(np.float64)
            library.kernel_weighted_sum(variant, pointer(weights), pointers(keys.rows), count, pointer(y.inner), n)
            want = before[0] + wide @ k[:count]
            assert (abs(y.inner[0] - want) <= (count + 1) * U * (abs(before[0]) + wide @ abs(k[:count]))).all()
            assert y.intact()
            axpy = before.copy()
            for weight, row in zip(weights[:count], keys.rows, strict=False):
                library.kernel_axpy(variant, ctypes.c_float(weight), pointer(row), pointer(axpy), n)
            assert np.array_equal(y.inner, axpy)


@every_variant
def test_softmax_over_blocks(library, variant):
    rng = np.random.default_rng(4)
    scale = np.float32(0.125)
    for counts, spread in (((16,), 10), ((16, 16, 16, 5), 30), ((1,), 10), ((16, 3), 600), ((16, 16), 0), ((7,), 2000)):
        x = rng.uniform(-spread, spread, sum(counts)).astype(np.float32)
        highest, total = np.full(1, -np.inf, dtype=np.float32), np.zeros(1, dtype=np.float32)
        weights, first = np.zeros(0), 0
        for count in counts:
            block = Guarded(x[None, first : first + count], CANARY)
            shrink = library.kernel_softmax(variant, pointer(block.inner), count, ctypes.c_float(scale),
                                            pointer(highest), pointer(total))
            assert block.intact()
            weights, first = np.append(weights * shrink, block.inner[0]), first + count
            assert highest[0] == (x[:first] * scale).max()
        argument = (x * scale).astype(np.float64) - float(highest[0])
        want = np.exp(argument)
        # 4 u of the function and 4 for each block's shrinking. The differences that they are given are rounded, and add up
        # to the argument.
        bound = (4 * (1 + len(counts)) - argument) * U * want
        assert not (~(abs(weights - want) <= bound + 2.0**-126)).any()
        assert abs(total[0] - want.sum()) <= bound.sum() + (4 + 2 * len(counts)) * U * want.sum()

    # One block of 16 sums to the same whatever came before, and every exponential is alone the same.
    x = np.concatenate([np.linspace(-110, 0, 16 * 6250 - 1), [-1e30]]).astype(np.float32).reshape(-1, 16)
    for row in x:
        highest, total, one = np.zeros(1, dtype=np.float32), np.zeros(1, dtype=np.float32), ctypes.c_float(1)
        block = row.copy()
        assert library.kernel_softmax(variant, pointer(block), 16, one, pointer(highest), pointer(total)) == 1.0
        want = np.exp(row.astype(np.float64))
        assert highest[0] == 0 and not (~(abs(block - want) <= 4 * U * want + 2.0**-126)).any()
        part = row[:3].copy()
        library.kernel_softmax(variant, pointer(part), 3, one, pointer(highest), pointer(total))
        assert np.array_equal(part, block[:3])
    for place in range(16):
        block, highest, total = x[-2].copy(), np.full(1, -np.inf, dtype=np.float32), np.zeros(1, dtype=np.float32)
        block[place] = np.nan
        library.kernel_softmax(variant, pointer(block), 16, one, pointer(highest), pointer(total))
        assert np.isnan(block[place]) and np.isnan(total[0])


@every_variant
def test_silu_over_the_whole_range(library, variant):
    bits = np.arange(0, 0x7F800000, 1511, dtype=np.uint32)
    x = np.concatenate([bits, bits | 0x80000000]).view(np.float32)
    y = Guarded(x[None], CANARY)
    library.kernel_silu(variant, pointer(y.inner), x.size)
    wide = x.astype(np.float64)
    e = np.exp(-abs(wide))
    want = np.where(wide < 0, wide * e, wide) / (1 + e)
    error = abs(y.inner[0] - want)
    assert not (~(error <= 4 * U * abs(want) + 2.0**-126)).any(), (error / (U * abs(want) + 2.0**-126)).max()
    assert y.intact()
    for n in range(1, 40):
        part = Guarded(x[None, -n:], CANARY)
        library.kernel_silu(variant, pointer(part.inner), n)
        assert np.array_equal(part.inner[0], y.inner[0, -n:]) and part.intact()
    special = np.array([np.nan, np.inf, 0.0, -0.0], dtype=np.float32)
    library.kernel_silu(variant, pointer(special), 4)
    assert np.isnan(special[0]) and special[1] == np.inf and not special[2:].any()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity is Linux's")
def test_only_fast_cores_count(library, tmp_path):
    allowed = sorted(os.sched_getaffinity(0))

    def count(*frequencies):
        for cpu, frequency in zip(allowed, frequencies):
            folder = tmp_path / f"cpu{cpu}" / "cpufreq"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpuinfo_max_freq").write_text(f"{frequency}\n")
        return library.kernel_big_cores(str(tmp_path).encode())

    assert library.kernel_big_cores(str(tmp_path / "missing").encode()) == len(allowed)
    every = len(allowed)
    assert count(*[2_000_000] * every) == every
    if every > 1:
        assert count(1_800_000, *[2_000_000] * (every - 1)) == every
        assert count(1_500_000, *[2_000_000] * (every - 1)) == every - 1
        assert count(*[1_500_000] * (every - 1), 2_000_000) == 1


def test_forced_kernels(backend, monkeypatch):
    for name, supported in backend.variants.items():
        monkeypatch.setenv("BLOCKFFN_KERNELS", name)
        if supported:
            assert backend.kernels == name
        else:
            with pytest.raises(RuntimeError, match="this processor cannot run"):
                backend.kernels
    monkeypatch.setenv("BLOCKFFN_KERNELS", "abacus")
    with pytest.raises(RuntimeError, match="names no kernels of this library.*portable"):
        backend.kernels
