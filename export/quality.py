"""Is the program that was written the model that was trained? Checks before a .pte is published.

Parity       the program, run by the C++ backend, against the eager Decoder in the same precision; and
             the eager float32 Decoder against training's CausalLM, which sees whole sequences at once.
Perplexity   float32 CausalLM against the program, on held-out text.

Golden tokens: a prefix as one chunk, a tree of 7 candidates, then one token after keeping one of the
tree's branches: every path of the tree must equal the linear text that it stands for.

Bounds  Differences are judged element by element against bound * the largest magnitude of the row.
        float32 results differ by the order of summation. Quantized ones are equal until the two
        sides round one activation to neighbouring integers (1/127 of its row's maximum); from there
        on they are two quantizations of the same model, whose differences of independent layers add
        up as sqrt(layers), so that a second bound holds for their root mean square. A wrong layout,
        scale or mask misses by the order of the values themselves.

Axes    T tokens, V vocabulary, D hidden, S sequence.   Units  perplexity = exp(mean nats per token).
Errors  QualityError says what differs and by how much.
"""

import dataclasses
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from export.decoder import Decoder, effective_rope_theta
from export.ops import MAX_TOKENS
from training.documents import find_files, iter_documents
from training.model import CausalLM, fit_layout

WINDOW = 512  # tokens of one held-out document
PREFIX = 24
TREE_PARENTS = (-1, 0, 0, 1, 1, 2, 2)
KEPT_BRANCH = (0, 2, 5)
FLOAT_BOUND = 1e-4
# Measured on random models of width 48, where one rounding weighs most: 0.045 and 0.015 per sqrt(layer).
ROUNDING_BOUND, ROUNDING_RMS_BOUND = 0.1, 0.03
HALF_BOUND, HALF_RMS_BOUND = 0.02, 0.004  # of a program in float16 against float32 with the same weights; as above


class QualityError(Exception):
    """The program must not be published."""


def bounds_of(quant: str, layers: int) -> tuple[float, float]:
    """Largest difference of an element as a fraction of its row's largest magnitude, and the largest root mean
    square of all differences as a fraction of that of the values."""
    if quant == "fp32":
        return FLOAT_BOUND, FLOAT_BOUND
    if quant == "fp16":
        return HALF_BOUND * math.sqrt(layers), HALF_RMS_BOUND * math.sqrt(layers)
    return min(ROUNDING_BOUND * math.sqrt(layers), 0.5), min(ROUNDING_RMS_BOUND * math.sqrt(layers), 0.15)


@dataclass(frozen=True)
class Golden:
    """Token ids of the parity check."""

    prefix: list[int]
    tree: list[int]
    last: int

    @staticmethod
    def of(vocab_size: int, seed: int = 0) -> "Golden":
        generator = random.Random(seed)
        ids = [generator.randrange(vocab_size) for _ in range(PREFIX + len(TREE_PARENTS) + 1)]
        return Golden(ids[:PREFIX], ids[PREFIX:-1], ids[-1])

    def path(self, node: int) -> list[int]:
        """Nodes from the root of the tree to `node`."""
        return (self.path(TREE_PARENTS[node]) if TREE_PARENTS[node] >= 0 else []) + [node]

    def steps(self) -> list[dict]:
        """Arguments of three calls, as Session.step takes them."""
        masks = [sum(1 << node for node in self.path(i)) for i in range(len(self.tree))]
        positions = [PREFIX + len(self.path(i)) - 1 for i in range(len(self.tree))]
        return [
            {"token_ids": self.prefix},
            {"token_ids": self.tree, "positions": positions, "tree_mask": masks},
            {"token_ids": [self.last], "kv_src": list(KEPT_BRANCH)},
        ]


def run_session(session, golden: Golden) -> tuple[Tensor, Tensor]:
    """(logits [T, V], hidden [T, D]) of all golden tokens from the lowered program."""
    session.reset()
    results = [session.step(**step) for step in golden.steps()]
    session.reset()
    return torch.cat([logits for logits, _ in results]), torch.cat([hidden for _, hidden in results])


