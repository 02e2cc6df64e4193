"""The lines of blockffn_gpu_bench as Markdown tables.

    python -m benchmarks.gpu.table benchmarks/gpu/h200/bench.json

Layers: microseconds of GPU time stamps, medians; steps: milliseconds, GPU and wall clock; passes: microseconds of one pass
with a time stamp behind each, which itself costs about 1. Exit 0 done, 1 unreadable, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c) for c in line) + " |" for line in lines)


def arithmetic(row: dict) -> str:
    return row.get("arithmetic", "fp32")


def layers(rows: list[dict], threads: str) -> str:
    gated = {(r["gated_dense"], r["quant"], r["T"]): r for r in rows if "gated_dense" in r and arithmetic(r) == "fp32"}
    out = []
    for r in rows:
        if "layer" not in r or r["threads"] != threads or arithmetic(r) != "fp32":
            continue
        g = gated.get((r["layer"], r["quant"], r["T"]))
        out.append([r["layer"], r["quant"], r["T"], f"{r['sparse_us']:.1f}", f"{r['all_us']:.1f}", f"{g['us']:.1f}" if g else "",
                    f"{r['all_us'] / r['sparse_us']:.2f}", f"{g['us'] / r['sparse_us']:.2f}" if g else "", f"{r['gbs']:.0f}",
                    f"{r['of_read_peak']:.2f}", f"{r['sparse_wall_us']:.1f}"])
    return table(["layer", "weights", "tokens", "sparse", "all", "gated", "all / sparse", "gated / sparse", "expert GB/s", "of read peak", "sparse, wall"], out)


def halves(rows: list[dict], threads: str) -> str:
    """What float16 arithmetic makes of the same layers: microseconds, and those of float32 over them."""
    found = {}
    for r in rows:
        for kind, us in (("layer", "sparse_us"), ("layer", "all_us"), ("gated_dense", "us")):
            if kind in r and (kind != "layer" or r["threads"] == threads):
                found.setdefault((r[kind], r["quant"], r["T"]), {})[us.removesuffix("_us").replace("us", "gated"), arithmetic(r)] = r[us]
    out = []
    for key, times in found.items():
        cells = []
        for what in ("sparse", "all", "gated"):
            pair = times.get((what, "fp32")), times.get((what, "fp16"))
            cells += [f"{pair[0]:.1f}", f"{pair[1]:.1f}", f"{pair[0] / pair[1]:.2f}"] if all(pair) else [""] * 3
        if any(cells):
            out.append([*key, *cells])
    heads = [f"{what}{of}" for what in ("sparse", "all", "gated") for of in (", fp32", ", fp16", ", ratio")]
    return table(["layer", "weights", "tokens", *heads], out)


def steps(rows: list[dict]) -> str:
    return table(["model", "weights", "arithmetic", "tokens", "GPU ms", "wall ms", "tokens/s", "barriers"],
                 [[r["step"], r["quant"], arithmetic(r), r["T"], f"{r['gpu_us'] / 1e3:.2f}", f"{r['wall_us'] / 1e3:.2f}", f"{r['tokens_per_s']:.0f}", r["barriers"]]
                  for r in rows if "step" in r and "gpu_us" in r])


def passes(rows: list[dict]) -> str:
    """Of the layers of the usual workgroups, by kind of pass."""
    out, seen = [], set()
    for r in rows:
        key = (r.get("layer"), r.get("quant"), arithmetic(r), r.get("T"))
        if "layer" not in r or key in seen:
            continue
        seen.add(key)
        # The router's pass is float32 in either arithmetic.
        kinds = {re.sub("(_(fp32|int8|int4))(_fp16)?$", "", k): v for k, v in r["passes_us"].items()}
        out.append([*key, *(f"{kinds[k]:.1f}" for k in ("linear", "compact", "expert_up", "expert_down"))])
    return table(["layer", "weights", "arithmetic", "tokens", "router", "compact", "up", "down"], out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what blockffn_gpu_bench wrote")
    args = parser.parse_args(argv)
    try:
        rows = rows_of(args.file)
        threads = next(r["threads"] for r in rows if "device" in r)
        text = "\n\n".join([layers(rows, threads), halves(rows, threads), steps(rows), passes(rows)])
    except (OSError, ValueError, KeyError, StopIteration) as error:
        print(f"{args.file} does not hold the lines of blockffn_gpu_bench: {error!r}", file=sys.stderr)
        return 1
    print(text)
    peak = next(r for r in rows if "read_peak_gbs" in r)
    print(json.dumps({"device": next(r["device"] for r in rows if "device" in r), **peak}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
