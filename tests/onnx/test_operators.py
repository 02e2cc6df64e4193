"""Operators in ONNX Runtime: each against the float64 oracle, and to the bit against the delegate of the .pte."""

import numpy as np
import pytest
import torch

from tests.delegate import oracle, programs
from tests.delegate.programs import Dense, Ffn, Gqa, Mla, Stack, chunk, execute, kept, load
from tests.delegate.test_attention import VARIANTS, ancestors, oracle_of, random_tree, run_linear, tree_chunk
from tests.delegate.test_sparse_ffn import NORMS, expected
from tests.onnx.models import Method

QUANTS = ("fp32", "int8", "int4")


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("size", Dense.SIZES)
def test_dense_operators(written, quant, size):
    m = Dense(quant, size)
    path, counts = written(f"dense-{quant}-{size}", m, m.inputs(7))
    assert counts == {"embedding": 1, "rms_norm": 2, "linear": 2, "silu_mul": 1, "add": 1, "logits": 1}
    ids, x, gate, _ = m.inputs(9)
    method = Method(path)
    got = execute(method, ids, x, gate, torch.tensor([4]))
    xs, gates, table, weight = map(oracle.rows, (x, gate, m.table, m.weight))
    norms = [oracle.rms_norm(xs, oracle.zeros_like(xs), m.norm.tolist(), eps) for eps in (1e-5, 1e-6)]
    want = [
        oracle.embedding(ids[0].tolist(), table, 1.5),
        *norms,
        oracle.linear(xs, weight, quant, 0.75),
        oracle.linear(xs, weight, quant, 1.0, m.bias.tolist()),
        oracle.silu_mul(gates, xs),
        oracle.add(gates, xs),
    ]
    assert got[2].shape == (1, *x.shape)
    for y, (value, bound) in zip([*got[:2], got[2][0], *got[3:7]], want, strict=True):
        oracle.check(y, value, bound)
    value, bound = oracle.linear(xs, table, quant, 0.25)
    oracle.check(got[7][0, 4:], value[4:], bound[4:])
    assert not got[7][0, :4].any()


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("tokens", [1, 7, 64])
def test_sparse_ffn(written, quant, tokens):
    m = Ffn(quant, "odd")
    path, counts = written(f"ffn-{quant}", m, m.inputs(7))
    assert counts == {"chunk_sparse_ffn": 3}
    (x,) = m.inputs(tokens)
    for y, norm in zip(execute(Method(path, threads=2), x), NORMS, strict=True):
        want, bound, _ = expected(m, x, norm)
        oracle.check(y, want, bound)


@pytest.mark.parametrize("quant", QUANTS)
def test_no_active_expert_gives_exact_zeros(written, quant):
    m = Ffn(quant, "odd")
    path, _ = written(f"ffn-{quant}", m, m.inputs(7))
    for y in execute(Method(path), torch.full((8, m.router.shape[1]), -1.0)):
        assert np.array_equal(y, np.zeros_like(y))


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_over_chunks_and_a_tree(written, variant, in_place):
    m = VARIANTS[variant]()
    path, _ = written(variant, m, (*m.rows(7), *chunk(7, 0)))
    past, nodes = 19, 12
    parents, rows = random_tree(nodes, seed=0), m.rows(past + nodes)
    method = Method(path, in_place=in_place)
    got = run_linear(method, rows, [8, 1, 10])
    (tree,) = execute(method, *(x[past:] for x in rows), *tree_chunk(parents, past))
    reference, plain, want = oracle_of(m), [x.tolist() for x in rows], []
    for i in range(past + nodes):
        on_path = ancestors(parents, i - past)[:-1] if i >= past else []
        sees = [*range(min(i, past)), *(past + j for j in on_path)]
        want.append(reference.token(i, *(x[i] for x in plain), len(sees), sees))
    oracle.check(np.concatenate([got, tree]), [w for w, _ in want], [b for _, b in want])


