"""What the exporter shows: progress bars while it works, a table at the end."""

import sys

from tqdm import tqdm


def bar(label: str, total: int, unit: str) -> tqdm:
    """A progress bar on stderr, only where that is a terminal."""
    scaled = unit == "B"
    return tqdm(total=total, desc=label, unit=unit, unit_scale=scaled, file=sys.stderr, disable=None, leave=False)


def bytes_text(count: int | None) -> str:
    """12.3 MB, in powers of ten."""
    if count is None:
        return "unknown"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def render(result: dict, file_bytes: int, runtime: str | None) -> str:
    """The table of an export: `result` is what the JSON line holds, file_bytes the size of what was written for
    `runtime`, none of whose own kernels a published program needs. None: it runs on the runtime's kernels alone."""
    nodes, weights = result["nodes"], result["weight_bytes"]
    rows = [("backend / operator", "nodes", "weights")]
    for backend in result["delegates"]:
        rows.append((backend, str(sum(nodes.values())), bytes_text(sum(weights.values()))))
    for name in sorted(nodes, key=lambda name: -weights.get(name, 0)):
        shared = "shared" if name in ("logits", "embedding") else "-"
        rows.append((f"  {name}", str(nodes[name]), bytes_text(weights[name]) if weights.get(name) else shared))
    if runtime is not None:
        rows.append((f"{runtime} kernels", "0", "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
    lines.insert(1, "-" * len(lines[0]))

    mixed = result.get("attention_quant", result["quant"])
    precision = result["quant"] + (f"; attention, embedding and head {mixed}" if mixed != result["quant"] else "")
    facts = [
        ("program", f"{result['output']}, {bytes_text(file_bytes)}"),
        ("weights", f"{result['parameters'] / 1e6:.1f} M, {precision}"),
        ("context", f"{result['max_context']} tokens" + (", int8 cache" if result.get("kv") == "int8" else "")),
        ("parity", _parity(result["parity"])),
        ("perplexity", _perplexity(result["perplexity"])),
        ("peak memory", f"{bytes_text(result['peak_rss_bytes'])} resident with mapped files, "
                        f"{bytes_text(result['peak_anonymous_bytes'])} anonymous"),
        ("time", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["seconds"].items())),
    ]
    return "\n".join(lines + [""] + [f"{name:<12} {value}" for name, value in facts])


def _parity(parity: dict | None) -> str:
    if parity is None:
        return "not checked"
    return (f"program against eager PyTorch {parity['program_vs_eager']:.1e} of a row's maximum, "
            f"eager against the trained model {parity['eager_vs_reference']:.1e}")


def _perplexity(perplexity: dict | None) -> str:
    if perplexity is None:
        return "not checked"
    return (f"{perplexity['float32']:.3f} in float32, {perplexity['program']:.3f} exported: "
            f"{perplexity['increase']:+.2%} (limit {perplexity['limit']:+.2%}) on {perplexity['tokens']} tokens")
