"""Write a recurrent draft head as the one file that the runner drafts from.

    python export/to_draft.py out/recurrent_draft/head --target checkpoints/blockffn-22m-docs
    python export/to_draft.py HEAD --target CKPT -o out/head.draft

The output, by default out/CKPT/draft-int8.draft, appears whole or not at all. Heads that are a transformer layer are programs of
ExecuTorch: export/to_executorch.py HEAD --target CKPT. The last line on stdout is one JSON object.

Exit  0 done, 1 failed and nothing written, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python export/to_draft.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("head", type=Path, metavar="HEAD", help="directory of a recurrent draft head")
    parser.add_argument("--target", type=Path, required=True, metavar="CKPT", help="checkpoint that it was trained for")
    parser.add_argument("-o", "--output", type=Path, help="file to write (default: out/CKPT/draft-int8.draft)")
    args = parser.parse_args(argv)
    for path in (args.head, args.target):
        if not path.is_dir():
            parser.error(f"{path}: not a directory")
    if args.output is None:
        args.output = Path("out") / args.target.resolve().name / "draft-int8.draft"
    if args.output.is_dir():
        parser.error(f"{args.output} is a directory; name a file")
    return args


def export(args: argparse.Namespace) -> dict:
    from export.draft_file import write_draft
    from training.checkpoint import open_checkpoint
    from training.draft_files import is_draft
    from training.files import write_whole
    from training.recurrent_files import is_recurrent, open_recurrent

    if not is_recurrent(args.head) and is_draft(args.head):
        raise ValueError(f"{args.head} is a transformer layer; export it with "
                         f"`python export/to_executorch.py {args.head} --target {args.target}`")
    started = time.monotonic()
    target = open_checkpoint(args.target)
    draft = open_recurrent(args.head, target)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.output, lambda part: write_draft(draft, target, part))
    return {"output": str(args.output), "draft_head": str(args.head), "target": str(args.target), **draft.config.sizes(),
            "successors": len(draft.successors.tokens), "bytes": args.output.stat().st_size,
            "seconds": round(time.monotonic() - started, 2)}


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    try:
        result = export(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{result['output']}: {result['bytes'] / 1e6:.1f} MB, state {result['state_size']}, {result['successors']} successors")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
