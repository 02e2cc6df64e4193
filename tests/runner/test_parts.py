"""The runner's parts alone: random numbers, sampling, acceptance, n-gram drafts, the choice of a chunk."""

import ctypes
import itertools
from ctypes import POINTER, c_double, c_float, c_int32, c_int64, c_uint8, c_uint64, c_void_p

import numpy as np
import pytest

from runtime_delegates.runner import Options, load_library
from runtime_delegates.sampling import Sampler

CandidatesCallback = ctypes.CFUNCTYPE(None, c_void_p, c_int64, POINTER(c_int32), POINTER(POINTER(c_double)))


@pytest.fixture(scope="module")
def lib(backend):
    return load_library()


def pointer(array, kind):
    return np.ascontiguousarray(array).ctypes.data_as(POINTER(kind))


# ---- random numbers and distributions ----
@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 + 5, 2**64 - 1])
def test_random_numbers_are_numpys(lib, seed):
    got = np.empty(1000)
    assert lib.blockffn_parts_uniform(c_uint64(seed), c_int64(1000), pointer(got, c_double)) == 0
    assert np.array_equal(got, np.random.Generator(np.random.PCG64(seed)).random(1000))


@pytest.mark.parametrize("settings", [
    dict(temperature=0.0), dict(temperature=0.0, repetition_penalty=3.0), dict(temperature=1.0), dict(temperature=0.3, top_k=7),
    dict(temperature=1.5, top_p=0.7), dict(temperature=0.8, top_k=50, top_p=0.95, repetition_penalty=1.3),
    dict(temperature=1e-4, top_p=1e-6), dict(temperature=1.0, top_k=1), dict(temperature=1.0, top_k=10**6, top_p=0.999),
    dict(temperature=2.0, repetition_penalty=0.5),
], ids=str)
def test_distribution_equals_the_python_sampler(lib, settings):
    rng = np.random.default_rng(3)
    for case in range(8):
        logits = (rng.standard_normal(300) * 3).astype(np.float32)
        if case % 2:
            logits = np.round(logits)  # many equals
        seen = rng.integers(0, 300, 40).astype(np.int32)
        want = Sampler(**settings).probabilities(logits, seen.tolist())
        options, got = Options(top_p=1.0, repetition_penalty=1.0), np.empty(300)
        for name, value in settings.items():
            setattr(options, name, value)
        assert lib.blockffn_parts_distribution(ctypes.byref(options), pointer(logits, c_float), 300, pointer(seen, c_int32),
                                               c_int64(len(seen)), pointer(got, c_double)) == 0
        assert np.array_equal(got == 0, want == 0)
        # exp of both languages and the order of one sum of 300 terms
        assert not (~(np.abs(got - want) <= 1e-13 + 1e-12 * want)).any()


# ---- acceptance ----
def chi_square_is_plausible(counts, p):
    """Whether the counts may come from p: chi-square at most 6 standard deviations above its mean."""
    n, counts, p = counts.sum(), np.asarray(counts, float), np.asarray(p, float)
    if counts[p == 0].any():
        return False
    large = p * n >= 5
    observed = np.append(counts[large], counts[~large].sum())
    expected = np.append(p[large] * n, p[~large].sum() * n)
    observed, expected = observed[expected > 0], expected[expected > 0]
    freedom = len(expected) - 1
    return ((observed - expected) ** 2 / expected).sum() <= freedom + 6 * np.sqrt(2 * freedom)


TRIALS, V = 12_000, 8
P = np.array([0.3, 0.0, 0.25, 0.05, 0.2, 0.1, 0.1, 0.0])
TABLES = {
    "near": np.array([0.25, 0.02, 0.3, 0.08, 0.15, 0.1, 0.06, 0.04]),
    "equal": P,
    "disjoint": np.array([0, 0.5, 0, 0, 0, 0, 0, 0.5]),
    "uniform": np.full(V, 1 / V),
    "wrong": np.array([0.01, 0.5, 0.01, 0.4, 0.02, 0.02, 0.02, 0.02]),
}


def pick(q, rng):
    return min(int(np.searchsorted(np.cumsum(q), rng.random() * q.sum(), side="right")), V - 1)


def with_replacement(q, count, rng):
    return [(pick(q, rng), q) for _ in range(count)]


def without_replacement(q, count, rng):
    drawn = []
    for _ in range(count):
        drawn.append((pick(q, rng), q))
        q = q.copy()
        q[drawn[-1][0]] = 0
        q = q / q.sum() if q.any() else drawn[-1][1]
    return drawn


