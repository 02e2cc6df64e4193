"""Generates text from an exported program through the BlockFFN backend.

    python -m runtime_delegates.generate out/model.pte --prompt "To install the package," --max-tokens 100
    python -m runtime_delegates.generate out/model.pte --prompt-file p.txt --temperature 0.8 --top-p 0.95 --seed 7

The text goes to stdout as its tokens arrive, a report to stderr; so stdout ends with a JSON object
only under --json. Greedy unless --temperature is given. The report proves that the delegate ran:
the backend counts its calls, and a count that differs from the number of steps is an error.
Exit status: 0 done, 1 failed, 2 bad arguments.

Units   tokens_per_s, *_ms, shares in [0, 1]; the first token's time (TTFT) includes the prefill.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from runtime_delegates.cli import add_generation_flags, check_at_least_one, exit_status, read_prompt
from runtime_delegates.loader import Stats
from runtime_delegates.logs import quiet_log
from runtime_delegates.sampling import Sampler
from runtime_delegates.session import Session
from runtime_delegates.text import StopFilter, encode_prompt, find_tokenizer
from training.tokenizer import StreamDecoder, Tokenizer


@dataclass
class Report:
    """Filled by generate(); complete when its iterator has ended."""

    prompt_tokens: int = 0
    ids: list[int] = field(default_factory=list)  # generated tokens, without the end-of-text token
    stopped_by: str = ""  # end of text | stop string | max tokens | context full
    ttft_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    prefill_steps: int = 0
    decode_steps: int = 0
    prefill: Stats = Stats()
    decode: Stats = Stats()

    def check_delegate(self) -> None:
        """RuntimeError unless the backend counted one call for every step."""
        for phase, steps, stats in (("prefill", self.prefill_steps, self.prefill),
                                    ("decode", self.decode_steps, self.decode)):
            if stats.calls != steps:
                raise RuntimeError(f"the backend counted {stats.calls} calls for {steps} {phase} steps: another "
                                   "program ran in this process, or this one does not run through the delegate")

    def to_dict(self) -> dict:
        return {
            "prompt_tokens": self.prompt_tokens,
            "generated_tokens": len(self.ids),
            "stopped_by": self.stopped_by,
            "ttft_ms": round(self.ttft_s * 1e3, 3),
            "prefill_tokens_per_s": _rate(self.prompt_tokens, self.prefill_s),
            "decode_tokens_per_s": _rate(self.decode_steps, self.decode_s),
            "prefill_experts_read": self.prefill.read_share,
            "decode_experts_read": self.decode.read_share,
            "steps": self.prefill_steps + self.decode_steps,
            "delegate_calls": (self.prefill + self.decode).calls,
        }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 2) if count and seconds else None


def generate(session: Session, tokenizer: Tokenizer, prompt_ids: Sequence[int], sampler: Sampler, max_tokens: int,
             report: Report, stop: Sequence[str] = (), on_prefill: Callable[[int], object] | None = None) -> Iterator[str]:
    """Yields the text that each new token completes ("" for none); appends to the session's context.

    Raises ContextFull before anything runs if the prompt does not fit.
    """
    decoder, stop_filter = StreamDecoder(tokenizer), StopFilter(stop)
    report.prompt_tokens = len(prompt_ids)
    session.backend.take_stats()
    first_step, started = session.steps, time.perf_counter()
    logits_V = session.prefill(prompt_ids, on_prefill)
    report.prefill_s = time.perf_counter() - started
    report.prefill_steps, report.prefill = session.steps - first_step, session.backend.take_stats()
    while True:
        token = sampler.choose(logits_V.numpy(), [*prompt_ids, *report.ids])
        if not report.ids:
            first_token = time.perf_counter()
            report.ttft_s = first_token - started
        if token in session.eos_ids:
            report.stopped_by = "end of text"
            break
        report.ids.append(token)
        yield stop_filter.push(decoder.push(token))
        report.stopped_by = ("stop string" if stop_filter.stopped else "max tokens" if len(report.ids) >= max_tokens
                             else "context full" if session.n_past >= session.max_context else "")
        if report.stopped_by:
            break
        logits_V = session.step([token])[0][-1]
    report.decode_s = time.perf_counter() - first_token
    report.decode_steps = session.steps - first_step - report.prefill_steps
    report.decode = session.backend.take_stats()
    yield stop_filter.push(decoder.flush()) + stop_filter.flush()
    if stop_filter.stopped:
        report.stopped_by = "stop string"


def print_report(report: Report, session: Session) -> None:
    def share(stats: Stats) -> str:
        return "none" if stats.read_share is None else f"{stats.read_share:.3f}"

    def rate(value: float | None) -> str:
        return "-" if value is None else f"{value:,.1f} tokens/s"

    values, backend = report.to_dict(), session.backend
    for name, text in (
        ("prompt", f"{report.prompt_tokens} tokens, {rate(values['prefill_tokens_per_s'])}, "
                   f"first token after {report.ttft_s * 1e3:.1f} ms"),
        ("generated", f"{len(report.ids)} tokens, {rate(values['decode_tokens_per_s'])}, "
                      f"ended by {report.stopped_by}"),
        ("experts", f"share read: {share(report.prefill)} a prefill chunk, {share(report.decode)} a decoded token"),
        ("delegate", f"{backend.name} (registered), kernels {backend.kernels}, threads {backend.threads}, on {backend.device}: "
                     f"{values['delegate_calls']} calls for {values['steps']} steps"),
    ):
        print(f"{name:<10}{text}", file=sys.stderr)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runtime_delegates.generate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path, metavar="MODEL.pte")
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="file or directory (default: beside MODEL.pte)")
    add_generation_flags(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="default: this machine's fast cores")
    parser.add_argument("--ids", action="store_true", help="print the ids of the new tokens instead of text")
    args = parser.parse_args(argv)
    try:
        args.sampler = Sampler(args.temperature, args.top_k, args.top_p, args.repetition_penalty, args.seed)
    except ValueError as error:
        parser.error(str(error))
    check_at_least_one(parser, args, "max_tokens", "threads")
    return args


def run(args: argparse.Namespace) -> None:
    with quiet_log(args.verbose):
        session = Session(args.program, threads=args.threads, experts=args.experts)
        session.backend.threads  # creates the pool, which logs too
    tokenizer = find_tokenizer(session, args.tokenizer)
    text = read_prompt(args)
    prompt_ids, report = encode_prompt(session, tokenizer, text), Report()
    if args.echo:
        print(text, end="", flush=True)
    shown = 0
    with tqdm(total=len(prompt_ids), desc="reading the prompt", unit="token", delay=2, leave=False,
              disable=not sys.stderr.isatty()) as bar:
        for piece in generate(session, tokenizer, prompt_ids, args.sampler, args.max_tokens, report, args.stop, bar.update):
            bar.close()
            if args.ids:
                piece, shown = "".join(f"{i} " for i in report.ids[shown:]), len(report.ids)
            print(piece, end="", flush=True)
    print(flush=True)
    print_report(report, session)
    report.check_delegate()
    if args.json:
        print(json.dumps(report.to_dict() | {"backend": session.backend.name, "kernels": session.backend.kernels,
                                             "threads": session.backend.threads, "device": session.backend.device,
                                             "ids": report.ids}))


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
