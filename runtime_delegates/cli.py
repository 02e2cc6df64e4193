"""What the commands that generate text share: how a prompt is read, and how a run ends."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable


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
