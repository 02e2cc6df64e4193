"""Weight and activation quantization: grid, scales, error, and what is refused."""

import math

import numpy as np
import pytest
import torch

from export.quantize import quantize_activation, quantize_weight
from tests.delegate.programs import on_grid


@pytest.mark.parametrize("quant", ["int8", "int4"])
@pytest.mark.parametrize("columns", [1, 5, 31, 32, 33, 96])
def test_weights_on_the_grid_are_exact(quant, columns):
    weight = on_grid(np.random.default_rng(columns), (9, columns), quant)
    q = quantize_weight(weight, quant)
    assert torch.equal(q.dequantize(), weight.double())
    assert q.values_NK.shape == weight.shape and q.values_NK.dtype == torch.int8
    assert q.scales_NG.shape == (9, 1 if quant == "int8" else -(-columns // 32)) and q.scales_NG.dtype == torch.float16


def test_int8_rows_round_to_the_nearest_of_255_steps():
    weight = torch.randn(16, 70, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 2, 16)[:, None]
    q = quantize_weight(weight, "int8")
    for n, row in enumerate(weight.tolist()):
        scale = float(np.float16(np.float32(max(map(abs, row))) / np.float32(127)))
        assert float(q.scales_NG[n]) == scale
        for k, w in enumerate(row):
            # half a step, a little more where the rounded scale makes 127 steps too short
            allowed = max(scale / 2, abs(w) - 127 * scale) * (1 + 1e-6)
            assert abs(int(q.values_NK[n, k]) * scale - w) <= allowed
            assert abs(int(q.values_NK[n, k])) <= 127


def test_int4_groups_reach_the_least_error_of_the_grid():
    """Against a brute-force search in float64 over the same kind of scales."""
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(1))
    q = quantize_weight(weight, "int4")
    assert int(q.values_NK.min()) >= -8 and int(q.values_NK.max()) <= 7
    for n in range(6):
        for g in range(2):
            group = weight[n, 32 * g : 32 * g + 32].tolist()
            peak = max(group, key=abs)
            errors = []
            for steps in (7, 7.25, 7.5, 7.75, 8, 8.25, 8.5, 8.75, 9):
                scale = float(np.float16(peak / -steps))
                errors.append(sum((min(max(round(w / scale), -8), 7) * scale - w) ** 2 for w in group))
            got = sum(
                (a - b) ** 2 for a, b in zip(q.dequantize()[n, 32 * g : 32 * g + 32].tolist(), group, strict=True)
            )
            assert got == pytest.approx(min(errors), rel=1e-5)


@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_zero_and_vanishing_rows_become_zero(quant):
    weight = torch.zeros(3, 40)
    weight[1] = 1e-9  # its scale underflows float16
    weight[2, 3] = 1.0
    restored = quantize_weight(weight, quant).dequantize()
    assert not restored[:2].any()
    assert restored[2, 3] == pytest.approx(1.0, rel=2**-10)


@pytest.mark.parametrize("quant", ["int8", "int4"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 3e38])
def test_damaged_weights_are_refused(quant, bad):
    weight = torch.ones(2, 8)
    weight[1, 2] = bad
    with pytest.raises(ValueError, match="damaged"):
        quantize_weight(weight, quant)


def test_unknown_quantization_is_refused():
    with pytest.raises(ValueError, match="choose int8 or int4"):
        quantize_weight(torch.ones(2, 2), "int5")


def test_activation_rows():
    x = torch.randn(5, 33, generator=torch.Generator().manual_seed(2))
    x[3] = 0
    x[4] *= 1e-37  # too small for a finite reciprocal: counts as zero
    q, scale = quantize_activation(x)
    for t, row in enumerate(x.tolist()):
        peak = max(map(abs, row))
        if t >= 3:
            assert not q[t].any()
            continue
        assert float(scale[t]) == pytest.approx(peak / 127, rel=1e-6)
        for k, v in enumerate(row):
            assert float(q[t, k]) == int(q[t, k]) and abs(float(q[t, k])) <= 127
            assert abs(float(q[t, k]) - 127 * v / peak) <= 0.5 + 1e-4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_activation_never_looks_finite(bad):
    x = torch.ones(2, 8)
    x[1, 3] = bad
    q, scale = quantize_activation(x)
    assert torch.isfinite((q * scale)[0]).all()
    assert not torch.isfinite((q * scale)[1].sum())
