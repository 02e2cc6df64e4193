"""Each objective and its gradient against plain float64 loops; borders, padding and p = 0 or 1.

The oracles below walk over windows, documents, tokens and experts one at a time, in Python floats.
Gradients are compared with finite differences of those loops and with autograd through them.
"""

import math

import pytest
import torch

from training import losses
from training.step import BatchCounts

ALPHA = 3.0  # where sigmoids are not all saturated; 100 is tested apart
DOCS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2],
                     [5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, -1, -1, -1, -1, -1],
                     [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
                     [-1] * 16], dtype=torch.int32)
CHUNK = 4


def random_scores(seed=0, experts=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*DOCS.shape, experts, generator=generator)


def edge_scores():
    """Tokens without an active expert (p = 0), with exactly one (p = 1), and one that dwarfs the rest."""
    raw = random_scores(1)
    raw[0, 0] = -1.0
    raw[0, 9] = torch.tensor([-1.0, 2.0, -1.0, -0.5, -3.0])  # p = 1 once in its chunk
    raw[2, 4] = torch.tensor([1.5, -1.0, -1.0, -1.0, -1.0])  # p = 1 twice in one chunk, same expert
    raw[2, 6] = torch.tensor([0.7, -1.0, -1.0, -1.0, -1.0])
    raw[2, 9] = torch.tensor([1e6, 1e-3, -1.0, 1e-3, 0.0])
    raw[2, 12:16] = -2.0  # no expert in the whole chunk
    return raw


# ---- oracles: float64 loops on nested lists of scalars ----

def softplus64(z):
    return torch.logaddexp(z, torch.zeros_like(z))


def oracle_locality(raw, docs, alpha):
    total = raw.new_zeros((), dtype=torch.float64)
    for b in range(docs.shape[0]):
        for t in range(docs.shape[1] - 1):
            if docs[b, t] < 0 or docs[b, t] != docs[b, t + 1]:
                continue
            for e in range(raw.shape[2]):
                z, target = alpha * raw[b, t, e], torch.sigmoid(alpha * raw[b, t + 1, e])
                total = total + target * softplus64(-z) + (1 - target) * softplus64(z)
    return total


def oracle_chunks(raw, docs, chunk_len):
    total, count = raw.new_zeros((), dtype=torch.float64), 0
    for b in range(docs.shape[0]):
        for start in range(0, docs.shape[1], chunk_len):
            owner = int(docs[b, start])
            if owner < 0:
                continue
            count += 1
            for e in range(raw.shape[2]):
                product = raw.new_ones((), dtype=torch.float64)
                for t in range(start, start + chunk_len):
                    if int(docs[b, t]) != owner:
                        break
                    positive = [raw[b, t, j] for j in range(raw.shape[2]) if float(raw[b, t, j].detach()) > 0]
                    if float(raw[b, t, e].detach()) > 0:
                        product = product * (1 - raw[b, t, e] / sum(positive))
                total = total + 1 - product
    return total, count


def gradient(function, raw):
    raw = raw.clone().requires_grad_()
    value = function(raw)
    (grad,) = torch.autograd.grad(value, raw)
    return float(value.detach()), grad


def assert_close(value, want, bound):
    worst = (value.double() - want.double()).abs()
    assert not bool((~(worst <= bound)).any()), f"off by {float(worst.max())}"


def finite_difference(function, raw, entries, step=1e-6):
    for index in entries:
        low, high = raw.clone(), raw.clone()
        low[index] -= step
        high[index] += step
        yield index, (float(function(high)) - float(function(low))) / (2 * step)


# ---- activation locality ----

@pytest.mark.parametrize("alpha", [ALPHA, 100.0])
def test_locality_value_and_gradient(alpha):
    raw = edge_scores()
    raw[2, 9, 0] = 6.0
    pairs = losses.valid_pairs(DOCS)
    value, grad = gradient(lambda r: losses.locality_loss_sum(r, pairs, alpha), raw)
    want, want_grad = gradient(lambda r: oracle_locality(r, DOCS, alpha), raw.double())
    assert abs(value - want) <= 2e-6 * abs(want)
    assert_close(grad, want_grad, 3e-5 * alpha)
    assert float(grad[DOCS < 0].abs().max()) == 0.0, "padding has no gradient"


def test_locality_gradient_reaches_both_tokens_of_a_pair():
    raw = torch.tensor([[[0.3], [-0.2]]], dtype=torch.float64)
    docs = torch.zeros(1, 2, dtype=torch.int32)
    _, grad = gradient(lambda r: losses.locality_loss_sum(r, losses.valid_pairs(docs), ALPHA), raw)
    for index, slope in finite_difference(lambda r: oracle_locality(r, docs, ALPHA), raw, [(0, 0, 0), (0, 1, 0)]):
        assert slope != 0 and abs(float(grad[index]) - slope) <= 1e-5 * abs(slope)


