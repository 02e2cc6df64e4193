"""Latent and grouped-query attention of the delegate: oracle, trees, compaction, independence of the chunks."""

import re

import numpy as np
import pytest
import torch

from tests.delegate import oracle
from tests.delegate.programs import NO_COMPACTION, Gqa, Mla, causal, chunk, execute, kept, load

VARIANTS = {
    "mla-fp32": lambda: Mla("fp32"),
    "mla-int8": lambda: Mla("int8"),
    "mla-int4": lambda: Mla("int4"),
    "mha": lambda: Gqa(3, 3),
    "gqa": lambda: Gqa(6, 2),
    "mqa": lambda: Gqa(4, 1),
    "mla-kv8": lambda: Mla("int8", kv_quant="int8"),
    "gqa-kv8": lambda: Gqa(6, 2, kv_quant="int8"),
}


@pytest.fixture(scope="module", params=VARIANTS)
def attention(request, lowered):
    module = VARIANTS[request.param]()
    path, delegated = lowered(request.param, module, (*module.rows(7), *chunk(7, 0)))
    assert delegated == {"mla_attention" if isinstance(module, Mla) else "gqa_attention": 1}
    return module, path


def oracle_of(m):
    if isinstance(m, Mla):
        return oracle.MlaOracle(
            m.HEADS,
            m.NOPE,
            m.inv_freq.tolist(),
            m.kv_norm.tolist(),
            1e-6,
            [oracle.rows(w) for w in m.absorb],
            [oracle.rows(w) for w in m.expand],
            m.quant,
            m.kv_quant,
        )
    return oracle.GqaOracle(m.heads, m.kv_heads, m.inv_freq.tolist(), m.kv_quant)


def run_linear(method, rows, lengths, n_past=0):
    """Feeds consecutive tokens in chunks of the given lengths; returns the output rows."""
    out, at = [], 0
    for length in lengths:
        out += execute(method, *(x[at : at + length] for x in rows), *chunk(length, n_past + at))
        at += length
    return np.concatenate(out)


def random_tree(nodes, seed):
    """parents of a random tree, -1 for children of the past; parents come before children."""
    rng = np.random.default_rng(seed)
    return [int(rng.integers(max(-1, i - 6), i)) for i in range(nodes)]


def ancestors(parents, node):
    path = []
    while node >= 0:
        path.insert(0, node)
        node = parents[node]
    return path  # from the root to the node itself


def tree_chunk(parents, n_past):
    paths = [ancestors(parents, i) for i in range(len(parents))]
    masks = [sum(1 << j for j in path) for path in paths]
    signed = [m - (1 << 64) if m >> 63 else m for m in masks]
    positions = [n_past + len(path) - 1 for path in paths]
    return torch.tensor(positions), torch.tensor([n_past]), torch.tensor(signed), NO_COMPACTION


def test_chunks_of_a_sequence_match_the_oracle(attention, kernels):
    module, path = attention
    lengths = [8, 1, 64, 2, 7]
    rows = module.rows(sum(lengths))
    got = run_linear(load(path), rows, lengths)
    reference = oracle_of(module)
    plain = [x.tolist() for x in rows]
    want = [reference.token(i, *(x[i] for x in plain), i, range(i)) for i in range(len(got))]
    oracle.check(got, [w for w, _ in want], [b for _, b in want])


@pytest.mark.parametrize("lengths", [[64, 7], [63, 8], [2, 7, 62], [1] * 71], ids=str)
def test_any_split_into_chunks_gives_the_same_bits(attention, lengths, kernels):
    module, path = attention
    rows = module.rows(71)
    assert np.array_equal(run_linear(load(path), rows, lengths), run_linear(load(path), rows, [8] * 8 + [7]))


@pytest.mark.parametrize("nodes", [2, 7, 63, 64])
def test_tree_rows_equal_the_linear_runs_of_their_paths(attention, nodes, kernels):
    module, path = attention
    past, parents = 11, random_tree(nodes, seed=nodes)
    rows = module.rows(past + nodes)
    method = load(path)
    run_linear(method, rows, [past])
    (tree,) = execute(method, *(x[past:] for x in rows), *tree_chunk(parents, past))
    leaves = set(range(nodes)) - set(parents)
    for leaf in leaves:
        nodes_of_path = ancestors(parents, leaf)
        along = [past + i for i in nodes_of_path]
        linear = run_linear(method, [x[along] for x in rows], [len(along)], past)  # rewinds to n_past
        assert np.array_equal(tree[nodes_of_path], linear)


