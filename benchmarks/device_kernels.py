"""Builds what tests and times the x86 kernels on a machine without compiler, Python packages or this repository.

    python -m benchmarks.device_kernels                      # into out/device-kernels/, about a minute
    out/device-kernels/run.sh                                # there: under 20 s, prints JSON

Only the C library is linked dynamically (glibc of 2022 or newer). `kernels_test` checks every variant that the processor runs against the golden cases beside it, and
that planted faults are found; `ffn_timing` times the sparse FFN of the 1.2B model over cold weights.
Exit 0 done, 1 failed. The last line is JSON: the folder and its bytes.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.bundle import write_bundle
from tests.kernels import arm
from tests.kernels.cases import write_cases

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 5 << 20
RUN = """#!/bin/sh
# Checks the kernels of this processor, then times them: under 20 s.
cd "$(dirname "$0")" || exit 1
./kernels_test cases || exit 1
if ./kernels_test cases --plant value 2>/dev/null; then echo "a planted fault was not found" >&2; exit 1; fi
./ffn_timing --json "$@"
"""


def compile_static(output: Path, program: str, sources: list[Path]) -> None:
    """Links a program of this repository with some of the kernels."""
    compiler = shutil.which("c++") or sys.exit("a C++ compiler is missing: apt install g++")
    flags = [*arm.FLAGS, "-static-libstdc++", "-static-libgcc", "-s", "-pthread", "-ffunction-sections", "-Wl,--gc-sections"]
    subprocess.run([compiler, *flags, str(ROOT / program), *map(str, sources), "-o", str(output)], check=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "device-kernels")
    args = parser.parse_args(argv)

    def fill(folder: Path) -> None:
        (folder / "cases").mkdir()
        write_cases(folder / "cases")
        compile_static(folder / "kernels_test", "tests/kernels/kernels_test.cc", arm.kernel_sources())
        compile_static(folder / "ffn_timing", "benchmarks/ffn_timing.cc", sorted(arm.KERNELS.rglob("*.cc")))
        (folder / "run.sh").write_text(RUN, encoding="utf-8")
        (folder / "run.sh").chmod(0o755)

    return write_bundle(args.out, fill, LIMIT)


if __name__ == "__main__":
    sys.exit(main())
