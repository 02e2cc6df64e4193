"""The picture of an evaluation: which experts each token uses, CLS curve, sparsity per layer.

Axes    L layers, T tokens, E experts.   Units  fractions in [0, 1]; scores relative to their layer's largest.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

MAX_LAYERS_SHOWN = 8  # of the heat map: more would leave less than a pixel per expert
DETAIL_TOKENS = 48  # of the close-up, whose tokens are spelled out
TLS_COLOR, CLS_COLOR, MUTED = "#2a6f97", "#e07a1f", "#8a8a8a"


def _shown_layers(num_layers: int) -> list[int]:
    count = min(num_layers, MAX_LAYERS_SHOWN)
    return sorted({round(i) for i in np.linspace(0, num_layers - 1, count)})


def _relative(scores_TE: np.ndarray) -> np.ma.MaskedArray:
    """Active scores divided by the 99th percentile of the layer; inactive ones masked."""
    active = scores_TE > 0
    top = np.percentile(scores_TE[active], 99) if active.any() else 1.0
    return np.ma.masked_array(np.clip(scores_TE / max(top, 1e-30), 0, 1), mask=~active)


def _by_use(scores_TE: np.ndarray) -> np.ndarray:
    """Experts, the most used first."""
    return np.argsort(-(scores_TE > 0).mean(axis=0), kind="stable")


def _printable(token: str) -> str:
    """A label of at most 10 characters; the space that begins most words is left out."""
    token = token[1:] if token.startswith(" ") and token.strip() else token
    text = "".join({"\n": "\u21b5", "\t": "\u2192", " ": "\u00b7"}.get(c, c if c.isprintable() else "\u00b7")
                   for c in token)
    return text[:9] + "\u2026" if len(text) > 10 else text or "\u2205"


def _draw_heat_map(axis, scores_LTE: np.ndarray, layers: list[int], colors):
    E = scores_LTE.shape[2]
    rows = [_relative(scores_LTE[layer])[:, _by_use(scores_LTE[layer])].T for layer in layers]
    image = axis.imshow(np.ma.concatenate(rows), aspect="auto", interpolation="nearest", cmap=colors, vmin=0, vmax=1)
    for index in range(1, len(layers)):
        axis.axhline(index * E - 0.5, color="black", linewidth=0.7)
    axis.set_yticks([(i + 0.5) * E - 0.5 for i in range(len(layers))], [f"layer {layer}" for layer in layers])
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("token of the document")
    axis.set_title(f"Experts used by the first {scores_LTE.shape[1]} tokens of one document "
                   f"({E} rows a layer, the most used expert on top; white: not used)", loc="left", fontsize=10)
    return image


def _draw_detail(axis, tokens: list[str], scores_TE: np.ndarray, layer: int, colors) -> None:
    start = min(16, max(0, len(tokens) - DETAIL_TOKENS))
    part = scores_TE[start:start + DETAIL_TOKENS]
    axis.imshow(_relative(part)[:, _by_use(scores_TE)].T, aspect="auto", interpolation="nearest",
                cmap=colors, vmin=0, vmax=1)
    axis.set_xticks(range(len(part)), [_printable(token) for token in tokens[start:start + DETAIL_TOKENS]],
                    rotation=90, fontsize=7, family="DejaVu Sans Mono", parse_math=False)
    for edge in range(8, len(part), 8):
        axis.axvline(edge - 0.5, color=CLS_COLOR, linewidth=0.8)
    axis.set_yticks([0, part.shape[1] - 1], ["most used", "least used"], fontsize=8)
    axis.set_title(f"Close-up of layer {layer}: tokens {start} to {start + len(part) - 1}; "
                   "lines mark chunks of 8", loc="left", fontsize=10)


def _draw_curve(axis, sparsity: dict) -> None:
    curve = [math.nan if value is None else value for value in sparsity["cls_curve"]]
    lengths = np.arange(1, len(curve) + 1)
    axis.plot(lengths, curve, color=CLS_COLOR, linewidth=2, label="measured")
    axis.plot(lengths, sparsity["independent_curve"], color=MUTED, linestyle="--",
              label="if tokens chose independently")
    for length, name in ((1, "TLS"), (8, "CLS8"), (64, "CLS64")):
        if length <= len(curve) and not math.isnan(curve[length - 1]):
            value = curve[length - 1]
            axis.plot(length, value, "o", color=CLS_COLOR)
            above = length < 64 or value < 0.15  # at the right end the curve runs through a label above it
            axis.annotate(f"{name} {value:.3f}", (length, value), xytext=(0, 8 if above else -16),
                          textcoords="offset points",
                          ha={1: "left", 64: "right"}.get(length, "center"), fontsize=9)
    axis.set_xscale("log", base=2)
    axis.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
    axis.set_ylim(0, 1.18)
    axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axis.set_xlabel("chunk length [tokens]")
    axis.set_ylabel("share of experts no token uses")
    axis.set_title("Chunk-level sparsity, mean over layers", loc="left", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right", ncols=2, fontsize=8, frameon=False)


def _draw_layers(axis, sparsity: dict) -> None:
    rows = sparsity["per_layer"]
    where = np.arange(len(rows))
    for offset, key, color, name in ((-0.2, "tls", TLS_COLOR, "TLS"), (0.2, "cls8", CLS_COLOR, "CLS8")):
        values = [math.nan if row[key] is None else row[key] for row in rows]
        mean = sparsity[key]
        axis.bar(where + offset, values, width=0.38, color=color,
                 label=name if mean is None else f"{name}, mean {mean:.3f}")
        if mean is not None:
            axis.axhline(mean, color=color, linewidth=1, linestyle=":")
    step = max(1, len(rows) // 16)
    axis.set_xticks(where[::step], [str(row["layer"]) for row in rows[::step]])
    axis.set_ylim(0, 1.18)
    axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axis.set_xlabel("layer")
    axis.set_ylabel("share of experts not used")
    reuse = sparsity["reuse_ratio"]
    axis.set_title("Sparsity per layer" + ("" if reuse is None else f" (reuse by the next token: {reuse:.3f})"),
                   loc="left", fontsize=10)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.legend(loc="upper right", ncols=2, fontsize=8, frameon=False)


def draw_evaluation(path: Path, title: str, sparsity: dict, excerpt) -> None:
    """Write the PNG.  `sparsity`: SparsityMeter.result(); `excerpt`: tokens and raw scores [L, T, E]."""
    scores_LTE = excerpt.scores_LTE.numpy()
    layers = _shown_layers(len(scores_LTE))
    # A weak score must still differ from white, which means "not used".
    colors = ListedColormap(colormaps["YlGnBu"](np.linspace(0.3, 1, 256))).with_extremes(bad="white")
    figure = Figure(figsize=(13, 12), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    grid = figure.add_gridspec(3, 2, height_ratios=[5, 2.6, 3])
    top, middle = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, :])
    image = _draw_heat_map(top, scores_LTE, layers, colors)
    figure.colorbar(image, ax=[top, middle], pad=0.01, shrink=0.6, label="router score / 99th percentile of the layer")
    detail = layers[len(layers) // 2]
    _draw_detail(middle, excerpt.tokens, scores_LTE[detail], detail, colors)
    _draw_curve(figure.add_subplot(grid[2, 0]), sparsity)
    _draw_layers(figure.add_subplot(grid[2, 1]), sparsity)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a token in a script that the font lacks shows as a box
        figure.savefig(path, dpi=120, format="png")
