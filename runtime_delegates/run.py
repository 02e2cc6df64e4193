"""Generates text with the C++ runner: speculative decoding where it pays.

    python -m runtime_delegates.run out/model.pte --prompt "To install the package," --max-tokens 100
    python -m runtime_delegates.run out/model.pte --prompt-file p.txt --mode spec --draft-tokens 7 --draft-width 1
    python -m runtime_delegates.run out/model.pte --prompt "To install the package," --compare
    python -m runtime_delegates.run out/onnx-int8/model.onnx --draft out/draft-int8.pte --prompt "To install the package,"

The model is a .pte or, in ONNX Runtime, a .onnx. Drafts come from the text so far (n-gram look-up) and from the
draft head of --draft, a .pte for either; greedy text is the same in every mode. The text goes
to stdout as its tokens arrive, a report to stderr; under --json or --compare stdout ends with a JSON
object. --compare runs the modes in turns, three times each, with their text left out, and exits with an
error if their tokens differ. Exit status: 0 done, 1 failed, 2 bad arguments.

Units   tokens/s, ms, shares in [0, 1]; the first token's time (TTFT) includes the prefill.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_delegates.cli import add_generation_flags, check_at_least_one, exit_status, read_prompt
from runtime_delegates.logs import quiet_log
from runtime_delegates.onnx_model import OnnxModel
from runtime_delegates.runner import MODES, Result, Runner, set_threads


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runtime_delegates.run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, metavar="MODEL", help="a .pte or .onnx file")
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="tokenizer.json or its directory (default: beside MODEL)")
    parser.add_argument("--draft", type=Path, metavar="HEAD.pte", help="draft head of the same checkpoint")
    parser.add_argument("--mode", choices=MODES, default="auto",
                        help="plain: one token a step; spec: always draft; auto (default): what is faster")
    parser.add_argument("--draft-tokens", type=int, default=31, metavar="N", help="most of a chunk, 1 to 63 (default 31)")
    parser.add_argument("--draft-width", type=int, default=3, metavar="N", help="branches of a token; 1: a chain (default 3)")
    add_generation_flags(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="default: the runtime's choice for this machine")
    parser.add_argument("--compare", action="store_true", help="time all modes instead of printing text")
    args = parser.parse_args(argv)
    check_at_least_one(parser, args, "max_tokens", "draft_tokens", "draft_width", "threads")
    if args.draft_tokens > 63:
        parser.error("--draft-tokens must be at most 63")
    return args


def print_report(result: Result) -> None:
    def rate(value: float | None) -> str:
        return "-" if value is None else f"{value:,.1f} tokens/s"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    shares = ", ".join(f"T={t} {share:.3f}" for t, share in result.union_share.items())
    kernels = f"kernels {result.kernels}" if result.kernels else "ONNX Runtime"
    for name, text in (
        ("prompt", f"{result.prompt_tokens} tokens, {rate(result.prefill_tokens_per_s)}, "
                   f"first token after {result.ttft_ms:.1f} ms"),
        ("generated", f"{result.generated_tokens} tokens, {rate(result.decode_tokens_per_s)}, ended by {result.stopped_by}"),
        ("cycles", f"{result.cycles}, {number(result.tokens_per_cycle)} tokens each; {result.drafted_tokens} drafted, "
                   f"{result.accepted_tokens} accepted"),
        ("time", f"draft {result.draft_ms:.1f} ms, verify {result.verify_ms:.1f} ms, other {result.other_ms:.1f} ms; "
                 f"calibration {result.calibrate_ms:.1f} ms"),
        ("experts", f"share read by a chunk: {shares or ('none' if result.kernels else 'not counted')}"),
        ("process", f"{kernels}, peak resident {result.peak_rss_bytes / 1e6:.1f} MB"),
    ):
        print(f"{name:<10}{text}", file=sys.stderr)


def compare(runner: Runner, prompt: str, options: dict, rounds: int = 3) -> dict:
    """Decoding speed of every mode, in turns; the first round, which also calibrates, is not counted."""
    prompt_ids = runner.encode(prompt)
    results: dict[str, list[Result]] = {mode: [] for mode in MODES}
    for round_ in range(rounds + 1):
        for mode in MODES:
            result = runner.generate(prompt_ids, mode=mode, **options)
            if round_:
                results[mode].append(result)
    if len({tuple(result.ids) for of_mode in results.values() for result in of_mode}) != 1:
        raise RuntimeError("the modes gave different tokens, which must never happen; please report it")
    table = {}
    for mode, of_mode in results.items():
        speed = [result.decode_tokens_per_s for result in of_mode if result.decode_tokens_per_s]
        table[mode] = {"decode_tokens_per_s": statistics.median(speed) if speed else None,
                       "tokens_per_cycle": of_mode[-1].tokens_per_cycle}
        print(f"{mode:<6}{table[mode]['decode_tokens_per_s'] or 0:10,.1f} tokens/s {of_mode[-1].tokens_per_cycle or 0:6.2f} "
              "tokens a cycle", file=sys.stderr)
    return {"modes": table, "generated_tokens": len(of_mode[-1].ids), "kernels": runner.kernels}


def open_runner(args: argparse.Namespace) -> Runner:
    if args.program.suffix == ".onnx":
        return Runner(OnnxModel(args.program, args.threads))
    runner = Runner(args.program)
    if args.threads is not None:
        set_threads(args.threads)
    return runner


def run(args: argparse.Namespace) -> None:
    with quiet_log(args.verbose):
        runner = open_runner(args)
        if args.draft is not None:
            runner.load_draft(args.draft)
        runner.generate([runner.bos_id or 0], 1, "plain")  # starts the thread pool, which logs too
        runner.reset()
    runner.load_tokenizer(args.program.parent if args.tokenizer is None else args.tokenizer)
    text = read_prompt(args)
    options = {name: getattr(args, name) for name in ("max_tokens", "draft_tokens", "draft_width", "temperature", "top_k",
                                                      "top_p", "repetition_penalty", "seed", "experts")}
    if args.compare:
        print(json.dumps(compare(runner, text, options)))
        return
    if args.echo:
        print(text, end="", flush=True)
    result = runner.generate_text(text, mode=args.mode, stop=args.stop, on_text=lambda piece: print(piece, end="", flush=True), **options)
    print(flush=True)
    print_report(result)
    if args.json:
        print(json.dumps(result.to_dict() | {"mode": args.mode}))


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