@torch.no_grad()
def run_decoder(decoder: Decoder, golden: Golden) -> tuple[Tensor, Tensor]:
    """The same from the eager Decoder."""
    decoder.reset()
    results, n_past, chunk = [], 0, 0
    for step in golden.steps():
        ids, kept = step["token_ids"], step.get("kv_src")
        tokens = len(ids)
        n_past = n_past + chunk if kept is None else n_past + len(kept)
        kv_src = torch.full((MAX_TOKENS,), -1)
        if kept is not None:
            kv_src[: len(kept)] = torch.tensor(kept)
        positions = step.get("positions", list(range(n_past, n_past + tokens)))
        masks = step.get("tree_mask", [(2 << i) - 1 for i in range(tokens)])
        results.append(
            decoder(
                torch.tensor([ids]), torch.tensor(positions), torch.tensor([n_past]), torch.tensor(masks), kv_src,
                torch.tensor([0]),
            )
        )
        chunk = tokens
    return torch.cat([logits[0] for logits, _ in results]), torch.cat([hidden[0] for _, hidden in results])


@torch.no_grad()
def run_reference(model: CausalLM, golden: Golden) -> tuple[Tensor, Tensor]:
    """The same from full sequences: one per leaf of the tree, the last token after the kept branch."""
    leaves = [i for i in range(len(TREE_PARENTS)) if i not in TREE_PARENTS]
    paths = [golden.path(leaf) for leaf in leaves]
    sequences = [golden.prefix + [golden.tree[node] for node in path] + [golden.last] for path in paths]
    hidden_BSD = model(torch.tensor(sequences)).hidden
    kept = paths.index(list(KEPT_BRANCH))
    rows = [hidden_BSD[0, :PREFIX]]
    for node in range(len(golden.tree)):
        b = next(b for b, path in enumerate(paths) if node in path)
        rows.append(hidden_BSD[b, PREFIX + paths[b].index(node), None])
    rows.append(hidden_BSD[kept, -1, None])
    hidden_TD = torch.cat(rows)
    return model.logits(hidden_TD), hidden_TD


def worst_difference(got: Tensor, want: Tensor, bounds: tuple[float, float], what: str) -> float:
    """Largest |got - want| as a fraction of its row's largest |want|; QualityError above the bounds, or at NaN."""
    bound, rms_bound = bounds
    if got.shape != want.shape:
        raise QualityError(f"{what}: {list(got.shape)} values instead of {list(want.shape)}")
    scale_T1 = want.double().abs().amax(dim=-1, keepdim=True)
    difference = (got.double() - want.double()).abs()
    wrong = ~(difference <= bound * scale_T1)
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise QualityError(
            f"{what}: {int(wrong.sum())} of {wrong.numel()} values differ by more than {bound:.2g} of their row's "
            f"maximum, the first in row {row}, column {column}: {got[row, column]:.6g} instead of "
            f"{want[row, column]:.6g}"
        )
    rms = float(difference.square().mean().sqrt() / want.double().square().mean().sqrt().clamp_min(1e-300))
    if not rms <= rms_bound:
        raise QualityError(f"{what}: the root mean square of the differences is {rms:.2g} of the values', "
                           f"more than {rms_bound:.2g}")
    return float((difference / scale_T1.clamp_min(torch.finfo(torch.float64).tiny)).max())


