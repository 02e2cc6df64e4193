"""What the training commands share: a configuration file with overrides, one JSON object at the end, errors as one sentence."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable


def config_parser(prog: str, help_text: str, example: str) -> argparse.ArgumentParser:
    """A parser of CONFIG and --set KEY=VALUE (`config`, `overrides`)."""
    parser = argparse.ArgumentParser(prog=prog, description=help_text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help=f"YAML file, see {example}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                        help="override one key; model.KEY for the model section; repeatable")
    return parser


def parsed(parser: argparse.ArgumentParser, argv: list[str] | None, read: Callable) -> tuple[argparse.Namespace, object]:
    """(arguments, read(arguments)): what `read` refuses with a ValueError is a bad argument, exit status 2."""
    arguments = parser.parse_args(argv)
    try:
        return arguments, read(arguments)
    except ValueError as error:
        parser.error(str(error))


def run_command(body: Callable[[], dict | None]) -> int:
    """Exit status. The result (None in processes that have none) is printed; TrainingStopped and others become a sentence."""
    from training.schedule import TrainingStopped
    try:
        result = body()
    except (ValueError, TrainingStopped, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted before a checkpoint; the one before is intact", file=sys.stderr)
        return 1
    if result is not None:
        print(json.dumps(result), flush=True)
    return 0
