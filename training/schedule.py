"""What changes along a run: learning rate, factor of the chunk loss, and the watch for divergence.

Every class here is plain Python on numbers that all processes share, and saves its state as JSON.

Source  BlockFFN, arXiv:2507.08771 (adaptive factor); warm-up/stable/decay: MiniCPM, arXiv:2404.06395.
"""

from __future__ import annotations

import math

from training.train_config import TrainConfig


class TrainingStopped(RuntimeError):
    """The run cannot go on; the message is one sentence for the user."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """Of optimizer step `step` (0-based): linear warm-up, flat, linear decay to lr * min_lr_ratio."""
    warmup = round(config.warmup_fraction * config.steps)
    decay = round(config.decay_fraction * config.steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    remaining = config.steps - step  # the last step is one decrement above the floor
    if decay and remaining <= decay:
        return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * remaining / decay)
    return config.lr


class ChunkFactor:
    """Adaptive weight of the chunk sparsification loss.

    Every cs_adapt_every steps after cs_adapt_after, the factor is multiplied by the ratio of the
    chunk loss's means (last interval over the one before); a rise multiplies by at least
    cs_min_growth.  It stays between cs_min_factor and cs_max_factor times its start.
    With cs_target_cls8 (and tls_target), measured on the training batches of the last interval:
      below a target                           at least cs_min_growth, it never shrinks;
      at the targets                           it does not grow;
      above every target by sparsity_margin    1 / cs_min_growth.
    Independent of that, cs_start_step and cs_ramp_steps fade the loss in.
    """

    SUMS = ("cs", "tls", "cls8")

    def __init__(self, config: TrainConfig):
        self.config = config
        self.factor = config.lambda_cs
        self.previous_cs: float | None = None  # mean of the interval before
        self.sums, self.count = dict.fromkeys(self.SUMS, 0.0), 0

    def weight(self, step: int) -> float:
        """lambda_cs of optimizer step `step` (0-based)."""
        config = self.config
        if step < config.cs_start_step:
            return 0.0
        if config.cs_ramp_steps:
            return self.factor * min(1.0, (step - config.cs_start_step + 1) / config.cs_ramp_steps)
        return self.factor

    def adapts_after(self, step: int) -> bool:
        """Whether step `step` (0-based) ends an interval."""
        return (step + 1) % self.config.cs_adapt_every == 0

    def observe(self, step: int, row: dict) -> None:
        """Take in the measured values of step `step`; every step once, in order."""
        for key in self.SUMS:
            self.sums[key] += row[key]
        self.count += 1
        if not self.adapts_after(step):
            return
        mean = {key: value / self.count for key, value in self.sums.items()}
        if step + 1 > self.config.cs_adapt_after and self.previous_cs:
            start = self.config.lambda_cs
            self.factor *= self._growth(mean)
            self.factor = min(max(self.factor, start * self.config.cs_min_factor), start * self.config.cs_max_factor)
        self.previous_cs = mean["cs"]
        self.sums, self.count = dict.fromkeys(self.SUMS, 0.0), 0

    def _growth(self, mean: dict) -> float:
        config = self.config
        ratio = mean["cs"] / self.previous_cs
        growth = max(ratio, config.cs_min_growth) if ratio > 1 else ratio
        targets = [(mean["cls8"], config.cs_target_cls8), (mean["tls"], config.tls_target)]
        excess = [value - target for value, target in targets if target is not None]
        if not excess:
            return growth
        if min(excess) >= config.sparsity_margin:
            return 1 / config.cs_min_growth
        return min(growth, 1.0) if min(excess) >= 0 else max(growth, config.cs_min_growth)

    def state(self) -> dict:
        return {"factor": self.factor, "previous_cs": self.previous_cs, "sums": self.sums, "count": self.count}

    def load(self, state: dict) -> None:
        self.factor, self.previous_cs = state["factor"], state["previous_cs"]
        self.sums, self.count = dict(state["sums"]), state["count"]


class LossGuard:
    """Stops a run whose loss is not finite, or stays divergence_margin nats above its minimum."""

    ADVICE = "resume with a lower lr or grad_clip, or a longer warm-up; the last checkpoint is intact"

    def __init__(self, config: TrainConfig):
        self.config = config
        self.best, self.bad_steps = math.inf, 0

    def observe(self, step: int, row: dict) -> None:
        """Raises TrainingStopped.  `step` is 1-based, as in the metrics."""
        for key in ("loss", "ce", "al", "cs", "grad_norm"):
            if not math.isfinite(row[key]):
                raise TrainingStopped(f"step {step}: {key} is {row[key]} (loss {row['loss']:.4g}); {self.ADVICE}")
        self.best = min(self.best, row["ce"])
        self.bad_steps = self.bad_steps + 1 if row["ce"] > self.best + self.config.divergence_margin else 0
        if self.bad_steps >= self.config.divergence_steps:
            raise TrainingStopped(
                f"step {step}: the cross-entropy {row['ce']:.3f} has stayed {self.config.divergence_margin} above its "
                f"minimum {self.best:.3f} for {self.bad_steps} steps; {self.ADVICE}")

    def state(self) -> dict:
        return {"best": self.best if math.isfinite(self.best) else None, "bad_steps": self.bad_steps}

    def load(self, state: dict) -> None:
        self.best = math.inf if state["best"] is None else state["best"]
        self.bad_steps = state["bad_steps"]
