"""Weight compression against plain loops."""

import numpy as np
import pytest
import torch

from export.coreml_compress import QUANTS, Compression, compress, divisor, kmeans


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows_of(weight):
    """Output rows as lists: [N, K] row by row, [H, K, N] column by column of every head."""
    return weight if weight.dim() == 2 else weight.transpose(1, 2).reshape(-1, weight.shape[1])


@pytest.mark.parametrize("shape", [(6, 48), (5, 7), (3, 8, 10)])
def test_int8_rounds_every_row_to_its_own_steps(shape):
    weight = random(*shape)
    dense = compress(weight, "int8").dense()
    for row, got in zip(rows_of(weight), rows_of(dense)):
        step = float(np.float16(max(abs(v) for v in row.tolist()) / 127))
        for v, g in zip(row.tolist(), got.tolist()):
            assert abs(g - v) <= 0.51 * step + abs(v) * 2**-11
            assert abs(g / step - round(g / step)) < 0.1


@pytest.mark.parametrize("shape", [(6, 64), (5, 48), (4, 7), (3, 40, 10)])
def test_int4_uses_sixteen_steps_per_block(shape):
    weight = random(*shape)
    compressed = compress(weight, "int4")
    width = shape[1]
    block = max(n for n in range(1, 33) if width % n == 0)
    assert compressed.data.min() >= -8 and compressed.data.max() <= 7
    for row, got in zip(rows_of(weight), rows_of(compressed.dense())):
        for start in range(0, width, block):
            v, g = row[start : start + block].tolist(), got[start : start + block].tolist()
            peak = max(abs(x) for x in v)
            assert len(set(g)) <= 16
            assert all(abs(a - b) <= 0.16 * peak for a, b in zip(v, g))


@pytest.mark.parametrize("shape", [(24, 48), (7, 5), (3, 8, 10)])
def test_palettes_hold_sixteen_values_per_group_and_the_nearest_is_taken(shape):
    weight = random(*shape)
    compressed = compress(weight, "palette4")
    rows = max(n for n in range(1, 9) if shape[0] % n == 0) if len(shape) == 2 else 1
    assert compressed.table.shape == (shape[0] // rows, *[1] * (len(shape) - 1), 16, 1)
    table = compressed.table.reshape(-1, 16).tolist()
    for i in range(shape[0]):
        centres = table[i // rows]
        for v, g in zip(weight[i].flatten().tolist(), compressed.dense()[i].flatten().tolist()):
            assert g in centres
            assert abs(v - g) <= min(abs(v - c) for c in centres) + 1e-6


def test_kmeans_finds_clusters_and_the_optimum_of_a_normal_distribution():
    centres = torch.linspace(-3, 3, 16).half()
    values = centres.float().repeat(2, 9)[:, torch.randperm(144, generator=torch.Generator().manual_seed(0))]
    index, table = kmeans(values)
    assert torch.equal(table.float().gather(1, index.long()), values)
    values = random(4, 20000, seed=1)
    index, table = kmeans(values)
    error = (table.float().gather(1, index.long()) - values).square().mean()
    assert error < 1.03 * 0.009497  # the optimum for a normal distribution: J. Max, Quantizing for minimum distortion, 1960


@pytest.mark.parametrize("quant", QUANTS[1:])
def test_constant_rows_stay_as_they_are(quant):
    weight = torch.zeros(8, 32)
    weight[3] = 0.5
    assert torch.equal(compress(weight, quant).dense(), weight)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
@pytest.mark.parametrize("quant", QUANTS[1:])
def test_damaged_weights_are_refused(quant, value):
    weight = random(8, 32)
    weight[1, 2] = value
    with pytest.raises(ValueError, match="damaged"):
        compress(weight, quant)


def test_divisor():
    assert [divisor(n, 32) for n in (64, 48, 12, 7, 37, 1)] == [32, 24, 12, 7, 1, 1]


def test_a_weight_that_is_not_in_the_program_is_an_error():
    compression = Compression({"a": random(4, 8), "b": random(4, 8, seed=1)}, "int8")
    assert compression.find(random(4, 8).half().numpy()) is not None
    assert compression.find(random(4, 8, seed=2).half().numpy()) is None
    with pytest.raises(RuntimeError, match="1 weights were not compressed, the first is b"):
        compression.require_all()
