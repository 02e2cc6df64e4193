"""The eager bodies of the `blockffn::` ops against the float64 oracle, and faults that the oracle must notice."""

import math

import numpy as np
import pytest
import torch

from export.ops import MAX_TOKENS
from tests.delegate import oracle
from tests.delegate.programs import Dense, Ffn, Gqa, Mla, causal, chunk, kept, ops

QUANTS = ("fp32", "int8", "int4")
NORMS = ("rms", "sum", "none")


@pytest.mark.parametrize("quant", QUANTS)
def test_dense_ops(quant):
    m = Dense(quant, "odd")
    ids, x, gate, start = m.inputs(7)
    got = m(ids, x, gate, start)
    rows, weight, table = oracle.rows(x), oracle.rows(m.weight), oracle.rows(m.table)
    want = [
        oracle.embedding(ids[0].tolist(), table, 1.5),
        oracle.rms_norm(rows, oracle.zeros_like(rows), m.norm.tolist(), 1e-5),
        oracle.rms_norm(rows, oracle.zeros_like(rows), m.norm.tolist(), 1e-6),
        oracle.linear(rows, weight, quant, 0.75),
        oracle.linear(rows, weight, quant, 1.0, m.bias.tolist()),
        oracle.silu_mul(oracle.rows(gate), rows),
        oracle.add(oracle.rows(gate), rows),
        oracle.linear(rows, table, quant, 0.25),
    ]
    for y, (value, bound) in zip(got, want, strict=True):
        oracle.check(y.reshape(7, -1), value, 4 * np.asarray(bound))  # torch's rsqrt and mean round more often


def ffn_oracle(m, x, norm):
    up, down = [oracle.rows(w) for w in m.up], [oracle.rows(w) for w in m.down]
    return oracle.chunk_sparse_ffn(
        oracle.rows(x), oracle.rows(m.router), m.router_norm.tolist(), up, down, *m.settings(norm)
    )


@pytest.mark.parametrize("quant", QUANTS)
def test_sparse_ffn(quant):
    m = Ffn(quant, "odd")
    (x,) = m.inputs(8)
    for y, norm in zip(m(x), NORMS, strict=True):
        want, bound, _ = ffn_oracle(m, x, norm)
        oracle.check(y, want, 4 * np.asarray(bound))


def test_unknown_router_norm_is_refused():
    m = Ffn("fp32", "odd")
    with pytest.raises(ValueError, match="choose rms, sum or none"):
        ops.chunk_sparse_ffn(m.inputs(1)[0], m.router, m.router_norm, m.up, m.down, "softmax", 1e-5, 1.0, 1.0, "fp32")


@pytest.mark.parametrize(
    "module", [Mla("fp32"), Mla("int8"), Mla("int4"), Gqa(6, 2)], ids=["mla-fp32", "mla-int8", "mla-int4", "gqa"]
)
def test_attention_with_a_tree_and_its_compaction(module):
    if isinstance(module, Mla):
        reference = oracle.MlaOracle(
            module.HEADS,
            module.NOPE,
            module.inv_freq.tolist(),
            module.kv_norm.tolist(),
            1e-6,
            [oracle.rows(w) for w in module.absorb],
            [oracle.rows(w) for w in module.expand],
            module.quant,
        )
    else:
        reference = oracle.GqaOracle(module.heads, module.kv_heads, module.inv_freq.tolist())
    rows = module.rows(7)
    at = lambda i, j: [x[i:j] for x in rows]  # noqa: E731
    got = [module(*at(0, 2), *chunk(2, 0))]
    # Tokens 2 and 3 are siblings, 4 is a child of 3; then 3 and 4 are kept and 5, 6 follow.
    got.append(module(*at(2, 5), torch.tensor([2, 2, 3]), torch.tensor([2]), torch.tensor([1, 2, 6]), kept()))
    got.append(module(*at(5, 7), torch.tensor([4, 5]), torch.tensor([4]), causal(2), kept(1, 2)))
    sees = [[], [0], [0, 1], [0, 1], [0, 1, 3], [0, 1, 3, 4], [0, 1, 3, 4, 5]]
    want = [reference.token(i, *(x[i].tolist() for x in rows), len(s), s) for i, s in enumerate(sees)]
    oracle.check(torch.cat(got), [w for w, _ in want], 4 * np.asarray([b for _, b in want]))


