"""Decoding end to end: dense and sparse, plain and speculative, in one interleaved run on held-out text.

    python -m benchmarks.decode --quick
    python -m benchmarks.decode --draft checkpoints/blockffn-22m-docs/draft --models-of shipped 0.1B 1.2B
    python -m benchmarks.decode --build-only ...  # the same arguments: exports the models beforehand, minutes

Models: the shipped checkpoint, and models of the paper's sizes with random weights, in which routing, drafted trees and
acceptance are replayed from traces of the shipped checkpoint (benchmarks/decode_synthetic.py says how).

Rows, at 8 and at 4 bits, on one thread or --threads:
  dense plain    the dense twin of equal size on ExecuTorch's XNNPACK delegate (benchmarks/dense_twin.py), 8da8w and 8da4w
  sparse plain   the model through our delegate and the C++ runner, one token a cycle
  sparse + spec  the same in mode auto: drafts of the head (--draft) and of n-grams, verified where the cost model says so
  dense + spec   what the dense twin would take: its chunks timed at the sizes that the sparse run verified, with the sparse
                 run's acceptance and drafting time REPLAYED (its own weights are random, so its text says nothing)
  auto vs plain  CPU time of mode auto over plain on random tokens, where drafts fail (shipped checkpoint)

The prompts are of five kinds (prose, code, questions and answers, summaries, lists), from held-out documents of the corpus.
All flavours take turns prompt by prompt in one process, on the same thread pool; tokens/s are of decoding alone, the median
of the rounds. Greedy unless --temperature. Text that repeats itself favours n-grams: accepted tokens a cycle are printed per
kind, and `--drafter head` leaves n-grams out.

The model beside the measurement counts bytes: a decoded token reads every weight but the embedding and the experts that its
chunk does not use. A measured ratio further than 20 % from it is marked, and the lines below the table say why.

Output  OUT/results.json, table.md, decode.png; the table on stdout, one JSON object as the last line.
Exit    0 done, 1 failed, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import sys
import time
from pathlib import Path

from benchmarks import decode_models as models
from benchmarks.decode_models import CONTEXT, PRECISIONS, SHIPPED, Dense, Files
from benchmarks.decode_report import picture, summary, table

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "checkpoints" / "blockffn-22m-docs"
HELDOUT = ROOT / "checkpoints" / "corpus" / "heldout_sample.jsonl"
PROMPT_CHARACTERS, TRACE_TOKENS = 500, 128
SYNTHETIC = ("0.1B", "1.2B", "2.8B")
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
    parser.add_argument("--draft", type=Path, metavar="HEAD",
                        help="draft head of the checkpoint: its directory, exported in both precisions, or one .pte for both")
    parser.add_argument("--models-of", nargs="+", choices=(SHIPPED, *SYNTHETIC), default=[SHIPPED], metavar="SIZE",
                        help=f"{SHIPPED} (default), {', '.join(SYNTHETIC)}")
    parser.add_argument("--out", type=Path, default=Path("out/bench-decode"))
    parser.add_argument("--models", type=Path, default=Path("out/bench-decode/models"), help="exported models, kept")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--prompts", type=int, default=3, help="of each kind, for the shipped checkpoint (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="generated for each prompt (default: %(default)s)")
    parser.add_argument("--synthetic-tokens", type=int, default=64, help="the same for the others (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s; the others: half of it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0, help="of the shipped checkpoint's texts")
    parser.add_argument("--drafter", choices=("best", "ngram", "head"), default="best")
    for name in ("tokens", "width", "depth"):
        parser.add_argument(f"--draft-{name}", type=int, help="default: the runner's")
    parser.add_argument("--quick", action="store_true", help="one prompt of each kind, 2 rounds, 8 bits")
    parser.add_argument("--build-only", action="store_true")
    args = parser.parse_args(argv)
    if args.quick:
        args.prompts, args.rounds, args.precisions = 1, 2, ["int8"]
    if min(args.prompts, args.tokens - 1, args.synthetic_tokens - 1, args.rounds, args.threads) < 1:
        parser.error("--prompts, --rounds and --threads must be at least 1, --tokens and --synthetic-tokens at least 2")
    if not args.checkpoint.is_dir():
        parser.error(f"{args.checkpoint}: not a directory; name a checkpoint directory")
    if args.draft is not None and not args.draft.exists():
        parser.error(f"{args.draft}: no such head; name its directory or .pte, or leave out --draft")
    args.threads_set = False
    args.options = {"drafter": args.drafter} | {
        f"draft_{name}": getattr(args, f"draft_{name}") for name in ("tokens", "width", "depth") if getattr(args, f"draft_{name}")}
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


def build(args, model: str, precision: str) -> Files:
    """Exports what is missing; for a synthetic model the traces first."""
    args.models.mkdir(parents=True, exist_ok=True)
    shipped = models.shipped(args, "int8" if model != SHIPPED else precision)
    if model == SHIPPED:
        return shipped

    def record(checkpoint):
        from benchmarks import decode_synthetic

        print("recording traces of the shipped checkpoint ...", file=sys.stderr)
        runner = open_runner(args, shipped)
        cases = [(kind, runner.encode(text)) for kind, text in prompts(1)]
        drafters = ["ngram"] if shipped.head is None else ["ngram", "best", "head"]
        options = {name: value for name, value in args.options.items() if name != "drafter"}
        return decode_synthetic.record(runner, checkpoint, cases, TRACE_TOKENS, drafters, **options)

    return models.synthetic(args, model, precision, models.traces_of(args, record))


def open_runner(args, files: Files):
    """The sparse model with its drafter."""
    from runtime_delegates.logs import quiet_log
    from runtime_delegates.runner import Runner, set_threads

    with quiet_log():
        if not args.threads_set:  # once, before anything is loaded: XNNPACK's programs keep the pool that they find
            set_threads(args.threads)
            args.threads_set = True
        runner = Runner(files.sparse)
        if files.model == SHIPPED:
            runner.load_tokenizer(args.checkpoint)
            if files.head is not None:
                runner.load_draft(files.head)
        runner.generate([1], 1, "plain")
    return runner


def cases_of(args, files: Files, runner) -> list[tuple[str, list[int]]]:
    """(kind, ids) of the prompts; a synthetic model gets its drafter here."""
    if files.model == SHIPPED:
        return [(kind, runner.encode(text)[-(CONTEXT - args.tokens - 64):]) for kind, text in prompts(args.prompts)]
    from benchmarks.decode_synthetic import Replay, head_calls

    choices = Replay.choices(files.traces, None if files.head is None else head_calls(files.head, files.config.hidden_size, args.threads))
    cases, taken = choices["n-grams"].prompts(), {}
    for name, replay in choices.items():
        runner.set_drafter(replay)
        runner.generate(cases[0][1], 4, "auto")  # calibrates
        taken[name] = sum(runner.generate(ids, min(args.synthetic_tokens, 32), "auto").decode_ms for _, ids in cases)
    files.drafts = min(taken, key=taken.get)
    runner.set_drafter(choices[files.drafts])
    return cases


def measure(args, files: Files) -> dict:
    """Samples of one model in one precision, and what the chunks took."""
    from export.report import bar
    from runtime_delegates.logs import quiet_log

    runner = open_runner(args, files)
    with quiet_log():
        dense = Dense(files)
    shipped = files.model == SHIPPED
    cases, tokens = cases_of(args, files, runner), args.tokens if shipped else args.synthetic_tokens
    rounds = args.rounds if shipped else max(args.rounds // 2, 1)
    options = args.options | ({"temperature": args.temperature} if shipped else {})
    if not shipped:
        options.pop("drafter")
    samples, chunk_ms, dense_ms = [], {}, {}
    with bar(f"decoding, {files.model} {files.precision}", len(cases) * (rounds + 1), "prompts") as progress:
        for round_ in range(-1, rounds):  # the first warms up, and calibrates
            for number, (kind, ids) in enumerate(cases):
                sample = {"kind": kind, "prompt": number}

                def sparse(mode):
                    runner.generate(ids, 1, "plain")  # the prompt is in the context
                    cpu = time.process_time()
                    sample[mode] = runner.generate(ids, tokens, mode, seed=number, **options)
                    sample[f"{mode}_cpu_ms"] = (time.process_time() - cpu) * 1e3 - sample[mode].calibrate_ms

                def twin():
                    sample["dense_ms"], sample["dense_cpu_ms"] = dense.plain(ids, tokens - 1 if shipped else min(tokens - 1, 16))

                order = [lambda: sparse("plain"), lambda: sparse("auto"), twin]
                for step in order[round_ % 3 :] + order[: round_ % 3]:
                    step()
                if sample["plain"].ids != sample["auto"].ids:
                    raise RuntimeError("speculation changed the text, which must never happen; please report it")
                progress.update()
                if len(sample["plain"].ids) < 2 or not sample["auto"].cycles:
                    continue  # the text ended at once
                # Dense with the sparse run's acceptance: its chunks, at their sizes.
                replayed = sum(dense.chunk_ms(t, len(ids)) * n for t, n in sample["auto"].chunks.items())
                sample["dense_spec_ms"] = replayed + sample["auto"].draft_ms + sample["auto"].other_ms
                if round_ >= 0:
                    samples.append(sample)
                    chunk_ms = sample["auto"].chunk_ms
            for t in (1, 8):
                dense.chunk_ms(t, len(ids))
            dense_ms = dense.forget()
    if not samples:
        raise RuntimeError("every text ended at once: raise --tokens, or name another checkpoint")
    return {"samples": samples, "chunk_ms": chunk_ms, "dense_chunk_ms": dense_ms, "kernels": runner.kernels,
            "losing": losing_ratio(runner, args, options) if shipped else None}


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


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    from benchmarks.measure import machine

    rows, losing, kernels = [], {}, ""
    try:
        for model in args.models_of:
            for precision in args.precisions:
                files = build(args, model, precision)
                if args.build_only:
                    continue
                found = measure(args, files)
                gc.collect()  # the twin's packed weights
                rows += summary(files, found)
                kernels = found["kernels"]
                if found["losing"] is not None:
                    losing[f"{model} {precision}"] = found["losing"]
    except (RuntimeError, ValueError, OSError) as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    if args.build_only:
        print(json.dumps({"models": str(args.models)}))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    text = table(rows, losing)
    result = {"machine": machine(), "checkpoint": args.checkpoint.name, "threads": args.threads, "rounds": args.rounds, "tokens": args.tokens,
              "synthetic_tokens": args.synthetic_tokens, "replayed": [m for m in args.models_of if m != SHIPPED],
              "temperature": args.temperature, "drafter": args.drafter, "draft_head": args.draft is not None, "kernels": kernels,
              "rows": rows, "auto_over_plain_where_drafts_fail": losing}
    for name, content in (("results.json", json.dumps(result, indent=1) + "\n"), ("table.md", text)):
        (args.out / f"{name}.part").write_text(content)
        (args.out / f"{name}.part").rename(args.out / name)
    head = "a draft head and n-grams" if args.draft else "n-grams"
    picture(rows, args.out / "decode.png", f"{args.checkpoint.name}, {kernels}, {args.threads} thread(s), drafts of {head}")
    print(text)
    overall = {f"{r['model']} {r['precision']}": {k: round(r[k], 3) for k in ("spec_over_dense", "spec_over_sparse", "sparse_over_dense",
                                                                             "tokens_per_cycle")} for r in rows if r["kind"] == "all"}
    print(json.dumps({"out": str(args.out), "overall": overall, "auto_over_plain_where_drafts_fail": losing}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