def test_locality_is_right_at_zero_and_finite_far_out():
    docs = torch.zeros(1, 2, dtype=torch.int32)
    for now, following in [(0.0, 0.0), (1e4, -1e4), (-1e4, 1e4), (1e4, 1e4), (0.0, 5.0)]:
        raw = torch.tensor([[[now], [following]]])
        value, grad = gradient(lambda r: losses.locality_loss_sum(r, losses.valid_pairs(docs), 100.0), raw)
        z, target = 100 * now, 1 / (1 + math.exp(min(max(-100 * following, -700), 700)))
        want = max(z, 0) + math.log1p(math.exp(-abs(z))) - z * target
        assert abs(value - want) <= 1e-6 * max(1.0, abs(want))
        slope = 100 * (1 / (1 + math.exp(min(max(-z, -700), 700))) - target)
        assert abs(float(grad[0, 0, 0]) - slope) <= 1e-4
        assert bool(torch.isfinite(grad).all())


# ---- chunk sparsification ----

@pytest.mark.parametrize("make", [random_scores, edge_scores])
def test_chunk_loss_value_and_gradient(make):
    raw = make()
    mask = losses.chunk_mask(DOCS, CHUNK)
    value, grad = gradient(lambda r: losses.chunk_loss_sum(r, mask), raw)
    want, want_grad = gradient(lambda r: oracle_chunks(r, DOCS, CHUNK)[0], raw.double())
    assert abs(value - want) <= 1e-5 * abs(want)
    # One step of float32 in a share p = s / sum, over a sum as small as it gets here.
    smallest = torch.relu(raw).sum(-1)
    bound = 1e-5 / smallest[smallest > 0].min()
    assert_close(grad, want_grad, float(bound))
    assert float(grad[3].abs().max()) == 0.0 and float(grad[1, 11:].abs().max()) == 0.0, "padding"
    assert float(grad[0, 3].abs().max()) == 0.0, "past the border in a cut chunk"
    assert want_grad.abs().max() > 10 * bound, "the bound is not vacuous"


def test_chunk_loss_gradient_by_finite_differences():
    raw = edge_scores().double()
    raw[2, 9] = torch.tensor([1.0, 0.5, -1.0, 0.25, -0.1], dtype=torch.float64)
    _, grad = gradient(lambda r: losses.chunk_loss_sum(r, losses.chunk_mask(DOCS, CHUNK)), raw)
    entries = [(0, 9, 1), (2, 4, 0), (2, 6, 0), (2, 9, 1), (2, 10, 2), (1, 2, 3), (0, 4, 4)]
    for index, slope in finite_difference(lambda r: oracle_chunks(r, DOCS, CHUNK)[0], raw, entries):
        assert abs(float(grad[index]) - slope) <= 1e-5


def test_chunk_product_gradient_with_no_one_and_two_zero_factors():
    factors = torch.tensor([[0.5, 0.0, 0.0], [0.25, 0.5, 0.0], [0.1, 0.2, 0.9]])[None, None]  # [B, C, K, E]
    factors.requires_grad_()
    losses._ChunkProduct.apply(factors).sum().backward()
    want = torch.tensor([[0.025, 0.1, 0.0], [0.05, 0.0, 0.0], [0.125, 0.0, 0.0]])
    assert_close(factors.grad[0, 0], want, 1e-8)


def test_all_inactive_scores_cost_nothing_and_have_no_gradient():
    docs = torch.zeros(1, 8, dtype=torch.int32)
    value, grad = gradient(lambda r: losses.chunk_loss_sum(r, losses.chunk_mask(docs, 4)), torch.full((1, 8, 3), -1.0))
    assert value == 0.0 and float(grad.abs().max()) == 0.0


def test_long_chunk_of_shares_near_one_stays_finite():
    docs = torch.zeros(1, 64, dtype=torch.int32)
    raw = torch.full((1, 64, 2), 1e-7)
    raw[..., 0] = 1e3
    value, grad = gradient(lambda r: losses.chunk_loss_sum(r, losses.chunk_mask(docs, 64)), raw)
    assert abs(value - 1.0) <= 1e-6 and bool(torch.isfinite(grad).all())


