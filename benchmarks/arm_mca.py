"""How fast the ARM kernels' inner loops can go, computed: there is no ARM processor in the loop.

Compiles the kernels, finds the innermost loop of each, and lets llvm-mca schedule it on a model of each processor,
with all loads hitting the first cache. Prints, per kernel and processor, cycles per 64 weight bytes / GB/s of weights
that one core could multiply at a typical clock, below them the memory bandwidth of such a phone, and beside them the
instructions per weight byte of whole calls, everything included, counted under qemu. The last line is JSON.

The `sve2` rows are prototypes (arm_sve2.cc, checked under qemu) of loops that would be worth having only if they needed
fewer cycles than those above them.

LLVM has no model of its own for some processors; the closest one is used and named (Neoverse N1, V1, N2 and V2
are the Cortex-A76, X1, A710 and X3 with larger caches; apple-m1 is scheduled as the much older Cyclone).

    python benchmarks/arm_mca.py > arm.md
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.kernels import arm  # noqa: E402  how the kernels are compiled and emulated

# Processor: (LLVM's -mcpu, clock in GHz, i8mm and SVE2). Clocks: Snapdragon 835-class little core, 8 Gen 1's, 855, 888,
# 8 Gen 1/2, Apple M1/M2.
PROCESSORS = {
    "Cortex-A55": ("cortex-a55", 1.8, False),
    "Cortex-A510": ("cortex-a510", 1.8, True),
    "Cortex-A76": ("neoverse-n1", 2.4, False),
    "Cortex-A78": ("neoverse-n1", 2.4, False),
    "Cortex-X1": ("neoverse-v1", 2.8, False),
    "Cortex-A710": ("neoverse-n2", 2.5, True),
    "Cortex-X3": ("neoverse-v2", 3.2, True),
    "Apple M1": ("apple-m1", 3.2, False),
}
# Peak of the memory that such processors come with, all cores together: LPDDR4X-2133 and LPDDR5-3200 x 64 bit, M1.
MEMORY_GBS = {"Cortex-A55": 34, "Cortex-A510": 51, "Cortex-A76": 34, "Cortex-A78": 51, "Cortex-X1": 51, "Cortex-A710": 51, "Cortex-X3": 67,
              "Apple M1": 68}
SVE2 = ROOT / "benchmarks" / "arm_sve2.cc"
SVE2_FLAGS = ["-march=armv8.6-a+sve2", "-msve-vector-bits=128"]

WRAPPERS = """
#include "{source}"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("{feature}"))), apply_to = function)
#endif
namespace blockffn {{
namespace arm {{
{functions}
}}
}}
#if defined(__clang__)
#pragma clang attribute pop
#endif
"""

# (weights, tokens, kernels): (C++ statement, functions it may be compiled to, instruction to count, how often per 64
# weight bytes of one pass, passes over the weights). 5 tokens is what an expert of the union meets on average in
# a chunk of 8 at TLS 0.80 and CLS 0.70: 8 * 0.2 / 0.3.
MULTIPLY = r"s(mull|mlal)2?$"
TARGET = "--target=aarch64-linux-gnu"
LOOPS = {
    ("fp32", 1, "neon"): ("fp32_block<1, 4>(a, 0, 0);", "fp32_(block|columns)<1, 4>", "fmla$", 4, 1),
    ("fp32", 8, "neon"): ("fp32_block<8, 1>(a, 0, 0);", "fp32_(block|columns)<8, 1>", "fmla$", 32, 1),
    ("int8", 1, "neon"): ("int8_block<1>(a, 0, 0, a.cols);", "int8_block<1>", MULTIPLY, 8, 1),
    ("int8", 8, "neon"): ("int8_block<2>(a, 0, 0, a.cols);", "int8_block<2>", MULTIPLY, 16, 4),
    ("int8", 1, "dotprod"): ("int8_one_token(a, 0, 0, a.cols);", "int8_one_token", "sdot$", 4, 1),
    ("int8", 5, "dotprod"): ("int8_tokens<5>(a, 0, 0, a.cols);", "int8_tokens<5>", "sdot$", 20, 1),
    ("int8", 8, "dotprod"): ("int8_tokens<8>(a, 0, 0, a.cols);", "int8_tokens<8>", "sdot$", 32, 1),
    ("int8", 5, "i8mm"): ("int8_tokens<5>(a, 0, a.cols);", "int8_(tokens<5>|segment<3>)", "smmla$", 12, 1),
    ("int8", 8, "i8mm"): ("int8_tokens<8>(a, 0, a.cols);", "int8_(tokens<8>|segment<4>)", "smmla$", 16, 1),
    ("int4", 1, "neon"): ("int4_block<1>(a, 0, 0, a.cols);", "int4_block<1>", MULTIPLY, 16, 1),
    ("int4", 8, "neon"): ("int4_block<2>(a, 0, 0, a.cols);", "int4_block<2>", MULTIPLY, 32, 4),
    ("int4", 1, "dotprod"): ("int4_tokens<1>(a, 0, a.cols);", "int4_tokens<1>", "sdot$", 8, 1),
    ("int4", 5, "dotprod"): ("int4_tokens<5>(a, 0, a.cols);", "int4_(tokens|segment)<5>", "sdot$", 40, 1),
    ("int4", 8, "dotprod"): ("int4_tokens<8>(a, 0, a.cols);", "int4_(tokens|segment)<8>", "sdot$", 64, 1),
    ("int4", 5, "i8mm"): ("int4_tokens<5>(a, 0, a.cols);", "int4_(tokens<5>|segment<3>)", "smmla$", 24, 1),
    ("int4", 8, "i8mm"): ("int4_tokens<8>(a, 0, a.cols);", "int4_(tokens<8>|segment<4>)", "smmla$", 32, 1),
    ("int4", 1, "sve2 sdot"): ("", "int4_one_token", "sdot$", 8, 1),
    ("int4", 8, "sve2 sdot"): ("", "int4_eight_tokens", "sdot$", 64, 1),
    ("int4", 8, "sve2 smmla"): ("", "int4_four_pairs", "smmla$", 32, 1),
}


def run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


def innermost_loops(listing: str) -> list[list[str]]:
    """Loops without another loop inside, as instructions with the branch to .Lloop, from objdump's output."""
    found = []
    for function in re.split(r"\n(?=[0-9a-f]+ <)", listing):
        code = [(int(m[1], 16), m[2]) for m in re.finditer(r"^\s*([0-9a-f]+):\s+(\S.*)$", function, re.M)]
        index = {address: i for i, (address, _) in enumerate(code)}
        spans = []
        for i, (_, text) in enumerate(code):
            branch = re.match(r"(b|b\.\w+|cbn?z|tbn?z)\s.*?(0x)?([0-9a-f]+) <", text)
            start = index.get(int(branch[3], 16)) if branch else None
            if start is not None and start <= i:
                spans.append((start, i))
        for a, b in spans:
            if any((c, d) != (a, b) and c >= a and d <= b for c, d in spans):
                continue
            if any("<" in text for _, text in code[a:b]):  # other branches, calls, constants: not a plain loop
                continue
            body = [text.split(" //")[0].split(";")[0] for _, text in code[a : b + 1]]
            body[-1] = re.sub(r"(0x)?[0-9a-f]+ <.*", ".Lloop", body[-1])
            found.append(body)
    return found


