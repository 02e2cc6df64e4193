"""Decoding end to end: dense and sparse, plain and speculative, in one interleaved run on held-out text.

    python -m benchmarks.decode --quick
    python -m benchmarks.decode --draft out/blockffn-22m-docs/draft-int8.pte --out benchmarks/results/decode
    python -m benchmarks.decode --build-only      # export the models beforehand, minutes

Rows, at 8 and at 4 bits, on one thread or --threads:
  dense plain    the dense twin of equal size on ExecuTorch's XNNPACK delegate (benchmarks/dense_twin.py), 8da8w and 8da4w
  sparse plain   the checkpoint through our delegate and the C++ runner, one token a cycle
  sparse + spec  the same in mode auto: drafts of the head (--draft) and of n-grams, verified where the cost model says so
  dense + spec   what the dense twin would take: its chunks timed at the sizes that the sparse run verified, with the sparse
                 run's acceptance and drafting time REPLAYED (its own weights are random, so its text says nothing)
  auto vs plain  CPU time of mode auto over plain on random tokens, where drafts fail

The prompts are of five kinds (prose, code, questions and answers, summaries, lists), from held-out documents of the corpus.
All flavours take turns prompt by prompt in one process, on the same thread pool; tokens/s are of decoding alone, the median
of the rounds. Greedy unless --temperature. Text that repeats itself favours n-grams: accepted tokens a cycle are printed per
kind, and `--drafter head` leaves n-grams out.

The model beside the measurement counts bytes: a decoded token reads every weight but the embedding and the experts that its
chunk does not use. A measured ratio further than 20 % from it is marked, with the GB/s that both sides reached.

Output  OUT/results.json, table.md, decode.png; the table on stdout, one JSON object as the last line.
Exit    0 done, 1 failed, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "checkpoints" / "blockffn-22m-docs"
HELDOUT = ROOT / "checkpoints" / "corpus" / "heldout_sample.jsonl"
PRECISIONS = {"int8": "8da8w", "int4": "8da4w"}
CONTEXT, PROMPT_CHARACTERS = 1024, 500
KINDS = {  # of a document's beginning, in this order
    "code": lambda d: d["kind"] == "code",
    "list": lambda d: len(re.findall(r"^\s*(?:[-*]|\d+[.)]) ", d["text"][:1500], re.M)) >= 7,
    "question": lambda d: re.search(r"[a-z]\?\s", d["text"][:2500]) is not None,
    "summary": lambda d: re.search(r"(?i)\b(summary|abstract|overview|synopsis|introduction)\b", d["text"][:800]) is not None,
    "prose": lambda d: d["kind"] == "prose",
}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="BlockFFN checkpoint (default: the shipped one)")
    parser.add_argument("--draft", action="append", type=Path, default=[], metavar="HEAD",
                        help="draft head of the checkpoint: its directory, exported in both precisions, or one .pte for both")
    parser.add_argument("--out", type=Path, default=Path("out/bench-decode"))
    parser.add_argument("--models", type=Path, default=Path("out/bench-decode/models"), help="exported models, kept")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--prompts", type=int, default=3, help="of each kind (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="generated for each prompt (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--drafter", choices=("best", "ngram", "head"), default="best")
    for name in ("tokens", "width", "depth"):
        parser.add_argument(f"--draft-{name}", type=int, help="default: the runner's")
    parser.add_argument("--quick", action="store_true", help="one prompt of each kind, 2 rounds, 8 bits")
    parser.add_argument("--build-only", action="store_true")
    args = parser.parse_args(argv)
    if args.quick:
        args.prompts, args.rounds, args.precisions = 1, 2, ["int8"]
    if min(args.prompts, args.tokens - 1, args.rounds, args.threads) < 1:
        parser.error("--prompts, --rounds and --threads must be at least 1, --tokens at least 2")
    if not args.checkpoint.is_dir():
        parser.error(f"{args.checkpoint}: not a directory; name a checkpoint directory")
    return args


def prompts(per_kind: int) -> list[tuple[str, str]]:
    """(kind, text) of held-out documents, the first ones that fit; a document counts for one kind."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for line in HELDOUT.read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        kind = next((kind for kind, fits in KINDS.items() if fits(document)), None)
        if kind is not None and len(document["text"]) > PROMPT_CHARACTERS and len(found[kind]) < per_kind:
            found[kind].append(document["text"][:PROMPT_CHARACTERS])
    return [(kind, text) for kind, texts in found.items() for text in texts]