def not_drawn(q, count, rng):
    return [(int(token), None) for token in np.argsort(-q)[:count]]


def mixed(q, count, rng):
    return [(2, None), *with_replacement(q, count - 1, rng)]


def run_accept(lib, propose, q, count):
    """-> accepted tokens [TRIALS], first candidates [TRIALS]."""
    rng, first, alive = np.random.default_rng(5), np.full(TRIALS, -1), []

    def fill(_, trial, tokens, tables):
        alive.clear()
        for i, (token, table) in enumerate(propose(q, count, rng)):
            tokens[i] = token
            if table is not None:
                alive.append(np.ascontiguousarray(table))
                tables[i] = pointer(alive[-1], c_double)
            if i == 0:
                first[trial] = token

    out = np.empty(TRIALS, np.int32)
    assert lib.blockffn_parts_accept(pointer(P, c_double), V, count, c_uint64(11), c_int64(TRIALS), CandidatesCallback(fill),
                                     None, pointer(out, c_int32)) == 0
    return out, first


@pytest.mark.parametrize("propose, count", [(with_replacement, 1), (with_replacement, 3), (without_replacement, 2),
                                            (not_drawn, 3), (mixed, 3), (with_replacement, 0)],
                         ids=lambda x: x.__name__ if callable(x) else str(x))
@pytest.mark.parametrize("table", TABLES)
def test_accepted_tokens_follow_the_target(lib, propose, count, table):
    q = TABLES[table]
    out, first = run_accept(lib, propose, q, count)
    assert chi_square_is_plausible(np.bincount(out, minlength=V), P)
    if propose is with_replacement and count == 1:  # no more is rejected than must be
        share, want = (out == first).mean(), np.minimum(P, q).sum()
        assert abs(share - want) <= 5 * np.sqrt(0.25 / TRIALS)


def test_the_chi_square_sees_faults(lib):
    rng = np.random.default_rng(0)
    good = np.bincount(rng.choice(V, TRIALS, p=P), minlength=V)
    assert chi_square_is_plausible(good, P)
    q = TABLES["near"]
    always_first = np.bincount(rng.choice(V, TRIALS, p=q), minlength=V)
    assert not chi_square_is_plausible(always_first, P)
    # A rejection that draws from the target again instead of from what is left.
    token = rng.choice(V, TRIALS, p=q)
    kept = rng.random(TRIALS) * q[token] < P[token]
    again = np.where(kept, token, rng.choice(V, TRIALS, p=P))
    assert not chi_square_is_plausible(np.bincount(again, minlength=V), P)


# ---- n-gram drafts ----
def ngram(lib, context, max_tokens=8, max_depth=8, width=1):
    tokens, parents, confidence = np.empty(64, np.int32), np.empty(64, np.int32), np.empty(64, np.float32)
    n = lib.blockffn_parts_ngram(pointer(np.array(context, np.int32), c_int32), c_int64(len(context)), max_tokens, max_depth,
                                 width, pointer(tokens, c_int32), pointer(parents, c_int32), pointer(confidence, c_float))
    assert n >= 0
    return tokens[:n].tolist(), parents[:n].tolist(), confidence[:n].tolist()


def test_ngram_copies_what_followed(lib):
    tokens, parents, confidence = ngram(lib, [5, 6, 7, 8, 9, 10, 11, 1, 2, 5, 6, 7], max_tokens=4)
    assert tokens == [8, 9, 10, 11]
    assert parents == [0, 1, 2, 3]
    assert confidence == pytest.approx([4 / 6] * 4)  # one occurrence of three tokens, two votes against


def test_ngram_follows_loops_beyond_the_end(lib):
    assert ngram(lib, [9, 1, 2, 3, 1, 2, 3])[0] == [1, 2, 3, 1, 2, 3, 1, 2]
    assert ngram(lib, [4, 4])[0] == [4] * 8


def test_ngram_prefers_the_longest_match_then_the_most_recent(lib):
    assert ngram(lib, [1, 2, 3, 50, 9, 3, 60, 8, 1, 2, 3], max_tokens=1)[0] == [50]
    assert ngram(lib, [3, 50, 0, 3, 60, 8, 3], max_tokens=1)[0] == [60]