def loop_of(key, compiler: str, objdump: str, folder: Path) -> tuple[list[str], float]:
    """The kernel's innermost loop and the weight bytes that one turn of it multiplies."""
    statement, names, counted, per_64_bytes, _ = LOOPS[key]
    flags = [flag for flag in arm.FLAGS if not flag.startswith("-W")]
    if key[2].startswith("sve2"):
        source = SVE2.read_text()
        flags += SVE2_FLAGS
    else:
        source = WRAPPERS.format(
            source=arm.KERNELS / "arm" / f"{key[2]}.cc",
            feature={"neon": "simd"}.get(key[2], key[2]),
            functions=f"void measured(const TileArgs& a) {{ {statement} }}",
        )
    object_file = folder / "loop.o"
    run(compiler, TARGET, *flags, "-w", "-x", "c++", "-", "-c", "-o", object_file, stdin=source)
    count = lambda body: sum(bool(re.match(counted, text.split()[0])) for text in body)  # noqa: E731
    listing = run(objdump, "-d", "-C", "--no-show-raw-insn", object_file)
    functions = re.split(r"\n(?=[0-9a-f]+ <)", listing)
    bodies = [
        body
        for function in functions
        if re.search(rf"arm::measured\(|::{names}\(", function.split("\n")[0])
        for body in innermost_loops(function)
    ]
    body = max(bodies, key=count, default=[])
    if count(body) == 0 or count(body) * 64 % per_64_bytes:
        sys.exit(f"{key}: found no loop with {counted}; do the names in LOOPS still fit the kernels?")
    return body, count(body) * 64 / per_64_bytes


def cycles(body: list[str], mca: str, cpu: str) -> float:
    """Cycles per turn of a loop that runs long."""
    text = ".Lloop:\n" + "\n".join(body) + "\n"
    out = run(mca, "-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm,+sve2", "-iterations=400", stdin=text)
    return int(re.search(r"Total Cycles:\s+(\d+)", out)[1]) / 400