def build(args) -> dict[str, dict]:
    """{precision: files and bytes}; models that exist are kept."""
    from benchmarks.dense_twin import export_twin, weight_bytes
    from export.decoder import Decoder
    from export.draft_decoder import DraftDecoder
    from export.lower import lower
    from training.checkpoint import open_checkpoint
    from training.draft_files import open_draft

    checkpoint, files = open_checkpoint(args.checkpoint), {}
    args.models.mkdir(parents=True, exist_ok=True)
    for precision in args.precisions:
        sparse, dense = args.models / f"sparse-{precision}.pte", args.models / f"dense-{PRECISIONS[precision]}.pte"
        sizes = args.models / f"sparse-{precision}.json"
        if not (sparse.is_file() and sizes.is_file()):
            print(f"exporting {sparse.name} ...", file=sys.stderr)
            lowered = lower(Decoder(checkpoint, precision, CONTEXT), str(sparse))
            sizes.write_text(json.dumps(dict(lowered.weight_bytes)))
        if not dense.is_file():
            print(f"exporting {dense.name}, a minute or two ...", file=sys.stderr)
            export_twin(checkpoint.config, PRECISIONS[precision], CONTEXT, dense)
        head, head_bytes = None, 0
        for given in args.draft:
            head = given
            if given.is_dir():
                head = args.models / f"draft-{precision}.pte"
                draft = open_draft(given, checkpoint)
                lowered = lower(DraftDecoder(draft, checkpoint, precision, CONTEXT), str(head))
                head_bytes = sum(size for name, size in lowered.weight_bytes.items() if name != "embedding")
            else:
                head_bytes = given.stat().st_size  # the embedding included: an upper bound
        files[precision] = {"sparse": sparse, "dense": dense, "head": head, "head_bytes": head_bytes,
                            "bytes": json.loads(sizes.read_text()), "dense_bytes": weight_bytes(checkpoint.config, PRECISIONS[precision])}
    return files


class Dense:
    """The twin, timed: the same tokens, one by one or in chunks."""

    def __init__(self, path: Path) -> None:
        import torch
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  its kernels

        from runtime_delegates.loader import executorch_runtime
        from runtime_delegates.logs import quiet_log

        self._tensor = torch.tensor
        with quiet_log():
            self._program = executorch_runtime._load_program(str(path))
            self._forward = self._program.load_method("forward")

    def run(self, ids: list[int], start: int) -> None:
        self._forward((self._tensor([ids]), self._tensor([start])))

    def plain(self, prompt: list[int], text: list[int]) -> tuple[float, float]:
        """(wall ms, CPU ms) of decoding the text behind the prompt."""
        for at in range(0, len(prompt), 64):
            self.run(prompt[at : at + 64], at)
        wall, cpu = time.perf_counter(), time.process_time()
        for i, token in enumerate(text[:-1]):
            self.run([token], len(prompt) + i)
        return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3

    def chunk_ms(self, tokens: int, start: int) -> float:
        began = time.perf_counter()
        self.run([5] * tokens, start)
        return (time.perf_counter() - began) * 1e3


def measure(args, precision: str, files: dict, cases) -> dict:
    """Samples of one precision: {kind: {flavour: [...]}} and what the runs did."""
    from export.report import bar
    from runtime_delegates.logs import quiet_log
    from runtime_delegates.runner import Runner, set_threads

    with quiet_log():
        set_threads(args.threads)
        runner, dense = Runner(files["sparse"]), Dense(files["dense"])
        if files["head"] is not None:
            runner.load_draft(files["head"])
        set_threads(args.threads)  # for all of the process
        runner.generate([1], 1, "plain")
    runner.load_tokenizer(args.checkpoint)
    options = {"temperature": args.temperature, "drafter": args.drafter} | {
        f"draft_{name}": getattr(args, f"draft_{name}") for name in ("tokens", "width", "depth") if getattr(args, f"draft_{name}")}
    samples = []
    with bar(f"decoding, {precision}", len(cases) * (args.rounds + 1), "prompts") as progress:
        for round_ in range(-1, args.rounds):  # the first warms up, and calibrates
            for number, (kind, text) in enumerate(cases):
                ids = runner.encode(text)[-(CONTEXT - args.tokens - 64):]
                sample = {"kind": kind, "prompt": number}

                def sparse(mode):
                    runner.generate(ids, 1, "plain")  # the prompt is in the context
                    cpu = time.process_time()
                    result = runner.generate(ids, args.tokens, mode, seed=number, **options)
                    sample[mode] = result
                    sample[f"{mode}_cpu_ms"] = (time.process_time() - cpu) * 1e3

                def twin():
                    sample["dense_ms"], sample["dense_cpu_ms"] = dense.plain(ids, (ids * args.tokens)[: args.tokens])

                order = [lambda: sparse("plain"), lambda: sparse("auto"), twin]
                for step in order[round_ % 3 :] + order[: round_ % 3]:
                    step()
                if sample["plain"].ids != sample["auto"].ids:
                    raise RuntimeError("speculation changed the text, which must never happen; please report it")
                if len(sample["plain"].ids) < 2 or not sample["auto"].cycles:
                    progress.update()
                    continue  # the text ended at once
                # Dense with the sparse run's acceptance: its chunks, at their sizes.
                replayed = sum(statistics.median(dense.chunk_ms(t, len(ids)) for _ in range(3)) * n
                               for t, n in sample["auto"].chunks.items())
                sample["dense_spec_ms"] = replayed + sample["auto"].draft_ms + sample["auto"].other_ms
                progress.update()
                if round_ >= 0:
                    samples.append(sample)
    return {"samples": samples, "losing": losing_ratio(runner, args, options), "kernels": runner.kernels}


