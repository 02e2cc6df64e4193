"""Figures, table and picture of benchmarks/decode.py.

Units   tokens per second, milliseconds, bytes.
"""

from __future__ import annotations

import statistics
import textwrap
from pathlib import Path

from benchmarks.decode_models import SHIPPED, Files, weights_read

FLAVOURS = {"dense_plain": ("dense plain, XNNPACK", "#bbbbbb"), "dense_spec": ("dense + speculation (replayed)", "#777777"),
            "sparse_plain": ("sparse plain", "#7fbf7b"), "sparse_spec": ("sparse + speculation", "#1b7837")}


def summary(files: Files, found: dict) -> list[dict]:
    """Rows of the table: one for each kind of prompt, then "all"."""
    experts, rest = weights_read(files.weight_bytes)
    rows = []
    for kind in [*dict.fromkeys(s["kind"] for s in found["samples"]), "all"]:
        of_kind = [s for s in found["samples"] if kind in (s["kind"], "all")]

        def rate(ms_per_token):
            by_prompt: dict[int, list[float]] = {}
            for s in of_kind:
                by_prompt.setdefault(s["prompt"], []).append(ms_per_token(s))
            return 1e3 / statistics.mean(statistics.median(values) for values in by_prompt.values())

        def read(result, tokens):
            """Bytes of verified chunks for each new token."""
            return sum(n * (rest + experts * result.union_share.get(t, 1.0)) for t, n in result.chunks.items()) / tokens

        decoded = lambda s: s["auto"].generated_tokens - 1  # noqa: E731
        row = {
            "model": files.model, "drafts": files.drafts, "precision": files.precision, "kind": kind, "prompts": len({s["prompt"] for s in of_kind}),
            "dense_plain": rate(lambda s: s["dense_ms"]),
            "dense_spec": rate(lambda s: s["dense_spec_ms"] / decoded(s)),
            "sparse_plain": rate(lambda s: s["plain"].decode_ms / (s["plain"].generated_tokens - 1)),
            "sparse_spec": rate(lambda s: s["auto"].decode_ms / decoded(s)),
            "tokens_per_cycle": statistics.mean(s["auto"].tokens_per_cycle for s in of_kind),
            "rows_per_cycle": statistics.mean(sum(t * n for t, n in s["auto"].chunks.items()) / s["auto"].cycles for s in of_kind),
            "draft_share": statistics.mean(s["auto"].draft_ms / s["auto"].decode_ms for s in of_kind),
            "cpu_spec_over_plain": statistics.median(s["auto_cpu_ms"] / s["plain_cpu_ms"] for s in of_kind),
            "union_share": _unions([s["plain"] for s in of_kind] + [s["auto"] for s in of_kind]),
            "bytes": {"dense": files.dense_bytes,
                      "sparse_plain": statistics.mean(read(s["plain"], s["plain"].generated_tokens - 1) for s in of_kind),
                      "sparse_spec": statistics.mean(read(s["auto"], decoded(s)) for s in of_kind)},
        }
        for name, top, bottom in (("sparse_over_dense", "sparse_plain", "dense_plain"), ("spec_over_dense", "sparse_spec", "dense_plain"),
                                  ("spec_over_sparse", "sparse_spec", "sparse_plain"), ("spec_over_dense_spec", "sparse_spec", "dense_spec")):
            row[name] = row[top] / row[bottom]
        row["model_sparse_over_dense"] = row["bytes"]["dense"] / row["bytes"]["sparse_plain"]
        row["model_spec_over_dense"] = row["bytes"]["dense"] / row["bytes"]["sparse_spec"]
        row["gb_per_s"] = {"dense": row["bytes"]["dense"] * row["dense_plain"] / 1e9,
                           "sparse_plain": row["bytes"]["sparse_plain"] * row["sparse_plain"] / 1e9}
        row["chunk_ms"] = {"sparse": found["chunk_ms"], "dense": found["dense_chunk_ms"]}
        rows.append(row)
    return rows


def _unions(results) -> dict[int, float]:
    """{T: mean share of the experts that chunks of T tokens read}."""
    shares: dict[int, list[float]] = {}
    for result in results:
        for tokens, share in result.union_share.items():
            shares.setdefault(tokens, []).append(share)
    return {tokens: statistics.mean(values) for tokens, values in sorted(shares.items())}


