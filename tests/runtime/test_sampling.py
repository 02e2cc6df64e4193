"""Sampler against naive references written from the definitions, and against the statistics of its draws."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from runtime_delegates.sampling import Sampler

LOGITS = [
    [1.0, 3.0, -2.0, 3.0, 0.5, -0.25, 2.0],
    [0.0] * 5,
    np.random.default_rng(3).normal(0, 4, 200).tolist(),
    [1e30, -1e30, 3.0],
    [7.0],
]


def reference(logits, seen=(), temperature=1.0, top_k=0, top_p=1.0, penalty=1.0):
    """Probabilities of every token, one step of the definition at a time, in plain Python floats."""
    logits = list(logits)
    for i in set(seen):
        logits[i] = logits[i] / penalty if logits[i] > 0 else logits[i] * penalty
    if temperature == 0:
        return [1.0 if i == logits.index(max(logits)) else 0.0 for i in range(len(logits))]
    scaled = [x / temperature for x in logits]
    kept = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    if top_k:
        kept = kept[:top_k]
    weights = [math.exp(scaled[i] - scaled[kept[0]]) for i in kept]
    total = math.fsum(weights)
    if top_p < 1:
        mass, count = 0.0, 0
        while mass < top_p * total and count < len(kept):
            mass += weights[count]
            count += 1
        kept, weights = kept[:count], weights[:count]
        total = math.fsum(weights)
    out = [0.0] * len(logits)
    for i, w in zip(kept, weights):
        out[i] = w / total
    return out


SETTINGS = [
    dict(temperature=1.0), dict(temperature=0.3), dict(temperature=5.0), dict(temperature=0.0),
    dict(temperature=1.0, top_k=1), dict(temperature=1.0, top_k=3), dict(temperature=1.0, top_k=1000),
    dict(temperature=1.0, top_p=0.5), dict(temperature=0.7, top_p=0.9), dict(temperature=1.0, top_p=1e-9),
    dict(temperature=1.3, top_k=4, top_p=0.8), dict(temperature=1.0, penalty=1.7), dict(temperature=0.0, penalty=1.7),
    dict(temperature=0.8, top_k=5, top_p=0.7, penalty=0.6),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("logits", LOGITS, ids=lambda x: f"V{len(x)}")
def test_probabilities_equal_the_definition(logits, settings):
    seen = [i for i in (1, 2, 4, 1) if i < len(logits)]
    settings = dict(settings)
    want = np.array(reference(logits, seen, **settings))
    penalty = settings.pop("penalty", 1.0)
    original = np.array(logits, dtype=np.float32)
    given = original.copy()
    got = Sampler(repetition_penalty=penalty, **settings).probabilities(np.array(logits), seen)
    assert got.dtype == np.float64 and abs(got.sum() - 1) <= 1e-12
    wrong = ~(np.abs(got - want) <= 1e-12)
    assert not wrong.any(), (got[wrong], want[wrong])
    assert ((got == 0) == (want == 0)).all()
    Sampler(repetition_penalty=penalty, **settings).choose(given, seen)
    assert (given == original).all()  # the caller's logits stay


def test_filters_act_in_the_documented_order():
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    # top-k first: of [4/7, 3/7], 0.5 needs one token; top-p alone would keep two (0.4 < 0.5).
    assert (Sampler(1.0, top_k=2, top_p=0.5).probabilities(logits) > 0).tolist() == [True, False, False, False]
    assert (Sampler(1.0, top_p=0.5).probabilities(logits) > 0).tolist() == [True, True, False, False]
    # temperature before top-p: a flat distribution needs more tokens for the same mass.
    assert (Sampler(0.2, top_p=0.75).probabilities(logits) > 0).sum() == 1
    assert (Sampler(9.0, top_p=0.75).probabilities(logits) > 0).sum() == 4 - 1
    # the penalty changes which token is greedy.
    assert Sampler(repetition_penalty=2.0).choose(np.array([3.0, 2.0, -1.0]), [0]) == 1
    assert Sampler(repetition_penalty=2.0).choose(np.array([-3.0, -2.0, -5.0]), [1]) == 0


@pytest.mark.parametrize("settings", [dict(temperature=1.0), dict(temperature=0.8, top_k=6), dict(temperature=1.5, top_p=0.8),
                                      dict(temperature=1.2, top_k=7, top_p=0.9, repetition_penalty=1.3)], ids=str)
def test_draws_follow_the_distribution(settings):
    """Pearson's chi-square over 20,000 draws with a fixed seed: below the 99.9 % quantile."""
    from scipy.stats import chi2

    logits, seen, draws = np.random.default_rng(11).normal(0, 1.5, 12), [0, 3], 20_000
    sampler = Sampler(seed=5, **settings)
    counts = np.bincount([sampler.choose(logits, seen) for _ in range(draws)], minlength=12)
    penalty = settings.get("repetition_penalty", 1.0)
    filters = {k: v for k, v in settings.items() if k != "repetition_penalty"}
    expected = draws * np.array(reference(logits, seen, penalty=penalty, **filters))
    possible = expected > 0
    assert counts[~possible].sum() == 0
    degrees = possible.sum() - 1
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert statistic <= chi2.ppf(0.999, degrees)
    # The same counts are rejected as draws from a distribution that is 15 % off.
    wrong = expected.copy()
    first, second = np.argsort(-expected)[:2]
    wrong[first], wrong[second] = wrong[first] * 0.85, wrong[second] + 0.15 * expected[first]
    assert ((counts - wrong)[possible] ** 2 / wrong[possible]).sum() > chi2.ppf(0.999, degrees)


def test_a_draw_of_zero_skips_impossible_tokens():
    sampler = Sampler(temperature=1.0, top_k=1)
    sampler._random = SimpleNamespace(random=lambda: 0.0)
    assert sampler.choose(np.array([0.0, 1.0, 5.0, 2.0])) == 2
    sampler._random = SimpleNamespace(random=lambda: 1 - 2**-53)  # the largest draw there is
    assert sampler.choose(np.array([0.0, 1.0, 5.0, 2.0])) == 2


def test_equal_seeds_give_equal_tokens():
    logits = np.random.default_rng(0).normal(0, 2, (50, 300)).astype(np.float32)
    runs = []
    for seed in (1, 1, 2):
        sampler = Sampler(temperature=1.0, seed=seed)
        runs.append([sampler.choose(row) for row in logits])
    assert runs[0] == runs[1] != runs[2]
    assert [Sampler().choose(row) for row in logits] == logits.argmax(axis=1).tolist()


@pytest.mark.parametrize("settings", [dict(temperature=-1), dict(temperature=float("nan")), dict(temperature=float("inf")), dict(top_k=-1),
                                      dict(top_p=0), dict(top_p=1.5), dict(top_p=float("nan")), dict(repetition_penalty=0), dict(seed=-1)],
                         ids=str)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Sampler(**settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(value, temperature):
    with pytest.raises(ValueError, match="not finite"):
        Sampler(temperature).choose(np.array([0.0, value, 1.0]))