def losing_ratio(runner, args, options: dict) -> float:
    """CPU time of mode auto over plain where drafts fail: sampling at a high temperature from random prompts."""
    import random

    rng, ratios = random.Random(0), []
    for _ in range(6 if args.quick else 16):
        ids, cpu = [rng.randrange(3, runner.vocab_size) for _ in range(64)], {}
        for mode in ("plain", "auto", "auto", "plain"):
            runner.generate(ids, 1, "plain")
            before = time.process_time()
            runner.generate(ids, args.tokens, mode, **options | {"temperature": 3.0, "seed": 1})
            cpu[mode] = min(cpu.get(mode, 1e9), time.process_time() - before)
        ratios.append(cpu["auto"] / cpu["plain"])
    return statistics.median(ratios)


def summary(args, precision: str, files: dict, found: dict) -> list[dict]:
    """Rows of the table."""
    weights = Counter(files["bytes"])
    experts = sum(size for name, size in weights.items() if "ffn" in name)
    rest = sum(size for name, size in weights.items() if "ffn" not in name and name != "embedding")
    rows = []
    for kind in [*dict.fromkeys(s["kind"] for s in found["samples"]), "all"]:
        of_kind = [s for s in found["samples"] if kind in (s["kind"], "all")]

        def rate(ms_of, tokens_of):
            by_prompt: dict[int, list[float]] = {}
            for s in of_kind:
                by_prompt.setdefault(s["prompt"], []).append(ms_of(s) / tokens_of(s))
            return 1e3 / statistics.mean(statistics.median(values) for values in by_prompt.values())

        def share(result):
            return statistics.mean(result.union_share.values()) if result.union_share else 0.0

        decoded = lambda s: s["auto"].generated_tokens - 1  # noqa: E731
        plain_share = statistics.mean(share(s["plain"]) for s in of_kind)
        spec_bytes = statistics.mean(
            sum(n * (rest + experts * s["auto"].union_share.get(t, 1.0)) for t, n in s["auto"].chunks.items()) / decoded(s)
            for s in of_kind)
        row = {
            "precision": precision, "kind": kind, "prompts": len({s["prompt"] for s in of_kind}),
            "dense_plain": rate(lambda s: s["dense_ms"], lambda s: args.tokens - 1),
            "dense_spec_replayed": rate(lambda s: s["dense_spec_ms"], decoded),
            "sparse_plain": rate(lambda s: s["plain"].decode_ms, decoded),
            "sparse_spec": rate(lambda s: s["auto"].decode_ms, decoded),
            "tokens_per_cycle": statistics.mean(s["auto"].tokens_per_cycle for s in of_kind),
            "union_plain": plain_share, "cpu_spec_over_plain": statistics.median(s["auto_cpu_ms"] / s["plain_cpu_ms"] for s in of_kind),
            "bytes": {"dense": files["dense_bytes"], "sparse_plain": rest + experts * plain_share, "sparse_spec": spec_bytes},
        }
        for name, top, bottom in (("sparse_over_dense", "sparse_plain", "dense_plain"), ("spec_over_dense", "sparse_spec", "dense_plain"),
                                  ("spec_over_sparse", "sparse_spec", "sparse_plain")):
            row[name] = row[top] / row[bottom]
        row["model_sparse_over_dense"] = row["bytes"]["dense"] / row["bytes"]["sparse_plain"]
        row["model_spec_over_dense"] = row["bytes"]["dense"] / row["bytes"]["sparse_spec"]
        row["gb_per_s"] = {"dense": row["bytes"]["dense"] * row["dense_plain"] / 1e9,
                           "sparse_plain": row["bytes"]["sparse_plain"] * row["sparse_plain"] / 1e9}
        rows.append(row)
    return rows