def test_scores_are_not_modified():
    raw = edge_scores()
    before = raw.clone()
    losses.chunk_loss_sum(raw, losses.chunk_mask(DOCS, CHUNK))
    losses.locality_loss_sum(raw, losses.valid_pairs(DOCS), ALPHA)
    losses.sparsity_counts(raw, DOCS)
    assert torch.equal(raw, before)


# ---- cross-entropy ----

def oracle_cross_entropy(x, weight, targets):
    total = x.new_zeros((), dtype=torch.float64)
    for n in range(x.shape[0]):
        if int(targets[n]) < 0:
            continue
        logits = torch.stack([(x[n] * weight[v]).sum() for v in range(weight.shape[0])])
        top = logits.max().detach()
        total = total + top + torch.log(torch.exp(logits - top).sum()) - logits[int(targets[n])]
    return total


@pytest.mark.parametrize("chunk", [1, 5, 7, 100])
def test_cross_entropy_value_and_gradients(chunk):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(13, 6, generator=generator), torch.randn(9, 6, generator=generator)
    targets = torch.randint(9, (13,), generator=generator)
    targets[[0, 6, 12]] = losses.IGNORE
    x.requires_grad_(), weight.requires_grad_()
    scale = torch.tensor(0.1)
    loss = losses.cross_entropy(x, weight, targets, scale, chunk)
    (3 * loss).backward()
    x64, weight64 = (t.detach().double().requires_grad_() for t in (x, weight))
    want = 0.1 * oracle_cross_entropy(x64, weight64, targets)
    (3 * want).backward()
    assert abs(float(loss.detach()) - float(want.detach())) <= 1e-6
    assert_close(x.grad, x64.grad, 1e-6)
    assert_close(weight.grad, weight64.grad, 1e-6)
    assert float(x.grad[[0, 6, 12]].abs().max()) == 0.0
    assert abs(float(losses.cross_entropy_sum(x, weight, targets, chunk)) - 10 * float(want.detach())) <= 1e-5


def test_cross_entropy_of_huge_logits_is_finite():
    x, weight = torch.tensor([[1e4], [-1e4]]).requires_grad_(), torch.tensor([[1.0], [-1.0]])
    loss = losses.cross_entropy(x, weight, torch.tensor([1, 1]), torch.tensor(1.0))
    loss.backward()
    assert abs(float(loss.detach()) - 2e4) <= 1 and bool(torch.isfinite(x.grad).all())


# ---- which positions count ----

def test_targets_never_cross_a_border_or_padding():
    ids = torch.arange(10, 19)[None]
    docs = torch.tensor([[0, 0, 1, 1, 1, 2, -1, -1, -1]], dtype=torch.int32)
    assert losses.valid_targets(ids, docs).tolist() == [[11, -1, 13, 14, -1, -1, -1, -1]]


def test_counts_equal_those_of_the_loops():
    docs1 = torch.cat((DOCS, torch.tensor([[2], [-1], [8], [-1]], dtype=torch.int32)), dim=1)
    counts = BatchCounts.of(docs1, CHUNK)
    rows = docs1.tolist()
    def same(row, t):
        return row[t] == row[t + 1] >= 0
    assert counts.targets == sum(same(row, t) for row in rows for t in range(16))
    assert counts.pairs == sum(same(row, t) for row in rows for t in range(15))
    assert counts.tokens == sum(row[t] >= 0 for row in rows for t in range(16))
    assert counts.chunks == oracle_chunks(random_scores(), DOCS, CHUNK)[1] == 4 + 3 + 4
    assert counts.whole_chunks == sum(len(set(row[s:s + 8])) == 1 and row[s] >= 0 for row in rows for s in (0, 8))


def test_sparsity_counts_equal_those_of_the_loops():
    raw = edge_scores()
    raw[2, 8:16, 3] = -1.0
    raw[0, 8:16, 1] = 0.0  # zero is inactive
    inactive = unused = 0
    for b, row in enumerate(DOCS.tolist()):
        for e in range(raw.shape[2]):
            inactive += sum(row[t] >= 0 and float(raw[b, t, e]) <= 0 for t in range(16))
            for start in (0, 8):
                if len(set(row[start:start + 8])) == 1 and row[start] >= 0:
                    unused += all(float(raw[b, t, e]) <= 0 for t in range(start, start + 8))
    assert losses.sparsity_counts(raw, DOCS).tolist() == [inactive, unused]
    assert unused >= 2


def test_a_wrong_gradient_would_be_caught():
    """The checker itself: products in the log domain give NaN where p = 1, and must not pass."""
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([float("nan")]), torch.tensor([0.0]), 1.0)
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([1.0]), torch.tensor([0.0]), 0.5)