def explanation(row: dict) -> str:
    """Why measured and modelled ratios differ, for one row."""
    reads, sizes, sparse, dense = row["gb_per_s"], row["bytes"], row["chunk_ms"]["sparse"], row["chunk_ms"]["dense"]
    text = (f"{row['model']} {row['precision']}: a token's bytes: dense {sizes['dense'] / 1e6:.1f} MB, sparse "
            f"{sizes['sparse_plain'] / 1e6:.1f} MB, speculative {sizes['sparse_spec'] / 1e6:.1f} MB; dense plain reads {reads['dense']:.1f} "
            f"GB/s, sparse plain {reads['sparse_plain']:.1f} GB/s, which explains a factor of {reads['sparse_plain'] / reads['dense']:.2f} "
            "between measured and modelled sparse / dense.")
    size = max((t for t in sparse if t in dense and t > 1), default=None, key=lambda t: (t == 8, -abs(t - 8)))
    if size is not None and 1 in sparse and 1 in dense:
        unions = row["union_share"]
        text += f" A chunk of {size} tokens takes {sparse[size] / sparse[1]:.2f} times one token sparse, {dense[size] / dense[1]:.2f} dense"
        if size in unions and 1 in unions:
            text += f" (experts read: {unions[1]:.2f} of them for one token, {unions[size]:.2f} for the chunk)"
        text += "; what it computes grows with its tokens, which the byte model leaves out."
    if row["drafts"]:
        text += f" Fastest of the replayed drafters: {row['drafts']}."
    return text + f" Drafting takes {row['draft_share']:.0%} of the time of speculative decoding."


def table(rows: list[dict], losing: dict[str, float]) -> str:
    lines = ["| model | bits | text | dense plain | dense + spec (replayed) | sparse plain | sparse + spec | tokens (rows) a cycle "
             "| sparse / dense (bytes say) | spec / dense (bytes say) | spec / sparse |",
             "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]

    def beside(measured, model):
        mark = "" if abs(measured / model - 1) <= 0.2 else " !"
        return f"{measured:.2f}x ({model:.2f}x){mark}"

    for r in rows:
        digits = 0 if r["dense_plain"] > 100 else 1
        rates = " | ".join(f"{r[key]:.{digits}f}" for key in FLAVOURS)
        lines.append(f"| {r['model']} | {r['precision']} | {r['kind']} | {rates} | {r['tokens_per_cycle']:.2f} ({r['rows_per_cycle']:.1f}) "
                     f"| {beside(r['sparse_over_dense'], r['model_sparse_over_dense'])} "
                     f"| {beside(r['spec_over_dense'], r['model_spec_over_dense'])} | {r['spec_over_sparse']:.2f}x |")
    lines += ["", "tokens/s of decoding. `!`: more than 20 % from the byte model; why, for each model:"]
    lines += ["- " + explanation(row) for row in rows if row["kind"] == "all"]
    lines += [f"- {name}: where drafts fail, mode auto takes {ratio:.3f} of the CPU time of plain decoding" for name, ratio in losing.items()]
    if any(row["model"] != SHIPPED for row in rows):
        lines += ["", "Models other than the shipped one have random weights: routing, drafted trees and acceptance are REPLAYED from traces of the "
                  "shipped checkpoint (benchmarks/decode_synthetic.py); times are measured on whole models of that size."]
    return "\n".join(lines) + "\n"


def picture(rows: list[dict], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(r["model"] for r in rows))
    precisions = list(dict.fromkeys(r["precision"] for r in rows))
    width = max(4.6 * len(models), 6.4)
    figure, axes = plt.subplots(len(precisions), len(models), figsize=(width, 2.9 * len(precisions) + 0.4), layout="constrained",
                                squeeze=False)
    for i, precision in enumerate(precisions):
        for axis, model in zip(axes[i], models):
            shown = [r for r in rows if r["precision"] == precision and r["model"] == model]
            for k, (key, (label, color)) in enumerate(FLAVOURS.items()):
                axis.bar([x + (k - 1.5) * 0.2 for x in range(len(shown))], [r[key] for r in shown], 0.2, label=label, color=color)
            axis.set_xticks(range(len(shown)), [r["kind"] for r in shown], fontsize=8)
            axis.set_title(f"{model}, {precision}" + ("" if model == SHIPPED else ", random weights, replayed traces"), fontsize=9)
            axis.set_ylabel("decoded tokens/s")
            axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2 if len(models) == 1 else 4, fontsize=8)
    figure.suptitle(textwrap.fill(title, int(12 * width)), fontsize=10)
    figure.savefig(path, dpi=110)
