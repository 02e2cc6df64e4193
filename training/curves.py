"""Records of a run: metrics.jsonl (one row a step), TensorBoard, and curves.png.

Rows    step (1-based), tokens (so far), loss, ce (nats), al, cs, tls, cls8, grad_norm, lr, lambda_cs,
        tokens_per_s (not reproducible, unlike the others).
"""

from __future__ import annotations

import json
import math
import os
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
    """Loss, learning rate, sparsity and chunk-loss weight over steps, as a PNG."""
    if not rows:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex=True)
    steps = [row["step"] for row in rows]

    def line(axis, key: str, label: str, smooth: bool = True, **style) -> None:
        values = [row[key] for row in rows]
        if smooth and len(values) > 50:
            axis.plot(steps, values, alpha=0.25, linewidth=0.8, **style)
            values = _moving_average(values, max(2, len(values) // 50))
        axis.plot(steps, values, label=label, **style)

    line(axes[0, 0], "ce", "cross-entropy [nats]", color="C0")
    finite = sorted(row["ce"] for row in rows if math.isfinite(row["ce"]))
    if finite:
        axes[0, 0].set_ylim(finite[0] - 0.2, finite[int(0.97 * (len(finite) - 1))] + 0.5)
    line(axes[0, 1], "lr", "learning rate", smooth=False, color="C1")
    line(axes[1, 0], "tls", "TLS", color="C2")
    line(axes[1, 0], "cls8", "CLS8", color="C3")
    axes[1, 0].set_ylim(0, 1)
    line(axes[1, 1], "lambda_cs", "weight of the chunk loss", smooth=False, color="C4")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.legend()
    for axis in axes[1]:
        axis.set_xlabel("step")
    figure.suptitle(title)
    part = Path(f"{path}.part")
    figure.savefig(part, dpi=110, format="png")
    part.replace(path)


def _moving_average(values: list[float], width: int) -> list[float]:
    averages, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - width] if index >= width else 0.0)
        averages.append(total / min(index + 1, width))
    return averages
