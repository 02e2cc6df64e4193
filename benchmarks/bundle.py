"""Folders of programs and data that run on another machine."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def write_bundle(out: Path, fill: Callable[[Path], None], most_bytes: int = 100 << 20) -> int:
    """Exit status: fill(folder) writes into a folder beside `out`, which replaces `out` once it is complete. The last
    line of stdout is JSON: the folder and its bytes; an error is a sentence on stderr and leaves `out` as it was."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        fill(part)
        size = sum(f.stat().st_size for f in part.rglob("*") if f.is_file())
        if size > most_bytes:
            raise RuntimeError(f"{part} has {size} bytes; at most {most_bytes} are meant to travel")
    except (RuntimeError, OSError, ValueError, subprocess.CalledProcessError) as error:
        shutil.rmtree(part, ignore_errors=True)
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    print(json.dumps({"out": str(out), "bytes": size}))
    return 0
