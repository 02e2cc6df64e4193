"""Records of a run: metrics.jsonl (one row a step), TensorBoard, and curves.png; compare.py draws several runs.

Rows    step (1-based), tokens (so far), loss, ce (nats), al, cs, tls, cls8, grad_norm, lr, lambda_cs,
        tokens_per_s (not reproducible, unlike the others).
"""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from pathlib import Path


class MetricsLog:
    """Appends rows; on resume, rows after the checkpoint's step are dropped first."""

    def __init__(self, out_dir: str | os.PathLike, resume_step: int):
        self.path = Path(out_dir) / "metrics.jsonl"
        kept = [row for row in read_metrics(self.path) if row["step"] <= resume_step]
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in kept))
        part.replace(self.path)
        self.file = self.path.open("a")
        try:
            from torch.utils.tensorboard import SummaryWriter
            self.board = SummaryWriter(str(Path(out_dir) / "tensorboard"), purge_step=resume_step + 1)
        except ImportError:  # an optional package on the training machine
            self.board = None

    def write(self, rows: list[dict]) -> None:
        for row in rows:
            self.file.write(json.dumps(row) + "\n")
            if self.board is not None:
                for key, value in row.items():
                    if key != "step":
                        self.board.add_scalar(key, value, row["step"])
        self.file.flush()

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """Rows of a metrics.jsonl; an unfinished last line (the process was killed) is left out."""
    if not Path(path).exists():
        return []
    rows = []
    for line in Path(path).read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def draw_curves(rows: list[dict], path: str | os.PathLike, title: str = "") -> None:
    """The losses, learning rate, sparsity and chunk-loss weight over steps, as a PNG."""
    with _figure(rows, path, title, lines=3) as (axes, line):
        if axes is None:
            return
        line(axes[0, 0], "ce", "cross-entropy [nats]", color="C0")
        _fit(axes[0, 0], rows, ["ce"])
        line(axes[0, 1], "lr", "learning rate", smooth=False, color="C1")
        line(axes[1, 0], "tls", "TLS", color="C2")
        line(axes[1, 0], "cls8", "CLS8", color="C3")
        axes[1, 0].set_ylim(0, 1)
        line(axes[1, 1], "lambda_cs", "weight of the chunk loss", smooth=False, color="C4")
        line(axes[2, 0], "al", "activation locality loss", color="C5")
        line(axes[2, 1], "cs", "chunk sparsification loss", color="C6")


def draw_draft_curves(rows: list[dict], path: str | os.PathLike, title: str = "") -> None:
    """Of a draft head: loss and agreement with the target at each drafting step, learning rate and gradient, as a PNG."""
    with _figure(rows, path, title) as (axes, line):
        if axes is None:
            return
        depths = [k for k in range(1, 65) if f"ce{k}" in rows[0]]
        for k in depths:
            line(axes[0, 0], f"ce{k}", f"cross-entropy [nats], drafting step {k}", color=f"C{k - 1}")
            line(axes[0, 1], f"agree{k}", f"likeliest token is the target's, step {k}", color=f"C{k - 1}")
        _fit(axes[0, 0], rows, [f"ce{k}" for k in depths])
        axes[0, 1].set_ylim(0, 1)
        line(axes[1, 0], "lr", "learning rate", smooth=False, color="C0")
        line(axes[1, 1], "grad_norm", "norm of the gradient", color="C1")
        axes[1, 1].set_yscale("log")


@contextmanager
def _figure(rows: list[dict], path: str | os.PathLike, title: str, lines: int = 2):
    """(axes [lines, 2], line(axis, key, label)), written to path behind it; (None, None) without rows."""
    if not rows:
        yield None, None
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.5 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, 2, sharex=True)
    steps = [row["step"] for row in rows]

    def line(axis, key: str, label: str, smooth: bool = True, **style) -> None:
        values = [row[key] for row in rows]
        if smooth and len(values) > 50:
            axis.plot(steps, values, alpha=0.25, linewidth=0.8, **style)
            values = moving_average(values, smoothing_width(values))
        axis.plot(steps, values, label=label, **style)

    yield axes, line
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    figure.suptitle(title)
    part = Path(f"{path}.part")
    figure.savefig(part, dpi=110, format="png")
    part.replace(path)


def _fit(axis, rows: list[dict], keys: list[str]) -> None:
    """The first steps may leave the picture."""
    finite = sorted(row[key] for row in rows for key in keys if math.isfinite(row[key]))
    if finite:
        axis.set_ylim(finite[0] - 0.2, finite[int(0.97 * (len(finite) - 1))] + 0.5)


def smoothing_width(values: list[float]) -> int:
    return max(2, len(values) // 50)


def moving_average(values: list[float], width: int) -> list[float]:
    """The mean of the last `width` values up to each."""
    averages, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - width] if index >= width else 0.0)
        averages.append(total / min(index + 1, width))
    return averages
