"""Builds what times decoding on an x86 Linux machine without compiler, Python packages or this repository.

    python -m benchmarks.device_decode                  # into out/device-decode/, 54 MB: exports, then copies
    python3 out/device-decode/run.py --out results      # there (Python >= 3.8): five minutes

The bundle holds the runner `blockffn-run` with its libraries (glibc 2.34 or newer), the shipped model and its draft head
at 8 and 4 bits, and prompts from held-out text; device_decode_run.py says what is compared. Exit 0 done, 1 failed. The last line is JSON: the folder and its bytes.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.bundle import write_bundle
from benchmarks.decode import CHECKPOINT, ROOT, prompts
from benchmarks.decode_models import CONTEXT, PRECISIONS
from export.decoder import Decoder
from export.draft_decoder import DraftDecoder
from export.lower import lower
from training.checkpoint import open_checkpoint
from training.draft_files import open_draft


def export(folder: Path) -> None:
    """The shipped model and its draft head, at both precisions."""
    checkpoint = open_checkpoint(CHECKPOINT)
    draft = open_draft(CHECKPOINT / "draft", checkpoint)
    for quant in PRECISIONS:
        print(f"exporting at {quant} ...", file=sys.stderr)
        lower(Decoder(checkpoint, quant, CONTEXT), folder / f"model-{quant}.pte")
        lower(DraftDecoder(draft, checkpoint, quant, CONTEXT), folder / f"draft-{quant}.pte")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy2(CHECKPOINT / name, folder)


def libraries(binary: Path) -> list[Path]:
    """The shared libraries that a program needs beside those of the system, libstdc++ and libgcc included."""
    lines = subprocess.run(["ldd", binary], check=True, capture_output=True, text=True).stdout.splitlines()
    paths = [Path(line.split("=>")[1].split()[0]) for line in lines if "=>" in line]
    return [p for p in paths if not p.name.startswith(("libc.so", "libm.so", "libpthread", "libdl", "librt"))]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_decode", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "device-decode")
    parser.add_argument("--runner", type=Path, default=ROOT / "build" / "blockffn-run", help="built by `make build`")
    parser.add_argument("--prompts", type=int, default=3, help="of each of five kinds (default: %(default)s)")
    args = parser.parse_args(argv)

    def fill(folder: Path) -> None:
        if not args.runner.is_file():
            raise RuntimeError(f"{args.runner} is missing: make build")
        (folder / "lib").mkdir()
        shutil.copy2(args.runner, folder)
        for library in libraries(args.runner):
            shutil.copy2(library, folder / "lib")
        export(folder)
        (folder / "prompts.json").write_text(json.dumps(prompts(args.prompts)), encoding="utf-8")
        shutil.copy2(Path(__file__).with_name("device_decode_run.py"), folder / "run.py")

    return write_bundle(args.out, fill)


if __name__ == "__main__":
    sys.exit(main())