def table(rows: list[dict], losing: dict[str, float]) -> str:
    lines = ["| bits | text | dense plain | dense + spec (replayed) | sparse plain | sparse + spec | tokens a cycle | sparse / dense (bytes say) "
             "| spec / dense (bytes say) | spec / sparse |", "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for r in rows:
        def beside(measured, model):
            mark = "" if abs(measured / model - 1) <= 0.2 else " !"
            return f"{measured:.2f}x ({model:.2f}x){mark}"

        lines.append(f"| {r['precision']} | {r['kind']} | {r['dense_plain']:.0f} | {r['dense_spec_replayed']:.0f} | {r['sparse_plain']:.0f} "
                     f"| {r['sparse_spec']:.0f} | {r['tokens_per_cycle']:.2f} | {beside(r['sparse_over_dense'], r['model_sparse_over_dense'])} "
                     f"| {beside(r['spec_over_dense'], r['model_spec_over_dense'])} | {r['spec_over_sparse']:.2f}x |")
    lines += ["", "tokens/s of decoding. `!`: more than 20 % from the byte model, because the two sides did not read equally fast:"]
    lines += [f"- {r['precision']}: dense reads {r['gb_per_s']['dense']:.1f} GB/s, sparse {r['gb_per_s']['sparse_plain']:.1f} GB/s; "
              f"a token's bytes: dense {r['bytes']['dense'] / 1e6:.1f} MB, sparse {r['bytes']['sparse_plain'] / 1e6:.1f} MB, speculative "
              f"{r['bytes']['sparse_spec'] / 1e6:.1f} MB. A chunk of T tokens also computes T times as much, which the byte model leaves out."
              for r in rows if r["kind"] == "all"]
    lines += [f"- {precision}: where drafts fail, mode auto takes {ratio:.3f} of the CPU time of plain decoding" for precision, ratio in losing.items()]
    return "\n".join(lines) + "\n"


def picture(rows: list[dict], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    flavours = {"dense_plain": ("dense plain, XNNPACK", "#bbbbbb"), "dense_spec_replayed": ("dense + speculation (replayed)", "#777777"),
                "sparse_plain": ("sparse plain", "#7fbf7b"), "sparse_spec": ("sparse + speculation", "#1b7837")}
    precisions = list(dict.fromkeys(r["precision"] for r in rows))
    figure, axes = plt.subplots(1, len(precisions), figsize=(5.5 * len(precisions), 3.4), layout="constrained", squeeze=False)
    for axis, precision in zip(axes[0], precisions):
        shown = [r for r in rows if r["precision"] == precision]
        for i, (key, (label, color)) in enumerate(flavours.items()):
            axis.bar([x + (i - 1.5) * 0.2 for x in range(len(shown))], [r[key] for r in shown], 0.2, label=label, color=color)
        axis.set_xticks(range(len(shown)), [r["kind"] for r in shown], fontsize=8)
        axis.set_title(precision, fontsize=10)
        axis.set_ylabel("decoded tokens/s")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    from benchmarks.measure import machine

    try:
        files = build(args)
        if args.build_only:
            return 0
        cases, rows, losing, kernels = prompts(args.prompts), [], {}, ""
        for precision in args.precisions:
            found = measure(args, precision, files[precision], cases)
            rows += summary(args, precision, files[precision], found)
            losing[precision], kernels = found["losing"], found["kernels"]
    except (RuntimeError, ValueError, OSError) as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    text = table(rows, losing)
    result = {"machine": machine(), "checkpoint": args.checkpoint.name, "threads": args.threads, "rounds": args.rounds, "tokens": args.tokens,
              "temperature": args.temperature, "drafter": args.drafter, "draft_head": bool(args.draft), "kernels": kernels,
              "rows": rows, "auto_over_plain_where_drafts_fail": losing}
    for name, content in (("results.json", json.dumps(result, indent=1) + "\n"), ("table.md", text)):
        (args.out / f"{name}.part").write_text(content)
        (args.out / f"{name}.part").rename(args.out / name)
    head = "a draft head and n-grams" if args.draft else "n-grams"
    picture(rows, args.out / "decode.png", f"{args.checkpoint.name}, {kernels}, {args.threads} thread(s), drafts of {head}")
    print(text)
    overall = {r["precision"]: {k: round(r[k], 3) for k in ("spec_over_dense", "spec_over_sparse", "sparse_over_dense", "tokens_per_cycle")}
               for r in rows if r["kind"] == "all"}
    print(json.dumps({"out": str(args.out), "overall": overall, "auto_over_plain_where_drafts_fail": losing}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