def test_ngram_tree_branches_where_texts_differ(lib):
    context = [1, 2, 3, 4, 0, 1, 2, 5, 6, 0, 1, 2]
    tokens, parents, confidence = ngram(lib, context, width=2, max_tokens=8, max_depth=2)
    assert sorted(token for token, parent in zip(tokens, parents) if parent == 0) == [3, 5]
    assert tokens[0] == 5 and confidence[0] == pytest.approx(4 / (2 + 4 + 2))  # three tokens match there, two before 3
    assert all(parent <= i for i, parent in enumerate(parents))


@pytest.mark.parametrize("context", [[7], [1, 2, 3, 4], []], ids=str)
def test_ngram_without_repetition_proposes_nothing(lib, context):
    assert ngram(lib, context or [0]) == ([], [], [])


def test_ngram_keeps_its_limits(lib):
    rng = np.random.default_rng(1)
    for _ in range(200):
        context = rng.integers(0, 4, rng.integers(1, 60)).tolist()
        max_tokens, max_depth, width = (int(x) for x in rng.integers(1, 20, 3))
        tokens, parents, confidence = ngram(lib, context, max_tokens, max_depth, width)
        depth = [0]
        for i, parent in enumerate(parents):
            assert 0 <= parent <= i
            depth.append(depth[parent] + 1)
        assert len(tokens) <= max_tokens and max(depth) <= max_depth
        assert all(parents.count(p) <= width for p in parents)
        assert len(set(zip(parents, tokens))) == len(tokens)
        assert all(0 < c < 1 for c in confidence)


# ---- cost model ----
def choose(lib, chunk_ms, parents, confidence, seen=()):
    rows, keep = len(parents), np.zeros(64, np.uint8)
    seen_confidence = np.array([c for c, _ in seen], np.float32)
    followed = np.array([f for _, f in seen], np.uint8)
    assert lib.blockffn_parts_choose(pointer(np.array(chunk_ms, float), c_double), pointer(seen_confidence, c_float),
                                     pointer(followed, c_uint8), c_int64(len(seen)), pointer(np.array(parents, np.int32), c_int32),
                                     pointer(np.array(confidence, np.float32), c_float), rows, pointer(keep, c_uint8)) == 0
    return [i for i in range(rows) if keep[i]]


LINEAR, CHEAP, DEAR = [1, 2, 4, 8, 16, 32, 64], [1, 1.1, 1.2, 1.4, 1.9, 3, 5], [1, 1.5, 2.4, 4.7, 9, 17, 33]


def rate(rows, chunk_ms, parents, confidence):
    """Expected tokens per ms of a chunk, in plain arithmetic."""
    reached = [1.0]
    for i in range(1, len(parents)):
        reached.append(reached[parents[i]] * float(np.float32(confidence[i])))
    return sum(reached[i] for i in rows) / np.interp(len(rows), [1, 2, 4, 8, 16, 32, 64], chunk_ms)


@pytest.mark.parametrize("chunk_ms", [LINEAR, CHEAP, DEAR], ids=["linear", "cheap", "dear"])
def test_the_chosen_rows_are_the_best_of_all_subtrees(lib, chunk_ms):
    rng, plain, drafted = np.random.default_rng(2), 0, 0
    for _ in range(60):
        rows = int(rng.integers(1, 9))
        parents = [-1] + [int(rng.integers(0, i)) for i in range(1, rows)]
        confidence = [1.0] + rng.random(rows - 1).tolist()
        got = choose(lib, chunk_ms, parents, confidence)
        assert got[0] == 0 and all(parents[i] in got for i in got[1:])
        best = 0.0
        for size in range(rows):
            for others in itertools.combinations(range(1, rows), size):
                subtree = (0, *others)
                if all(parents[i] in subtree for i in others):
                    best = max(best, rate(subtree, chunk_ms, parents, confidence))
        if best > 1.03:
            assert rate(got, chunk_ms, parents, confidence) >= best * (1 - 1e-9)
            drafted += 1
        elif best < 1.01:
            assert got == [0]
            plain += 1
    assert (plain if chunk_ms is LINEAR else drafted) > 10


def test_acceptance_is_learned(lib):
    chain = dict(parents=[-1, 0, 1, 2], confidence=[1, 0.9, 0.9, 0.9])
    assert choose(lib, CHEAP, **chain) == [0, 1, 2, 3]
    assert choose(lib, CHEAP, **chain, seen=[(0.9, False)] * 100) == [0]
    assert choose(lib, CHEAP, **chain, seen=[(0.9, False)] * 100 + [(0.9, True)] * 200) == [0, 1, 2, 3]
    assert choose(lib, CHEAP, **chain, seen=[(0.2, False)] * 100) == [0, 1, 2, 3]  # another confidence