def check_sve2(compiler: str, folder: Path) -> None:
    """Runs the prototypes, which compare themselves with plain loops."""
    run(compiler, TARGET, "-static", "-std=c++17", "-O3", *SVE2_FLAGS, SVE2, "-o", folder / "sve2")
    run(*arm.emulator("max,sve128=on,sve256=off"), folder / "sve2")


def instructions_per_byte(folder: Path) -> list[dict]:
    """Instructions of a whole call per byte of its tiles (scales too): the up projection of an expert of the 1.2B model.

    qemu runs one instruction at a time and logs each; the difference of two calls and one is one call.
    """
    program = arm.build(folder / "arm_count", arm.COMPILER, [ROOT / "benchmarks" / "arm_count.cc", *arm.kernel_sources()])
    log, counts = folder / "log", []
    for kernels, quants in (("neon", (0, 1, 2)), ("dotprod", (1, 2)), ("i8mm", (1, 2))):
        for quant in quants:
            for tokens in (1, 5, 8):
                executed = []
                for repeats in (1, 2):
                    arguments = [kernels, quant, 128, 1792, tokens, repeats]
                    trace = ["-singlestep", "-d", "exec,nochain", "-D", log]
                    tile_bytes = int(run(*arm.emulator("max,sve=off"), *trace, program, *arguments))
                    with open(log, "rb") as file:
                        executed.append(sum(line.startswith(b"Trace") for line in file))
                per_byte = (executed[1] - executed[0]) / tile_bytes
                counts.append(
                    {
                        "precision": ("fp32", "int8", "int4")[quant],
                        "tokens": tokens,
                        "kernels": kernels,
                        "instructions_per_byte": round(per_byte, 3),
                    }
                )
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="clang++-19", help="a clang++, as in Android's toolchains")
    parser.add_argument("--mca", default="llvm-mca-19")
    parser.add_argument("--objdump", default="llvm-objdump-19")
    parser.add_argument("--no-count", action="store_true", help="run nothing under qemu")
    parser.add_argument("--show", action="store_true", help="print the loops")
    args = parser.parse_args()
    tools = [args.compiler, args.mca, args.objdump] + ([] if args.no_count else [arm.COMPILER, arm.EMULATOR])
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        fix = "apt install clang-19 llvm-19 g++-aarch64-linux-gnu qemu-user-static, or name others"
        parser.error(f"{', '.join(missing)} not found: {fix}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        counts = []
        if not args.no_count:
            check_sve2(args.compiler, Path(folder))
            counts = instructions_per_byte(Path(folder))
        for key in LOOPS:
            body, weight_bytes = loop_of(key, args.compiler, args.objdump, Path(folder))
            if args.show:
                print(key, weight_bytes, "\n  " + "\n  ".join(body), file=sys.stderr)
            precision, tokens, variant = key
            passes = LOOPS[key][-1]
            for processor, (cpu, clock_ghz, newer) in PROCESSORS.items():
                if not newer and variant not in ("neon", "dotprod"):
                    continue
                per_64 = cycles(body, args.mca, cpu) * 64 / weight_bytes * passes
                rows.append(
                    {
                        "precision": precision,
                        "tokens": tokens,
                        "kernels": variant,
                        "processor": processor,
                        "model": cpu,
                        "cycles_per_64_bytes": round(per_64, 2),
                        "gbs_per_core": round(64 / per_64 * clock_ghz, 1),
                        "clock_ghz": clock_ghz,
                        "memory_gbs": MEMORY_GBS[processor],
                        "loop_instructions": dict(Counter(t.split()[0] for t in body)),
                    }
                )
    print("| weights | T | kernels | " + " | ".join(PROCESSORS) + " | instructions per byte |")
    print("|---" * (4 + len(PROCESSORS)) + "|")
    for key in LOOPS:
        of = lambda r: (r["precision"], r["tokens"], r["kernels"]) == key  # noqa: B023, E731
        cells = {r["processor"]: f"{r['cycles_per_64_bytes']:.1f} / {r['gbs_per_core']:.1f}" for r in filter(of, rows)}
        count = [f"{c['instructions_per_byte']:.2f}" for c in filter(of, counts)] or ["-"]
        print("| " + " | ".join([key[0], str(key[1]), key[2], *(cells.get(p, "-") for p in PROCESSORS), *count]) + " |")
    print("| memory, GB/s | | | " + " | ".join(str(MEMORY_GBS[p]) for p in PROCESSORS) + " | |")
    print(json.dumps({"compiler": args.compiler, "loops": rows, "counts": counts}))


if __name__ == "__main__":
    main()
