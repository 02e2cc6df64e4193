"""Compares runs of `python -m training.train`: one table, and their curves in one picture.

    python -m training.compare out/shipped out/ablation --out out/compare.png

A run is an out_dir.  The table holds the held-out numbers of finished runs (summary.json) and the means of the last
tenth of the steps of every run (metrics.jsonl, training batches); the picture shows loss, TLS and CLS8 over tokens,
smoothed as in curves.png.  TensorBoard shows the same rows: `tensorboard --logdir out`.  The last line of stdout is
one JSON object.

Units   nats for losses, perplexity per token; sparsities are fractions in [0, 1].
Exit status  0 done; 1 failed, with nothing left at --out; 2 bad arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from training.command import run_command
from training.curves import moving_average, read_metrics, smoothing_width
from training.files import write_whole

LAST = 0.1  # share of the steps whose mean stands for a run
COLUMNS = {"step": "step", "tokens": "tokens", "heldout_perplexity": "perplexity", "heldout_tls": "TLS", "heldout_cls8": "CLS8",
           "ce": "train ce", "al": "AL", "cs": "CS", "tls": "train TLS", "cls8": "train CLS8"}
PANELS = (("ce", "cross-entropy [nats]"), ("tls", "TLS"), ("cls8", "CLS8"))


def measured(out_dir: Path, rows: list[dict]) -> dict:
    """COLUMNS of one run; held-out values are None before it has finished."""
    last = rows[-max(1, round(LAST * len(rows))):]
    means = {key: sum(row[key] for row in last) / len(last) for key in ("ce", "al", "cs", "tls", "cls8")}
    summary_file = out_dir / "summary.json"
    summary = json.loads(summary_file.read_text()) if summary_file.is_file() else {}
    heldout = {key: summary.get(key) for key in COLUMNS if key.startswith("heldout")}
    return {"run": str(out_dir), "step": rows[-1]["step"], "tokens": rows[-1]["tokens"]} | heldout | means


def read_run(out_dir: Path) -> list[dict]:
    rows = read_metrics(out_dir / "metrics.jsonl")
    if not rows:
        raise ValueError(f"{out_dir}: no metrics.jsonl with rows; name the out_dir of a run of training.train")
    missing = [key for key in ("tokens", "ce", "al", "cs", "tls", "cls8") if key not in rows[-1]]
    if missing:
        raise ValueError(f"{out_dir}: its metrics lack {', '.join(missing)}; name runs of training.train, not of a draft head")
    return rows


def draw(runs: dict[str, list[dict]], path: Path) -> None:
    """The PANELS of every run over its tokens, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(PANELS))
    for axis, (key, label) in zip(axes, PANELS):
        for name, rows in runs.items():
            values = [row[key] for row in rows]
            axis.plot([row["tokens"] for row in rows], moving_average(values, smoothing_width(values)), label=name)
        axis.set_xlabel("tokens")
        axis.set_title(label)
        axis.grid(alpha=0.3)
        if key != "ce":
            axis.set_ylim(0, 1)
    axes[0].legend(fontsize=8)
    write_whole(path, lambda part: figure.savefig(part, dpi=110, format="png"))


def render(results: list[dict]) -> str:
    """One line a run; a missing value is a hyphen."""
    def cell(value) -> str:
        return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"

    lines = [["run", *COLUMNS.values()]] + [[result["run"], *(cell(result[key]) for key in COLUMNS)] for result in results]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(line, widths)))
                     for line in lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="OUT_DIR", help="folders that runs wrote")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="write the picture there")
    args = parser.parse_args(argv)

    def body() -> dict:
        runs = {str(out_dir): read_run(out_dir) for out_dir in args.runs}
        results = [measured(Path(name), rows) for name, rows in runs.items()]
        if args.out is not None:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            draw(runs, args.out)
        print(render(results))
        return {"runs": results, "picture": None if args.out is None else str(args.out)}

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
