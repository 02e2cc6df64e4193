"""Decoding of a whole model in ONNX Runtime: our operator beside stock operators, all in one interleaved run.

    python -m benchmarks.onnx_decode --quick
    python -m benchmarks.onnx_decode --out benchmarks/results/onnx-decode

Every flavour is a model of its own in a process of its own; the processes take turns, a few tokens each, on the same
held-out text. blockffn: our operator. qmoe: the same checkpoint in stock operators (QMoE skips the experts that a token
does not use). dense: a dense twin of equal size with random weights, in float32 or as MatMulNBits. All of them have the
same attention, cache and vocabulary. The peers take the settings that are fastest for them: int8 activations (accuracy
level 4), MatMulNBits in blocks of 128, QMoE in the largest blocks that divide the experts' width; of theirs only the speed
counts (int4 in blocks of 128 loses more than our blocks of 32).

Reported  ms of a decoded token (p10, p50, p90; wall time, and the CPU time of all threads), tokens/s, ms from nothing
          to the first logits and the anonymous memory that this adds: medians of several processes, whose parts
          are a table of their own (benchmarks/onnx_load.py). A row is noisy (~) if p90 exceeds 1.5 times p10.
Output    OUT/results.json, table.md and decode.png; the tables on stdout, and one JSON object as the last line.
Exit      0 done, 1 failed, 2 bad arguments.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import onnx_load
from benchmarks.onnx_load import run_chunk

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "checkpoints" / "blockffn-22m-docs"
FLAVOURS = {
    "blockffn-int8": ("blockffn", "int8"), "blockffn-int4": ("blockffn", "int4"), "qmoe-int8": ("qmoe", "int8"),
    "qmoe-int4": ("qmoe", "int4"), "dense-fp32": ("dense", "fp32"), "dense-int8": ("dense", "int8"),
    "dense-int4": ("dense", "int4"),
}
PROMPT_TOKENS, CONTEXT = 64, 1024
WARM_ROUNDS = 2


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_decode", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_flags(parser)
    parser.add_argument("--out", type=Path, default=Path("out/onnx-decode"), help="directory of the results")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each flavour (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=16, help="decoded in a turn (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="8 turns and 3 loads")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.loads = 8, 3
    if min(args.rounds, args.tokens) < 1:
        parser.error("--rounds and --tokens must be at least 1")
    check_model_flags(parser, args)
    return args


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="BlockFFN checkpoint (default: the shipped one)")
    parser.add_argument("--models", type=Path, default=Path("out/onnx-decode/models"), help="directory of the models")
    parser.add_argument("--threads", type=int, default=1, help="of every process (default: %(default)s)")
    parser.add_argument("--loads", type=int, default=11, help="processes that load each flavour (default: %(default)s)")


def check_model_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if min(args.threads, args.loads) < 1:
        parser.error("--threads and --loads must be at least 1")
    if not args.checkpoint.is_dir():
        parser.error(f"{args.checkpoint}: not a directory; name a checkpoint directory")


def plain_flavours() -> dict[str, bool]:
    """Whether a flavour does without our library."""
    return {name: kind != "blockffn" for name, (kind, _) in FLAVOURS.items()}


def dense_twin(checkpoint):
    """A dense model with as many weights as `checkpoint`, random ones."""
    import dataclasses
    from types import SimpleNamespace

    import torch

    c = checkpoint.config
    experts = 2 * c.hidden_size * c.num_experts * c.expert_size + c.hidden_size * c.num_experts
    width = round(experts / (3 * c.hidden_size) / 64) * 64  # whole blocks and tiles, as dense models have
    config = dataclasses.replace(c, ffn_type="vanilla", intermediate_size=width)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: w for name, w in checkpoint.tensors.items() if ".mlp." not in name}
    for layer in range(c.num_hidden_layers):
        for name, shape in (("gate", (width, c.hidden_size)), ("up", (width, c.hidden_size)), ("down", (c.hidden_size, width))):
            noise = torch.randn(shape, generator=generator)
            tensors[f"model.layers.{layer}.mlp.{name}_proj.weight"] = noise * shape[1] ** -0.5
    return SimpleNamespace(config=config, tensors=tensors)


def build(args: argparse.Namespace) -> dict[str, Path]:
    """Models of all flavours, written once; again after a change of the checkpoint or of what writes them."""
    from export.decoder import Decoder
    from export.onnx_graph import write_onnx
    from export.onnx_stock import LARGEST_BLOCK, write_stock
    from training.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(args.checkpoint)
    twin, key = dense_twin(checkpoint), models_key(args.checkpoint)
    paths = {}
    for name, (kind, quant) in FLAVOURS.items():
        paths[name] = args.models / f"{name}-{key}" / ("model.library.onnx" if kind == "blockffn" else "model.onnx")
        if paths[name].is_file():
            continue
        print(f"writing {name} ...", file=sys.stderr)
        part = args.models / f"{name}.part"
        part.mkdir(parents=True, exist_ok=True)
        decoder = Decoder(twin if kind == "dense" else checkpoint, quant, CONTEXT)
        if kind == "blockffn":
            write_onnx(decoder, part / "model.onnx")
        else:
            write_stock(decoder, part / "model.onnx", block=LARGEST_BLOCK)
        os.replace(part, paths[name].parent)
    return paths


def models_key(checkpoint: Path) -> str:
    from benchmarks.measure import build_key

    sources = [Path(__file__), *ROOT.glob("export/*.py"), *checkpoint.glob("*.safetensors"), *checkpoint.glob("*.json")]
    return build_key(f"{CONTEXT} {FLAVOURS}", sorted(sources))


def text_tokens(checkpoint: Path, count: int) -> list[int]:
    from export.command import HELDOUT
    from export.quality import heldout_windows
    from training.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(checkpoint)
    return [i for window in heldout_windows([HELDOUT], tokenizer, 1 << 30, 8 * count, 512) for i in window][:count]


def serve(args: argparse.Namespace) -> int:
    """The process of one flavour: loads, then decodes whatever tokens it reads, and answers with times."""
    from runtime_delegates.onnx_model import OnnxModel

    model = OnnxModel(args.serve, threads=args.threads, plain=args.plain)
    n_past = run_chunk(model, [1], 0)
    print(json.dumps("loaded"), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "prompt" in job:
            n_past = 0
            for start in range(0, len(job["prompt"]), 64):
                n_past = run_chunk(model, job["prompt"][start : start + 64], n_past)
        wall, cpu = [], []
        for token in job["tokens"]:
            at, used = time.perf_counter_ns(), time.process_time_ns()
            n_past = run_chunk(model, [token], n_past)
            wall.append(time.perf_counter_ns() - at)
            cpu.append(time.process_time_ns() - used)
        print(json.dumps({"wall_ns": wall, "cpu_ns": cpu}), flush=True)
    return 0


class Worker:
    def __init__(self, path: Path, plain: bool, args: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "benchmarks.onnx_decode", "--serve", str(path), "--threads", str(args.threads)]
        environment = os.environ | {"OMP_NUM_THREADS": str(args.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(command + ["--plain"] * plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, cwd=ROOT, env=environment)
        self._answer()

    def ask(self, **job) -> dict:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended: {' '.join(self.process.args)}")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


def measure(args: argparse.Namespace, paths: dict[str, Path]) -> list[dict]:
    import numpy as np

    from export.report import bar

    loads = onnx_load.measure(paths, plain_flavours(), args.threads, args.loads)
    tokens = text_tokens(args.checkpoint, PROMPT_TOKENS + args.rounds * args.tokens)
    prompt, rest = tokens[:PROMPT_TOKENS], tokens[PROMPT_TOKENS:]
    per_reset = (CONTEXT - PROMPT_TOKENS) // 2 // args.tokens  # contexts of 64 to about 540 tokens
    workers: dict[str, Worker] = {}
    samples = {name: {"wall_ns": [], "cpu_ns": []} for name in paths}
    try:
        for name, path in paths.items():
            workers[name] = Worker(path.resolve(), plain_flavours()[name], args)
        names = list(paths)
        with bar("decoding", (args.rounds + WARM_ROUNDS) * len(names), "turns") as progress:
            for turn in range(-WARM_ROUNDS, args.rounds):
                i = max(turn, 0)
                job = {"tokens": (rest[i * args.tokens :] or rest)[: args.tokens]}
                if turn < 1 or i % per_reset == 0:
                    job["prompt"] = prompt
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    got = workers[name].ask(**job)
                    progress.update()
                    if turn >= 0:
                        for key, values in got.items():
                            samples[name][key] += values
    finally:
        for worker in workers.values():
            worker.close()
    rows = []
    for name, (kind, quant) in FLAVOURS.items():
        row = {"flavour": name, "kind": kind, "quant": quant, "samples": len(samples[name]["wall_ns"]), "load": loads[name]}
        for key in ("wall", "cpu"):
            ms = np.array(samples[name][f"{key}_ns"]) / 1e6
            row[f"{key}_ms"] = dict(zip(("p10", "p50", "p90"), np.percentile(ms, [10, 50, 90]).round(4).tolist(), strict=True))
        row["tokens_per_s"] = round(1e3 / row["wall_ms"]["p50"], 1)
        row["noisy"] = row["wall_ms"]["p90"] > 1.5 * row["wall_ms"]["p10"]
        data = paths[name].with_name("model.onnx.data")
        row["file_bytes"] = paths[name].stat().st_size + data.stat().st_size
        rows.append(row)
    return rows


def ratios(rows: list[dict]) -> dict:
    """What the other flavours take as multiples of ours."""
    by = {row["flavour"]: row for row in rows}
    out = {}
    for quant in ("int8", "int4"):
        ours = by[f"blockffn-{quant}"]
        for other in (f"qmoe-{quant}", f"dense-{quant}", "dense-fp32"):
            row = by[other]
            out[f"{other} / blockffn-{quant}"] = {
                "time": round(row["wall_ms"]["p50"] / ours["wall_ms"]["p50"], 2),
                "cpu_time": round(row["cpu_ms"]["p50"] / ours["cpu_ms"]["p50"], 2),
                "load": round(row["load"]["ms"] / ours["load"]["ms"], 1),
                "anonymous": round(row["load"]["anonymous_bytes"] / max(ours["load"]["anonymous_bytes"], 1), 1),
            }
    return out


def table(rows: list[dict], ratio: dict) -> str:
    lines = ["| flavour | ms a token (p10..p90) | CPU ms | tokens/s | load to first logits | anonymous memory | files |",
             "|---|---|---|---|---|---|---|"]
    for r in rows:
        w = r["wall_ms"]
        lines.append(f"| {r['flavour']} | {w['p50']:.3f}{'~' if r['noisy'] else ''} ({w['p10']:.3f}..{w['p90']:.3f}) "
                     f"| {r['cpu_ms']['p50']:.3f} | {r['tokens_per_s']:.0f} | {r['load']['ms']:.1f} ms "
                     f"| {r['load']['anonymous_bytes'] / 1e6:.1f} MB | {r['file_bytes'] / 1e6:.1f} MB |")
    lines += ["", "| as a multiple of ours | time | CPU time | load | anonymous memory |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {r['time']:.2f}x | {r['cpu_time']:.2f}x | {r['load']:.1f}x | {r['anonymous']:.1f}x |"
              for name, r in ratio.items()]
    return "\n".join(lines) + "\n\n" + onnx_load.table({r["flavour"]: r["load"] for r in rows})


def picture(rows: list[dict], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colors = {"blockffn": "#1b7837", "qmoe": "#5e81ac", "dense": "#999999"}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, layout="constrained")
    names, shown = [r["flavour"] for r in rows][::-1], [colors[r["kind"]] for r in rows][::-1]
    panels = (("ms of a decoded token", lambda r: r["wall_ms"]["p50"]), ("load to first logits, ms", lambda r: r["load"]["ms"]),
              ("anonymous memory, MB", lambda r: r["load"]["anonymous_bytes"] / 1e6))
    for axis, (label, value) in zip(axes, panels, strict=True):
        bars = axis.barh(names, [value(r) for r in rows][::-1], color=shown)
        axis.bar_label(bars, fmt="%.3g", padding=2, fontsize=8)
        axis.set_xlabel(label)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    if args.serve is not None:
        return serve(args)
    from benchmarks.measure import machine

    try:
        paths = build(args)
        rows = measure(args, paths)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine(), "threads": args.threads, "tokens_a_turn": args.tokens, "rounds": args.rounds, "rows": rows,
             "ratios": ratios(rows)}
    text = table(rows, found["ratios"])
    (args.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "table.md").write_text(text)
    picture(rows, args.out / "decode.png", f"{args.checkpoint.name} in ONNX Runtime, {args.threads} thread(s)")
    print(text)
    print(json.dumps({"out": str(args.out), "ratios": found["ratios"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
