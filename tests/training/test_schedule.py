"""Learning rate, adaptive chunk-loss factor and divergence watch, against values worked out by hand."""

import json
import math

import pytest

from training.schedule import ChunkFactor, LossGuard, TrainingStopped, learning_rate
from training.train_config import TrainConfig


def config(**changes) -> TrainConfig:
    return TrainConfig(**({"steps": 100, "lr": 1.0, "warmup_fraction": 0.1, "decay_fraction": 0.2, "lambda_cs": 0.1,
                           "cs_adapt_after": 20, "cs_adapt_every": 10} | changes))


def test_learning_rate_rises_stays_and_falls():
    rates = [learning_rate(step, config(min_lr_ratio=0.1)) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and set(rates[10:81]) == {1.0}
    assert rates[90] == pytest.approx(0.1 + 0.9 * 10 / 20) and rates[99] == pytest.approx(0.1 + 0.9 / 20)
    assert all(b < a for a, b in zip(rates[80:], rates[81:]))
    assert [learning_rate(s, config(warmup_fraction=0, decay_fraction=0)) for s in (0, 99)] == [1.0, 1.0]


def feed(factor, start, cs, tls=0.0, cls8=0.0, steps=10):
    for step in range(start, start + steps):
        factor.observe(step, {"cs": cs, "tls": tls, "cls8": cls8})
    return factor.factor


def test_factor_follows_the_ratio_of_the_means_after_the_start():
    factor = ChunkFactor(config())
    assert feed(factor, 0, 0.5) == 0.1 and feed(factor, 10, 0.9) == 0.1, "constant until cs_adapt_after"
    assert feed(factor, 20, 0.9 * 1.2) == pytest.approx(0.12), "a rise by more than cs_min_growth"
    assert feed(factor, 30, 0.9 * 1.2 * 1.001) == pytest.approx(0.12 * 1.025), "a small rise"
    assert feed(factor, 40, 0.9 * 1.2 * 1.001 / 2) == pytest.approx(0.12 * 1.025 / 2), "a fall"
    assert feed(factor, 50, 100.0) == pytest.approx(0.4), "at most 4 times the start"
    assert feed(factor, 60, 0.001) == pytest.approx(0.025), "at least a quarter"


def test_factor_uses_means_of_whole_intervals():
    factor = ChunkFactor(config(cs_adapt_after=10))
    for step in range(10):
        factor.observe(step, {"cs": 1.0 + step, "tls": 0, "cls8": 0})  # mean 5.5
    for step in range(10, 20):
        assert factor.factor == 0.1
        factor.observe(step, {"cs": 11.0 if step % 2 else 0.0, "tls": 0, "cls8": 0})  # mean 5.5 again
    assert factor.factor == pytest.approx(0.1)


@pytest.mark.parametrize("tls, cls8, cs, growth", [
    (0.85, 0.60, 0.5, 1.025), (0.70, 0.80, 0.5, 1.025), (0.70, 0.60, 2.0, 2.0),  # below one target: push
    (0.81, 0.71, 2.0, 1.0), (0.81, 0.71, 0.9, 0.9),  # at both: never grow
    (0.83, 0.73, 2.0, 1 / 1.025)])  # above both by the margin: let go
def test_targets_steer_the_factor(tls, cls8, cs, growth):
    factor = ChunkFactor(config(cs_target_cls8=0.70, tls_target=0.80, cs_adapt_after=10))
    feed(factor, 0, 1.0)
    assert feed(factor, 10, cs, tls, cls8) == pytest.approx(0.1 * growth)


def test_the_loss_fades_in():
    factor = ChunkFactor(config(cs_start_step=5, cs_ramp_steps=10))
    assert [factor.weight(step) for step in (0, 4)] == [0.0, 0.0]
    assert [factor.weight(step) for step in (5, 9, 14, 50)] == pytest.approx([0.01, 0.05, 0.1, 0.1])


def test_state_survives_json():
    one, two = ChunkFactor(config()), ChunkFactor(config())
    feed(one, 0, 0.5, steps=10), feed(one, 10, 0.7, steps=10), feed(one, 20, 0.9, steps=4)
    two.load(json.loads(json.dumps(one.state())))
    assert feed(one, 24, 1.3, steps=16) == feed(two, 24, 1.3, steps=16) != 0.1
    guard, again = LossGuard(config()), LossGuard(config())
    again.load(json.loads(json.dumps(guard.state())))
    assert again.best == math.inf


def row(ce):
    return {"loss": ce, "ce": ce, "al": 0.0, "cs": 0.0, "grad_norm": 1.0}


@pytest.mark.parametrize("bad", [{"loss": math.nan}, {"al": math.inf}, {"grad_norm": math.nan}, {"ce": -math.inf}])
def test_guard_stops_at_a_value_that_is_not_finite(bad):
    guard = LossGuard(config())
    guard.observe(1, row(5.0))
    with pytest.raises(TrainingStopped, match=f"^step 2: {next(iter(bad))} is .*lower lr.*intact$"):
        guard.observe(2, row(5.0) | bad)


def test_guard_stops_a_divergence_but_not_a_spike():
    guard = LossGuard(config(divergence_margin=1.0, divergence_steps=3))
    for step, ce in enumerate([5.0, 4.0, 9.0, 9.0, 4.5, 5.1, 5.1], 1):
        guard.observe(step, row(ce))
    with pytest.raises(TrainingStopped, match="step 8: the cross-entropy 5.100 .* minimum 4.000 for 3 steps"):
        guard.observe(8, row(5.1))
