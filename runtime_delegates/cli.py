"""What the commands that generate text share: flags, how a prompt is read, and how a run ends."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path


def add_generation_flags(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompt", metavar="TEXT")
    source.add_argument("--prompt-file", type=Path, metavar="FILE", help="UTF-8 text")
    parser.add_argument("--experts", choices=("active", "all"), default="active",
                        help="all: compute every expert, as a dense model does, to compare with")
    parser.add_argument("--max-tokens", type=int, default=256, metavar="N", help="new tokens (default 256)")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy (default)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="0: off (default)")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="1: off (default)")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, metavar="X", help="1: off (default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--echo", action="store_true", help="print the prompt before its continuation")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, the last line of stdout")
    parser.add_argument("--verbose", action="store_true", help="show ExecuTorch's log")


def check_at_least_one(parser: ArgumentParser, args: Namespace, *names: str) -> None:
    for name in names:
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")


def read_prompt(args: Namespace) -> str:
    """Text of --prompt or --prompt-file; ValueError if it is not UTF-8."""
    try:
        # A locale without UTF-8 hands the bytes of an argument over as surrogates.
        return (args.prompt.encode("utf-8", "surrogateescape").decode("utf-8") if args.prompt is not None
                else args.prompt_file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{args.prompt_file or '--prompt'}: not UTF-8 text; convert it first") from None


def exit_status(run: Callable[[Namespace], None], args: Namespace) -> int:
    """Runs the command: 0 done, 1 failed with a sentence on stderr, 130 interrupted."""
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        run(args)
    except BrokenPipeError:  # the reader left, as `| head` does; keep the interpreter from flushing into it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0
