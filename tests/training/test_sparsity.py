"""Sparsity metrics against plain loops over lists, and against numbers worked out by hand."""

import math
import random

import pytest
import torch

from training.sparsity import (SparsityMeter, chunk_level_sparsity, cls_curve, reuse_ratio,
                               token_level_sparsity)

TOLERANCE = 1e-12  # float64 sums of at most a few thousand terms of size <= 1


# ---- the oracle: sets of active experts per token, counted one by one ----

def active_sets(scores):
    return [{e for e, s in enumerate(row) if max(s, 0.0) != 0.0} for row in scores]


def naive_cls(documents, num_experts, chunk_len):
    idle = chunks = 0
    for scores in documents:
        sets = active_sets(scores)
        for start in range(0, len(sets) - chunk_len + 1, chunk_len):
            union = set().union(*sets[start:start + chunk_len])
            idle += num_experts - len(union)
            chunks += 1
    return idle / (chunks * num_experts) if chunks else math.nan


def naive_reuse(documents):
    ratios = []
    for scores in documents:
        sets = active_sets(scores)
        ratios += [len(a & b) / len(b) for a, b in zip(sets, sets[1:]) if b]
    return sum(ratios) / len(ratios) if ratios else math.nan


def close(got, want):
    if want is None or math.isnan(want):
        return got is None or math.isnan(got)
    return got is not None and abs(got - want) <= TOLERANCE


def random_scores(seed, tokens, experts, density):
    rng = random.Random(seed)
    return [[rng.uniform(0.01, 3) if rng.random() < density else rng.choice([0.0, -0.0, -1.5]) for _ in range(experts)]
            for _ in range(tokens)]


@pytest.mark.parametrize("density", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 63, 64, 65, 131])
@pytest.mark.parametrize("experts", [1, 5, 40])
def test_one_layer_equals_the_loops(tokens, experts, density):
    scores = random_scores(tokens * 100 + experts, tokens, experts, density)
    tensor = torch.tensor(scores)
    assert close(token_level_sparsity(tensor), naive_cls([scores], experts, 1))
    assert close(reuse_ratio(tensor), naive_reuse([scores]))
    curve = cls_curve(tensor)
    assert len(curve) == 64
    for n in range(1, 65):
        assert close(curve[n - 1], naive_cls([scores], experts, n)), n
        if n <= tokens:
            assert chunk_level_sparsity(tensor, n) == curve[n - 1]
    assert curve[0] == token_level_sparsity(tensor)


def test_numbers_by_hand():
    # experts used: {0} {0,1} {1} {} {2}
    scores = torch.tensor([[1.0, 0, 0, 0], [2, 1, 0, 0], [0, 3, -1, 0], [0, 0, 0, 0], [0, -2, 5, 0]])
    assert token_level_sparsity(scores) == 1 - 5 / 20
    # chunks {0,1} {1}; the fifth token is an incomplete tail and does not count
    assert chunk_level_sparsity(scores, 2) == (2 + 3) / 8
    assert chunk_level_sparsity(scores, 3) == 2 / 4
    assert chunk_level_sparsity(scores, 5) == 1 / 4
    # 1/2 for the second token, 1 for the third, the fourth uses none, 0 for the fifth
    assert reuse_ratio(scores) == pytest.approx((1 / 2 + 1 + 0) / 3, abs=TOLERANCE)
    padded_tail = (2 + 3 + 3) / 12  # what counting the tail as a chunk would give
    assert chunk_level_sparsity(scores, 2) != padded_tail


def test_raw_scores_and_their_relu_give_the_same():
    scores = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    assert cls_curve(scores) == cls_curve(scores.relu())
    assert reuse_ratio(scores) == reuse_ratio(scores.relu())


def test_tiny_scores_are_active():
    assert token_level_sparsity(torch.tensor([[1e-45, 0.0]])) == 0.5  # the smallest float32 above 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused(bad):
    scores = torch.ones(8, 4)
    scores[3, 2] = bad
    for function in (token_level_sparsity, cls_curve, reuse_ratio, lambda s: chunk_level_sparsity(s, 2),
                     lambda s: SparsityMeter(1, 4).add(s[None])):
        with pytest.raises(ValueError, match="not finite"):
            function(scores)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (1, 4, 4)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        token_level_sparsity(torch.ones(shape))


@pytest.mark.parametrize("chunk_len", [-1, 0, 9])
def test_chunk_length_must_fit(chunk_len):
    with pytest.raises(ValueError, match="1 to 8"):
        chunk_level_sparsity(torch.ones(8, 2), chunk_len)


def test_meter_equals_the_loops_over_documents_and_layers():
    layers, experts, lengths = 3, 9, [1, 70, 8, 129, 23, 2]
    # [document][layer][token][expert]
    data = [[random_scores(100 * d + l, length, experts, 0.15 + 0.2 * l) for l in range(layers)]
            for d, length in enumerate(lengths)]
    data[0][0][0] = [0.0] * experts
    meter = SparsityMeter(layers, experts)
    for document in data:
        meter.add([torch.tensor(scores) for scores in document])
    result = meter.result()
    assert result["tokens"] == sum(lengths) and result["pieces"] == len(lengths)
    by_layer = [[document[l] for document in data] for l in range(layers)]
    for l, row in enumerate(result["per_layer"]):
        assert row["layer"] == l
        assert close(row["tls"], naive_cls(by_layer[l], experts, 1))
        assert close(row["cls8"], naive_cls(by_layer[l], experts, 8))
        assert close(row["reuse_ratio"], naive_reuse(by_layer[l]))
    for n in range(1, 65):
        want = sum(naive_cls(by_layer[l], experts, n) for l in range(layers)) / layers
        assert close(result["cls_curve"][n - 1], want), n
    assert result["cls8"] == result["cls_curve"][7] and result["tls"] == result["cls_curve"][0]
    for n in (1, 8, 64):
        want = 0.0
        for l in range(layers):
            tokens = [row for scores in by_layer[l] for row in scores]
            for e in range(experts):
                frequency = sum(row[e] > 0 for row in tokens) / len(tokens)
                want += (1 - frequency) ** n / (layers * experts)
        assert close(result["independent_curve"][n - 1], want), n


def test_chunks_never_cross_documents():
    one, other = torch.tensor([[[1.0, 0.0]] * 4]), torch.tensor([[[0.0, 1.0]] * 4])
    apart, joined = SparsityMeter(1, 2), SparsityMeter(1, 2)
    apart.add(one)
    apart.add(other)
    joined.add(torch.cat((one, other), dim=1))
    assert apart.result()["cls_curve"][:4] == [0.5] * 4
    assert apart.result()["cls8"] is None  # no document is 8 tokens long
    assert joined.result()["cls8"] == 0.0
    assert apart.result()["reuse_ratio"] == 1.0 and joined.result()["reuse_ratio"] == pytest.approx(6 / 7)


def test_unused_experts_are_counted_over_all_documents():
    meter = SparsityMeter(2, 3)
    meter.add(torch.tensor([[[1.0, 0, 0]], [[0, 0, 0]]]))
    meter.add(torch.tensor([[[0.0, 1, 0]], [[0, 0, 0]]]))
    assert [row["unused_experts"] for row in meter.result()["per_layer"]] == [1, 3]
    assert meter.result()["per_layer"][1]["reuse_ratio"] is None


def test_meter_refuses_other_layers_and_nothing():
    meter = SparsityMeter(2, 3)
    with pytest.raises(ValueError, match="2 layers"):
        meter.add(torch.ones(3, 5, 3))
    with pytest.raises(ValueError, match="no tokens"):
        meter.result()