@pytest.mark.parametrize("quant", QUANTS)
def test_all_operators_give_the_bits_of_the_delegate(written, lowered_stack, quant):
    """Prefill, a tree, one branch kept: outputs of two runtimes over the same kernels and bytes."""
    m = Stack(quant)
    example = torch.zeros(1, 7, dtype=torch.int64), *chunk(7, 0), torch.tensor([0])
    path, _ = written(f"stack-{quant}", m, example)
    ids, start = torch.arange(20)[None] * 7 % Stack.V, torch.tensor([0])
    parents = [-1, 0, 0, 1, 2, 4]
    results = []
    for method in (load(lowered_stack(quant, m, example)), Method(path), Method(path, 2), Method(path, 1, False)):
        steps = [
            (ids[:, :10], *chunk(10, 0), start),
            (ids[:, 10:16], *tree_chunk(parents, 10), start),
            (ids[:, 16:], torch.arange(14, 18), torch.tensor([14]), programs.causal(4), kept(0, 2, 4, 5), start),
        ]
        results.append([y for step in steps for y in execute(method, *step)])
    for other in results[1:]:
        assert len(other) == 6 and all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.fixture(scope="module")
def lowered_stack(tmp_path_factory, backend):
    def make(quant, module, example):
        path = tmp_path_factory.mktemp("programs") / f"{quant}.pte"
        programs.lower(module, example, path)
        return path

    return make


def mla_inputs(**changes):
    m = Mla("int8")
    q, kv = m.rows(3)
    positions, n_past, mask, kv_src = chunk(3, 0)
    inputs = dict(q=q, kv=kv, positions=positions, n_past=n_past, mask=mask, kv_src=kv_src) | changes
    return list(inputs.values())


@pytest.mark.parametrize("changes, sentence", [
    (dict(q=torch.zeros(3, 5)), "invalid dimensions"),  # the runtime sees that itself
    (dict(q=torch.zeros(2, 45)), "do not fit the weights"),
    (dict(kv=torch.zeros(2, 26)), "do not fit the weights"),
    (dict(q=torch.zeros(0, 45), kv=torch.zeros(0, 26)), "do not fit the weights"),
    (dict(positions=torch.arange(4)), r"must be \[T\]"),
    (dict(n_past=torch.tensor([-1])), "n_past is negative"),
    (dict(n_past=torch.tensor([148])), "the context is full"),
    (dict(mask=torch.tensor([1, 1, 7])), "must see itself"),
    (dict(kv_src=torch.arange(63)), r"kv_src \[64\]|invalid dimensions"),
])
def test_wrong_values_and_shapes_are_a_status_with_a_sentence(written, changes, sentence):
    m = Mla("int8")
    path, _ = written("mla-int8", m, (*m.rows(7), *chunk(7, 0)))
    method = Method(path)
    with pytest.raises(RuntimeError, match=sentence):
        method.execute(mla_inputs(**changes))
    assert not any(cache.any() for cache in method.caches.values()), "a refused call changed the cache"
    method.execute(mla_inputs())  # the session goes on working


def test_wrong_dtypes_are_refused(written):
    m = Mla("int8")
    path, _ = written("mla-int8", m, (*m.rows(7), *chunk(7, 0)))
    with pytest.raises(Exception, match=r"(?i)unexpected input data type.*float"):
        Method(path).execute(mla_inputs(q=torch.zeros(3, 45, dtype=torch.float64)))


def test_non_finite_activations_are_a_status(written):
    m = Dense("int8", "odd")
    path, _ = written("dense-int8-odd", m, m.inputs(7))
    ids, x, gate, start = m.inputs(7)
    x = x.clone()
    x[2, 3] = float("nan")
    with pytest.raises(Exception, match="not finite"):
        Method(path).execute((ids, x, gate, start))


def test_gqa_refuses_caches_of_different_lengths(written):
    m = Gqa(6, 2)
    path, _ = written("gqa", m, (*m.rows(7), *chunk(7, 0)))
    method = Method(path, in_place=False)
    method.caches["past_1"] = method.caches["past_1"][:100]
    with pytest.raises(Exception, match="cache must be|invalid dimensions"):
        method.execute([*m.rows(3), *chunk(3, 0)])