def test_a_full_context_is_refused():
    module = Gqa(2, 1)
    rows = module.rows(2)
    with pytest.raises(ValueError, match="context is full"):
        module(*rows, *chunk(2, module.key_cache.shape[0] - 1))


def test_fakes_have_the_shapes_and_dtypes_of_the_results():
    m, a, g = Dense("int8", "odd"), Mla("int8"), Gqa(4, 2)
    ids, x, gate, start = m.inputs(3)
    mla = (a.kv_norm, a.kv_b_proj, a.inv_freq, a.cache, *chunk(3, 0), a.HEADS, a.NOPE, 1e-6, "int8")
    f = Ffn("int8", "odd")
    calls = [
        (ops.embedding, ids, m.table, 1.0, "int8"),
        (ops.rms_norm, x, m.norm, 1e-5),
        (ops.final_norm, x, m.norm, 1e-5),
        (ops.linear, x, m.weight, m.bias, 1.0, "int8"),
        (ops.logits, x, m.table, start, 1.0, "int8"),
        (ops.silu_mul, gate, x),
        (ops.add, gate, x),
        (ops.chunk_sparse_ffn, f.inputs(3)[0], f.router, f.router_norm, f.up, f.down, *f.settings("rms")),
        (ops.mla_attention, *a.rows(3), *mla),
        (ops.gqa_attention, *g.rows(3), g.inv_freq, g.key_cache, g.value_cache, *chunk(3, 0), 4, 2),
    ]
    for op, *args in calls:
        torch.library.opcheck(op.default, tuple(args), test_utils=("test_schema", "test_faketensor"))


def test_bfloat16_weights_count_as_their_float32_values():
    """Checkpoints are stored in bfloat16 and stay so until they are packed."""
    m = Dense("fp32", "odd")
    _, x, _, _ = m.inputs(3)
    for quant in QUANTS:
        half = m.weight.bfloat16()
        assert torch.equal(ops.linear(x, half, None, 1.0, quant), ops.linear(x, half.float(), None, 1.0, quant))


# What a wrong kernel would return, and the oracle must refuse.
FFN_FAULTS = {
    "nan": lambda m, x: m(x)[0].index_fill(0, torch.tensor([3]), math.nan),
    "infinity": lambda m, x: m(x)[0].index_fill(0, torch.tensor([3]), math.inf),
    "one element off by 0.1 %": lambda m, x: (
        m(x)[0] * (1 + 1e-3 * torch.nn.functional.one_hot(torch.tensor(5), x.shape[1]))
    ),
    "rows swapped": lambda m, x: m(x)[0].flip(0),
    "router_norm without its sign": lambda m, x: _with(m, "router_norm", m.router_norm.abs())(x)[0],
    "sum instead of rms": lambda m, x: m(x)[1],
    "dense instead of sparse": lambda m, x: _with(m, "router", m.router.abs())(x)[0],
    "an expert forgotten": lambda m, x: _with(m, "up", m.up * (torch.arange(5) != 3)[:, None, None])(x)[0],
    "another activation": lambda m, x: _with(m, "up", m.up * 1.01)(x)[0],
    "a float16 accumulator": lambda m, x: m(x)[0].half().float(),
}


def _with(m, name, value):
    other = Ffn(m.quant, "odd")
    setattr(other, name, torch.nn.Parameter(value, requires_grad=False))
    return other


@pytest.mark.parametrize("fault", FFN_FAULTS)
def test_the_oracle_catches_planted_faults(fault):
    m = Ffn("fp32", "odd")
    (x,) = m.inputs(8)
    want, bound, _ = ffn_oracle(m, x, "rms")
    assert oracle.mismatches(m(x)[0], want, 4 * np.asarray(bound)) == 0
    assert oracle.mismatches(FFN_FAULTS[fault](m, x), want, 4 * np.asarray(bound)) > 0


def test_the_comparison_itself_catches_planted_faults():
    want, bound = np.zeros((2, 3)), np.full((2, 3), 1e-6)
    for got in (math.nan, math.inf, 1000.0, -2e-6):
        y = want.copy()
        y[1, 2] = got
        assert oracle.mismatches(y, want, bound) == 1
    with pytest.raises(AssertionError, match="shapes"):
        oracle.mismatches(want[:1], want, bound)
    with pytest.raises(AssertionError, match="too wide"):
        oracle.check(np.ones((2, 3)), np.ones((2, 3)), np.full((2, 3), 0.01))


def test_a_chunk_is_a_mask_of_64_bits():
    assert MAX_TOKENS == 64