def check_parity(session, decoder: Decoder, float_decoder: Decoder, model: CausalLM,
                 on_run: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Worst differences, as fractions of a row's maximum; QualityError above the bounds.

    "program_vs_eager" compares the lowered program with `decoder`, "eager_vs_reference" `float_decoder`
    (precision fp32; may be the same object) with training's model. on_run hears of each of the 4 runs.
    """
    layers = decoder.config.num_hidden_layers
    golden = Golden.of(decoder.config.vocab_size)
    results = []
    for run, what in ((run_session, session), (run_decoder, decoder), (run_decoder, float_decoder),
                      (run_reference, model)):
        repeated = run is run_decoder and len(results) == 2 and float_decoder is decoder
        results.append(results[-1] if repeated else run(what, golden))
        on_run()
    program, eager, exact, reference = results
    worst = {"program_vs_eager": 0.0, "eager_vs_reference": 0.0}
    for i, name in enumerate(("logits", "hidden states")):
        bounds = bounds_of(decoder.quant, layers)
        difference = worst_difference(program[i], eager[i], bounds, f"{name} of the program against eager PyTorch")
        worst["program_vs_eager"] = max(worst["program_vs_eager"], difference)
        what = f"{name} of the exported decoder in float32 against the trained model"
        difference = worst_difference(exact[i], reference[i], bounds_of("fp32", layers), what)
        worst["eager_vs_reference"] = max(worst["eager_vs_reference"], difference)
    return worst


def reference_model(checkpoint, max_context: int) -> CausalLM:
    """training's CausalLM in float32 arithmetic over the memory-mapped weights, without a float32 copy of them.

    Dynamic RoPE scaling is fixed as the export fixes it, so that quantization is all that is compared.
    """
    config = checkpoint.config
    theta = effective_rope_theta(config, max_context)
    scaling = None if theta != config.rope_theta else config.rope_scaling
    config = dataclasses.replace(config, rope_theta=theta, rope_scaling=scaling)
    with torch.device("meta"):
        model = CausalLM(config)
    state = {
        name: fit_layout(checkpoint.tensors[name], parameter.shape, name)
        for name, parameter in model.state_dict().items()
    }
    embedding = "model.embed_tokens.weight"
    state[embedding] = state[embedding].float()  # scaling must not round to the checkpoint's precision
    model.load_state_dict(state, assign=True)
    model.compute_dtype = torch.float32
    return model.requires_grad_(False).eval()


def heldout_windows(paths: Iterable[str | Path], tokenizer, vocab_size: int, max_tokens: int, max_context: int,
                    seed: int = 0) -> list[list[int]]:
    """Beginnings of documents in a seeded order, each at most WINDOW tokens, max_tokens in all.

    Raises ValueError if a token does not belong to the vocabulary, or there is no text.
    """
    documents = list(iter_documents(find_files(paths)))
    random.Random(seed).shuffle(documents)
    windows, left = [], max_tokens
    length = min(WINDOW, max_context)
    for text in documents:
        ids = ([] if tokenizer.bos_id is None else [tokenizer.bos_id]) + tokenizer.encode(text[: 16 * length])
        ids = ids[: min(length, left)]
        if ids and max(ids) >= vocab_size:
            raise ValueError(
                f"{tokenizer.path} gives token {max(ids)}, the model's vocabulary has {vocab_size}; "
                "put the checkpoint's own tokenizer beside it"
            )
        if len(ids) < 2:
            continue
        windows.append(ids)
        left -= len(ids)
        if left < 2:
            break
    if not windows:
        raise ValueError(f"{', '.join(map(str, paths))}: no text to measure perplexity on; name another --heldout")
    return windows


def perplexity(windows: list[list[int]], logits_of: Callable[[list[int]], Iterable[Tensor]],
               on_tokens: Callable[[int], None] = lambda n: None) -> float:
    """exp of the mean negative log-likelihood of every token but the first of each window.

    logits_of(ids) yields blocks of rows [n, V] that together are the logits of all tokens.
    """
    nats, count = 0.0, 0
    for ids in windows:
        row = 0
        for logits in logits_of(ids):
            targets = torch.tensor(ids[row + 1 : row + 1 + len(logits)])
            if len(targets):
                nats += float(F.cross_entropy(logits[: len(targets)].double(), targets, reduction="sum"))
            row += len(logits)
            on_tokens(len(logits))
        count += len(ids) - 1
    mean = nats / count
    return math.exp(mean) if mean < 700 else math.inf


def session_logits(session, ids: list[int]) -> Iterable[Tensor]:
    session.reset()
    length_at = getattr(session, "check_length", lambda start: session.max_chunk)
    start = 0
    while start < len(ids):
        end = start + length_at(start)
        yield session.step(ids[start:end])[0]
        start = end


@torch.no_grad()
def reference_logits(model: CausalLM, ids: list[int]) -> Iterable[Tensor]:
    hidden_SD = model(torch.tensor([ids])).hidden[0]
    for block in hidden_SD.split(MAX_TOKENS):
        yield model.logits(block)


def check_perplexity(session, model: CausalLM, windows: list[list[int]], limit: float,
                     on_tokens: Callable[[int], None] = lambda n: None) -> dict[str, float]:
    """Perplexity of the float32 model and of the program; QualityError if it rises by more than `limit`."""
    before = perplexity(windows, lambda ids: reference_logits(model, ids), on_tokens)
    after = perplexity(windows, lambda ids: session_logits(session, ids), on_tokens)
    session.reset()
    increase = after / before - 1
    tokens = sum(map(len, windows))
    if not increase <= limit:
        raise QualityError(
            f"perplexity on {tokens} held-out tokens is {before:.4g} in float32 and {after:.4g} exported, "
            f"{increase:+.2%}; the limit is {limit:+.2%}. Choose a finer --quant, or allow more with "
            "--max-perplexity-increase"
        )
    return {"float32": before, "program": after, "increase": increase, "limit": limit, "tokens": tokens}
