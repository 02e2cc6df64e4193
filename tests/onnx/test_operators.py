"""Operators in ONNX Runtime: each against the float64 oracle, and to the bit against the delegate of the .pte.

The bodies that the file holds in stock operators meet the bounds of the kernels, in ONNX Runtime without our library
and in onnx's reference evaluator.
"""

import numpy as np
import pytest
import torch
from torch import nn

from tests.delegate import oracle, programs
from tests.delegate.programs import Dense, Ffn, Gqa, Mla, Stack, chunk, execute, kept, load, ops
from tests.delegate.test_attention import VARIANTS, ancestors, oracle_of, random_tree, run_linear, tree_chunk
from tests.delegate.test_sparse_ffn import NORMS, expected
from tests.onnx.models import RUNTIMES, Method

QUANTS = ("fp32", "int8", "int4")


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    """runtime(path) -> a loaded model."""
    return RUNTIMES[request.param]


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("size", Dense.SIZES)
def test_dense_operators(written, runtime, quant, size):
    m = Dense(quant, size)
    path, counts = written(f"dense-{quant}-{size}", m, m.inputs(7))
    assert counts == {"embedding": 1, "rms_norm": 2, "linear": 2, "silu_mul": 1, "add": 1, "logits": 1}
    ids, x, gate, _ = m.inputs(9)
    got = execute(runtime(path), ids, x, gate, torch.tensor([4]))
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
@pytest.mark.parametrize("tokens, size", [(1, "odd"), (7, "odd"), (64, "odd"), (7, "even")])
def test_sparse_ffn(written, runtime, quant, tokens, size):
    m = Ffn(quant, size)
    path, counts = written(f"ffn-{quant}-{size}", m, m.inputs(7))
    assert counts == {"chunk_sparse_ffn": 3}
    (x,) = m.inputs(tokens)
    for y, norm in zip(execute(runtime(path), x), NORMS, strict=True):
        want, bound, _ = expected(m, x, norm)
        oracle.check(y, want, bound)


@pytest.mark.parametrize("quant", QUANTS)
def test_no_active_expert_gives_exact_zeros(written, runtime, quant):
    m = Ffn(quant, "odd")
    path, _ = written(f"ffn-{quant}-odd", m, m.inputs(7))
    for y in execute(runtime(path), torch.full((8, m.router.shape[1]), -1.0)):
        assert np.array_equal(y, np.zeros_like(y))


@pytest.mark.parametrize("how", [*RUNTIMES, "copied caches", "bodies and copied caches"])
@pytest.mark.parametrize("variant", [name for name in VARIANTS if "kv8" not in name])  # caches are float32 there
def test_attention_over_chunks_and_a_tree(written, variant, how):
    m = VARIANTS[variant]()
    path, _ = written(variant, m, (*m.rows(7), *chunk(7, 0)))
    past, nodes = 19, 12
    parents, rows = random_tree(nodes, seed=0), m.rows(past + nodes)
    method = RUNTIMES[how](path) if how in RUNTIMES else Method(path, in_place=False, plain="bodies" in how)
    got = run_linear(method, rows, [8, 1, 10])
    (tree,) = execute(method, *(x[past:] for x in rows), *tree_chunk(parents, past))
    reference, plain, want = oracle_of(m), [x.tolist() for x in rows], []
    for i in range(past + nodes):
        on_path = ancestors(parents, i - past)[:-1] if i >= past else []
        sees = [*range(min(i, past)), *(past + j for j in on_path)]
        want.append(reference.token(i, *(x[i] for x in plain), len(sees), sees))
    oracle.check(np.concatenate([got, tree]), [w for w, _ in want], [b for _, b in want])


class TreeRows(Gqa):
    """What a draft head uses beside the decoder's operators."""

    def __init__(self, heads, kv_heads):
        super().__init__(heads, kv_heads)
        self.ones = nn.Parameter(torch.ones(20), requires_grad=False)

    def forward(self, hidden, q, k, v, positions, n_past, tree_mask, kv_src, tree_rows):
        args = q, k, v, self.inv_freq, self.key_cache, self.value_cache, positions, n_past, tree_mask, kv_src
        y, keys, values = ops.gqa_attention(*args, self.heads, self.kv_heads, tree_rows)
        self.key_cache.copy_(keys)
        self.value_cache.copy_(values)
        x = ops.hidden_norm(hidden, self.ones, 1e-5)
        return y, x, ops.final_add(x, x)


def test_a_tree_that_grows_over_calls(written, runtime):
    """Against the eager operators: a prefix, a level of the tree, a level below it."""
    m = TreeRows(6, 2)
    q, k, v = m.rows(12)
    hidden = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 12, 20)).astype(np.float32))
    calls = [
        (slice(0, 7), *chunk(7, 0), torch.tensor([0])),
        (slice(7, 10), torch.full((3,), 7), torch.tensor([7]), torch.tensor([0b001, 0b010, 0b100]), kept(), torch.tensor([0])),
        (slice(10, 12), torch.full((2,), 8), torch.tensor([10]), torch.tensor([0b01001, 0b10100]), kept(), torch.tensor([3])),
    ]
    example = hidden[:, :7], *(x[:7] for x in (q, k, v)), *calls[0][1:]
    path, counts = written("tree-rows", m, example)
    assert counts == {"gqa_attention": 1, "rms_norm": 1, "add": 1}
    method = runtime(path)
    for rows, *rest in calls:
        inputs = hidden[:, rows], *(x[rows] for x in (q, k, v)), *rest
        for got, want in zip(execute(method, *inputs), m(*inputs), strict=True):
            assert got.shape == want.shape and np.abs(got - want.numpy()).max() < 1e-5


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
    (dict(q=torch.zeros(2, 45)), "disagree on the number of tokens"),
    (dict(kv=torch.zeros(2, 26)), "disagree on the number of tokens"),
    (dict(q=torch.zeros(0, 45), kv=torch.zeros(0, 26)), "1 to 64 tokens"),
    (dict(positions=torch.arange(4)), "disagree on the number of tokens"),
    (dict(n_past=torch.tensor([-1])), "n_past is negative"),
    (dict(n_past=torch.tensor([148])), "the context is full"),
    (dict(mask=torch.tensor([1, 1, 7])), "must see itself"),
    (dict(kv_src=torch.arange(63)), "wrong shape|invalid dimensions"),
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
