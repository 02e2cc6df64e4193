"""From raw events to rows, a table and a picture.

Times  ns of one layer: process CPU time with one thread, wall time with more (a waiting thread's spinning is no work).
ratio  time of the fastest dense peer of the same precision / ours; ratio_cpu: the same of CPU times, which other work
       on the machine disturbs less.   Fractions in [0, 1].
A peer's row is its best process: where its memory happens to lie makes up to 1.6x for some.
noisy  p90 > 1.5 p10, or the hypervisor took more than 5 % of the CPU time: marked with ~, not to be quoted.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.worker import READS

SPREAD, STEAL = 1.5, 0.05


def _quantiles(ns: list[float]) -> dict:
    p10, p50, p90 = np.percentile(ns, (10, 50, 90))
    return {"p10": float(p10), "p50": float(p50), "p90": float(p90)}


def rows(events: list[dict]) -> list[dict]:
    """One row for each size, threads, tokens and peer of the finished cells; documented in README.md."""
    samples, right, cells = defaultdict(list), {}, {}
    for e in events:
        if e["event"] in ("sample", "right", "cell"):
            cell = e["size"], e["threads"], e["tokens"], e["process"]
            if e["event"] == "sample":
                samples[(*cell, e["peer"])].append(e)
            elif e["event"] == "right":
                right[(*cell, e["peer"])] = e
                samples.pop((*cell, e["peer"]), None)  # an interrupted cell that was measured again
            else:
                cells[cell] = e
    out: dict[tuple, dict] = {}
    for (size, threads, tokens, process, name), found in samples.items():
        cell = cells.get((size, threads, tokens, process))
        if cell is None:
            continue
        check, peer = right[size, threads, tokens, process, name], PEERS.get(name)
        cpu, wall = (_quantiles([s[f"{clock}_ns"] / check["layers"] for s in found]) for clock in ("cpu", "wall"))
        time = cpu if threads == 1 else wall
        row = {
            "size": size, "threads": threads, "tokens": tokens, "peer": name,
            "kind": peer.kind if peer else "read", "precision": peer.precision if peer else "",
            "samples": len(found), "cpu_ns": cpu, "wall_ns": wall, "time_ns": time["p50"],
            "read_share": check["read_share"], "gbs": check["read_bytes_per_layer"] / time["p50"],
            "error": check["error"], "layers": check["layers"],
            "noisy": time["p90"] > SPREAD * time["p10"] or cell["steal_share"] > STEAL,
            "load_average": cell["load_average"], "steal_share": cell["steal_share"],
        }
        key = size, threads, tokens, name
        medians = [*out.get(key, {}).get("process_medians_ns", []), row["time_ns"]]
        if row["time_ns"] == min(medians):
            out[key] = row
        out[key]["process_medians_ns"] = medians
    _compare(list(out.values()))
    return list(out.values())


def _compare(out: list[dict]) -> None:
    """Adds peak_gbs to every row and to the sparse ones the ratios to the fastest dense peer and to QMoE."""
    cells = defaultdict(list)
    for row in out:
        cells[row["size"], row["threads"], row["tokens"]].append(row)
    for cell in cells.values():
        peak = max((r["gbs"] for r in cell if r["peer"] in READS), default=None)
        for row in cell:
            row["peak_gbs"] = peak
            if not row["peer"].startswith("blockffn"):
                continue
            same = [r for r in cell if r["precision"] == row["precision"]]
            dense = min((r for r in same if r["kind"] == "dense"), key=lambda r: r["time_ns"], default=None)
            qmoe = next((r for r in same if r["peer"].startswith("ort-qmoe")), None)
            row["fastest_dense"] = dense["peer"] if dense else None
            row["ratio"] = dense["time_ns"] / row["time_ns"] if dense else None
            row["ratio_qmoe"] = qmoe["time_ns"] / row["time_ns"] if qmoe else None
            cpu = min((r["cpu_ns"]["p50"] for r in same if r["kind"] == "dense"), default=None)
            row["ratio_cpu"] = cpu / row["cpu_ns"]["p50"] if cpu else None


def table(found: list[dict], details: bool = False) -> str:
    """Markdown. `details` lists every peer, else ours beside the best of the others."""
    lines = []
    keys = sorted({(r["size"], r["threads"]) for r in found})
    by = {(r["size"], r["threads"], r["tokens"], r["peer"]): r for r in found}
    us = lambda r: f"{r['time_ns'] / 1e3:.0f}{'~' if r['noisy'] else ''}"  # noqa: E731
    for size, threads in keys:
        here = [r for r in found if (r["size"], r["threads"]) == (size, threads)]
        clock = "process CPU time" if threads == 1 else "wall time"
        lines += [f"\n**{size}, {threads} thread{'s' * (threads > 1)}**: {clock} of a layer, us\n"]
        tokens = sorted({r["tokens"] for r in here})
        if details:
            peers = list(dict.fromkeys(r["peer"] for r in here))
            lines += [f"| peer | {' | '.join(f'T={t}' for t in tokens)} |", "|---|" + "---|" * len(tokens)]
            for name in peers:
                cells = [by.get((size, threads, t, name)) for t in tokens]
                if name in READS:
                    text = [f"{r['gbs']:.1f} GB/s" if r else "-" for r in cells]
                else:
                    text = [f"{us(r)} ({r['gbs']:.1f} GB/s)" if r else "-" for r in cells]
                lines.append(f"| {name} | {' | '.join(text)} |")
            continue
        lines += ["| precision | T | read | ours (p10..p90) | GB/s | of peak | fastest dense | ratio | ratio of CPU time | to QMoE |",
                  "|---|---|---|---|---|---|---|---|---|---|"]
        for row in here:
            if not row["peer"].startswith("blockffn"):
                continue
            q = row["cpu_ns" if threads == 1 else "wall_ns"]
            dense = by.get((size, threads, row["tokens"], row["fastest_dense"]))
            other = f"{us(dense)} {dense['peer']}" if dense else "-"
            ratios = " | ".join(f"{row[k]:.2f}x" if row[k] else "-" for k in ("ratio", "ratio_cpu", "ratio_qmoe"))
            lines.append(
                f"| {row['precision']} | {row['tokens']} | {row['read_share']:.2f} "
                f"| {us(row)} ({q['p10'] / 1e3:.0f}..{q['p90'] / 1e3:.0f}) | {row['gbs']:.1f} "
                f"| {row['gbs'] / row['peak_gbs']:.0%} | {other} | {ratios} |"
            )
    return "\n".join(lines).strip()


COLORS = {"int4": "tab:blue", "int8": "tab:orange"}


def picture(found: list[dict], path: Path, title: str) -> None:
    """Above, how many times faster than the fastest dense peer and than QMoE; below, GB/s of weights read. Noisy
    points of ours are hollow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = list(dict.fromkeys(r["size"] for r in found))
    threads = sorted({r["threads"] for r in found})
    width = len(sizes) * len(threads)
    figure, axes = pyplot.subplots(2, width, figsize=(max(3.6 * width, 6), 7.4), sharex=True, sharey="row", squeeze=False)
    for column, (size, n) in enumerate((s, n) for s in sizes for n in threads):
        above, below = axes[0][column], axes[1][column]
        here = [r for r in found if (r["size"], r["threads"]) == (size, n)]
        for precision, color in COLORS.items():
            ours = sorted((r for r in here if r["peer"] == f"blockffn-{precision}"), key=lambda r: r["tokens"])
            T = [r["tokens"] for r in ours]
            if any(r["ratio"] for r in ours):
                above.plot(T, [r["ratio"] for r in ours], "o-", color=color, label=f"{precision}, to fastest dense")
            if any(r["ratio_qmoe"] for r in ours):
                above.plot(T, [r["ratio_qmoe"] for r in ours], "x:", color=color, label=f"{precision}, to QMoE")
            below.plot(T, [r["gbs"] for r in ours], "o-", color=color, label=f"{precision}, ours")
            for r in ours:
                if r["noisy"]:
                    for ax, value in ((above, r["ratio"]), (below, r["gbs"])):
                        if value:
                            ax.plot(r["tokens"], value, "o", color="white", markersize=3)
            dense = [max((r["gbs"] for r in here if r["tokens"] == t and r["kind"] == "dense"
                          and r["precision"] == precision), default=np.nan) for t in T]
            below.plot(T, dense, "s--", color=color, alpha=0.5, markersize=4, label=f"{precision}, best dense")
        peaks = sorted({(r["tokens"], r["peak_gbs"]) for r in here if r["peak_gbs"]})
        below.plot(*zip(*peaks), color="black", linewidth=1, label="measured read peak")
        above.set_title(f"{size}, {n} thread{'s' * (n > 1)}")
        above.axhline(1, color="gray", linewidth=0.8)
        below.set_xlabel("tokens of the chunk, T")
        for ax in (above, below):
            ax.set_xscale("log", base=2)
            ax.set_xticks(sorted({r["tokens"] for r in found}), sorted({r["tokens"] for r in found}))
            ax.grid(alpha=0.3)
    axes[0][0].set_ylabel("times faster")
    axes[1][0].set_ylabel("GB/s of weights read")
    for row in axes:  # shared in a row: only now is the largest value known
        row[0].set_ylim(bottom=0)
    for ax in (axes[0][0], axes[1][-1]):
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=8)
    figure.suptitle(title)
    figure.tight_layout()
    part = path.with_suffix(".part.png")
    figure.savefig(part, dpi=110)
    pyplot.close(figure)
    part.rename(path)
