"""Embedding, norm, linear layers and element-wise ops of the delegate, against the float64 oracle."""

import numpy as np
import pytest
import torch

from tests.delegate import oracle
from tests.delegate.programs import Dense, execute, load

QUANTS = ("fp32", "int8", "int4")


@pytest.fixture(scope="module", params=[(q, s) for q in QUANTS for s in Dense.SIZES], ids="-".join)
def dense(request, lowered):
    quant, size = request.param
    module = Dense(quant, size)
    path, delegated = lowered(f"dense-{quant}-{size}", module, module.inputs(7))
    assert delegated == {
        "embedding": 1,
        "rms_norm": 1,
        "final_norm": 1,
        "linear": 2,
        "silu_mul": 1,
        "add": 1,
        "logits": 1,
    }
    return module, path


computed = {}  # what the oracle said: all kernels are judged by it


def expected(m, ids, x, gate, quant):
    key = quant, tuple(m.weight.shape), *(v.numpy().tobytes() for v in (ids, x, gate))
    if key not in computed:
        computed[key] = from_oracle(m, ids, x, gate, quant)
    return computed[key]


def from_oracle(m, ids, x, gate, quant):
    x, gate, weight, table = map(oracle.rows, (x, gate, m.weight, m.table))
    norm, bias = m.norm.tolist(), m.bias.tolist()
    return [
        oracle.embedding(ids[0].tolist(), table, 1.5),
        oracle.rms_norm(x, oracle.zeros_like(x), norm, 1e-5),
        oracle.rms_norm(x, oracle.zeros_like(x), norm, 1e-6),
        oracle.linear(x, weight, quant, 0.75),
        oracle.linear(x, weight, quant, 1.0, bias),
        oracle.silu_mul(gate, x),
        oracle.add(gate, x),
        oracle.linear(x, table, quant, 0.25),
    ]


def test_every_op_matches_the_oracle(dense, kernels):
    module, path = dense
    inputs = module.inputs(64)
    got = execute(load(path), *inputs)
    want = expected(module, *inputs[:3], module.quant)
    for y, (value, bound) in zip(got, want, strict=True):
        oracle.check(y.reshape(64, -1), value, bound)


@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 63])
def test_a_row_does_not_depend_on_the_chunk(dense, tokens, kernels):
    module, path = dense
    method = load(path)
    whole = execute(method, *module.inputs(64))
    part = execute(method, *module.inputs(tokens))
    for y, all_rows in zip(part, whole, strict=True):
        y, all_rows = y.reshape(tokens, -1), all_rows.reshape(64, -1)
        assert np.array_equal(y, all_rows[:tokens])


@pytest.mark.parametrize("start", [0, 1, 6, 7])
def test_logits_start_skips_rows(dense, start):
    module, path = dense
    method = load(path)
    ids, x, gate, _ = module.inputs(7)
    full = execute(method, ids, x, gate, torch.tensor([0]))[7]
    got = execute(method, ids, x, gate, torch.tensor([start]))[7]
    assert not got[0, :start].any()
    assert np.array_equal(got[0, start:], full[0, start:])


@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-38, 1e-36, 1e30, 9e37])
def test_extreme_activations(dense, scale, kernels):
    """Zeros, subnormal values, values whose reciprocal overflows, and values whose squares or whose norm's inverse do."""
    module, path = dense
    ids, x, gate, start = module.inputs(2)
    x = (x.double() * scale).float()
    got = execute(load(path), ids, x, gate * 0, start)
    want = expected(module, ids, x, gate * 0, module.quant)
    for y, (value, bound) in zip(got, want, strict=True):
        assert oracle.mismatches(y.reshape(2, -1), value, np.asarray(bound) + 2.0**-126 * 64) == 0