def test_a_tree_matches_the_oracle(attention, kernels):
    module, path = attention
    past, nodes = 5, 24
    parents = random_tree(nodes, seed=0)
    rows = module.rows(past + nodes)
    method = load(path)
    run_linear(method, rows, [past])
    (got,) = execute(method, *(x[past:] for x in rows), *tree_chunk(parents, past))
    reference, plain = oracle_of(module), [x.tolist() for x in rows]
    want = []
    for i in range(past + nodes):
        on_path = ancestors(parents, i - past)[:-1] if i >= past else []
        sees = [*range(min(i, past)), *(past + j for j in on_path)]
        want.append(reference.token(i, *(x[i] for x in plain), len(sees), sees))
    oracle.check(got, [w for w, _ in want[past:]], [b for _, b in want[past:]])


@pytest.mark.parametrize("accepted", ["path", "none", "all"])
def test_compaction_continues_as_if_only_the_kept_rows_had_been_run(attention, accepted):
    module, path = attention
    past, nodes, after = 9, 20, 5
    parents = list(range(-1, nodes - 1)) if accepted == "all" else random_tree(nodes, seed=1)
    keep = {"path": ancestors(parents, nodes - 1), "none": [], "all": list(range(nodes))}[accepted]
    assert accepted != "path" or keep != list(range(len(keep))), "the tree should make rows move"
    rows = module.rows(past + nodes + after)
    last = [x[past + nodes :] for x in rows]

    method = load(path)
    run_linear(method, rows, [past])
    execute(method, *(x[past : past + nodes] for x in rows), *tree_chunk(parents, past))
    n_past = past + len(keep)
    positions = torch.arange(n_past, n_past + after)
    (got,) = execute(method, *last, positions, torch.tensor([n_past]), causal(after), kept(*keep))
    again = run_linear(method, [x[:1] for x in last], [1], n_past + after)  # the cache stays right afterwards

    linear = load(path)
    along = [*range(past), *(past + i for i in keep)]
    run_linear(linear, [x[along] for x in rows], [len(along)])
    assert np.array_equal(got, run_linear(linear, last, [after], n_past))
    assert np.array_equal(again, run_linear(linear, [x[:1] for x in last], [1], n_past + after))


def test_every_loaded_method_has_its_own_cache(attention):
    module, path = attention
    rows, other = module.rows(20), module.rows(20, seed=9)
    a, b = load(path), load(path)
    first = run_linear(a, rows, [10])
    run_linear(b, other, [10])
    second = run_linear(a, [x[10:] for x in rows], [10], 10)
    assert np.array_equal(np.concatenate([first, second]), run_linear(load(path), rows, [20]))


def test_an_int8_cache_takes_a_quarter_and_stays_off_the_gpu(lowered, backend, capfd, monkeypatch):
    sizes = {}
    for kv in ("fp32", "int8"):
        for name, module in (("mla", Mla("int8", context=4096, kv_quant=kv)), ("gqa", Gqa(6, 2, 32, 4096, kv_quant=kv))):
            path, _ = lowered(f"{name}-4096-kv-{kv}", module, (*module.rows(7), *chunk(7, 0)))
            capfd.readouterr()
            load(path)
            sizes[name, kv] = int(re.search(r"(\d+) bytes of working memory", capfd.readouterr().err)[1])
    assert sizes["mla", "fp32"] - sizes["mla", "int8"] == 4096 * (4 * 26 - (2 * 4 + 26 + 2))
    assert sizes["gqa", "fp32"] - sizes["gqa", "int8"] == 2 * 4096 * (4 * 64 - (2 * 4 + 64))
    monkeypatch.setenv("BLOCKFFN_DEVICE", "gpu")
    load(path)
    assert backend.device.startswith("cpu: ")


def test_nan_in_an_int8_cache_is_reported_and_forgotten(attention, backend):
    module, path = attention
    rows = module.rows(12)
    method = load(path)
    before = run_linear(method, rows, [6, 6])
    broken = [x.clone() for x in rows]
    broken[1][8, 3] = float("nan")  # a latent, or a key
    with pytest.raises(RuntimeError):
        run_linear(method, [x[6:] for x in broken], [6], 6)
    assert np.array_equal(run_linear(method, [x[6:] for x in rows], [6], 6), before[6:])
