"""Is the draft program that was written the head that was trained? Checked before a .pte is published.

The program, run by the C++ backend, against the eager DraftDecoder in the same precision; and that one in
float32 against training's DraftHead, which sees whole sequences. Golden rows: committed ones, a tree that
grows over three calls, and more committed ones in place of the tree; every path of the tree must equal the
sequence that it stands for. Bounds as in quality.py.

Axes    T rows, W draft vocabulary, D hidden, R RoPE width.
Errors  QualityError says what differs and by how much.
"""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from export.draft_decoder import DraftDecoder, draft_chunk
from export.quality import bounds_of, worst_difference
from training.draft import DraftHead

PREFIX, AFTER = 24, 3
LEVELS = ((-1, -1), (0, 0, 1), (2, 3, 4, 4))  # parents, by number in the tree; -1: the last row of the prefix


@dataclass(frozen=True)
class Call:
    """Arguments of one call, as DraftSession.step takes them, and the rows that each of its rows sees."""

    rows: range  # of the golden rows
    n_past: int
    tree_rows: int
    positions: list[int]
    tree_mask: list[int]
    paths: list[list[int]]


def golden_calls() -> list[Call]:
    """What happens to PREFIX + tree + AFTER golden rows."""
    prefix = list(range(PREFIX))

    def chain(rows: range, n_past: int, before: list[int]) -> Call:
        paths = [before + list(range(rows.start, row + 1)) for row in rows]
        masks = [(2 << i) - 1 for i in range(len(rows))]
        return Call(rows, n_past, 0, list(range(n_past, n_past + len(rows))), masks, paths)

    calls, nodes = [chain(range(PREFIX), 0, [])], []  # nodes: paths inside the tree
    for parents in LEVELS:
        before = len(nodes)
        nodes += [(nodes[parent] if parent >= 0 else []) + [before + i] for i, parent in enumerate(parents)]
        new = nodes[before:]
        calls.append(Call(range(PREFIX + before, PREFIX + len(nodes)), PREFIX + before, before,
                          [PREFIX + len(path) - 1 for path in new], [sum(1 << node for node in path) for path in new],
                          [prefix + [PREFIX + node for node in path] for path in new]))
    start = PREFIX + len(nodes)
    return calls + [chain(range(start, start + AFTER), PREFIX, prefix)]


def golden_rows(decoder: DraftDecoder, seed: int = 0) -> tuple[list[int], Tensor]:
    """(token ids, hidden states [T, D]) of all golden rows."""
    count = golden_calls()[-1].rows.stop
    generator = random.Random(seed)
    ids = [generator.randrange(decoder.config.vocab_size) for _ in range(count)]
    return ids, torch.randn(count, decoder.config.hidden_size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def run_calls(step, ids: list[int], hidden_TD: Tensor) -> tuple[Tensor, Tensor]:
    """(logits, h) of all golden rows; step(ids, hidden, n_past, tree_rows, positions, tree_mask)."""
    results = [step(ids[call.rows.start : call.rows.stop], hidden_TD[call.rows.start : call.rows.stop], call.n_past,
                    call.tree_rows, call.positions, call.tree_mask) for call in golden_calls()]
    return torch.cat([logits for logits, _ in results]), torch.cat([h for _, h in results])


def eager_step(decoder: DraftDecoder):
    """The step of run_calls for an eager decoder."""
    def step(ids, hidden_TD, n_past, tree_rows, positions, tree_mask):
        logits, h = decoder(*draft_chunk(ids, hidden_TD, n_past, tree_rows, positions, tree_mask))
        return logits[0], h[0]

    return step


@torch.no_grad()
def run_reference(head: DraftHead, decoder: DraftDecoder, ids: list[int], hidden_TD: Tensor) -> tuple[Tensor, Tensor]:
    """The same from training's head: one sequence for each path."""
    embedded_TD = F.embedding(torch.tensor(ids), decoder.embed_tokens.float()) * decoder.config.scale_emb
    h_TD = torch.empty_like(hidden_TD)
    for call in golden_calls():
        for row, path in zip(call.rows, call.paths):
            angle_SR = torch.outer(torch.arange(len(path)).float(), decoder.inv_freq).repeat(1, 2)
            h_TD[row] = head(embedded_TD[None, path], hidden_TD[None, path], (angle_SR.cos(), angle_SR.sin()))[0, -1]
    return F.linear(h_TD * decoder.logits_scale, decoder.lm_head.float()), h_TD


def check_parity(session, decoder: DraftDecoder, float_decoder: DraftDecoder, draft, target) -> dict[str, float]:
    """Worst differences as fractions of a row's maximum, under the keys of quality.check_parity."""
    ids, hidden_TD = golden_rows(decoder)
    decoder.reset()
    program, eager = run_calls(session.step, ids, hidden_TD), run_calls(eager_step(decoder), ids, hidden_TD)
    float_decoder.reset()
    exact = run_calls(eager_step(float_decoder), ids, hidden_TD)
    reference = run_reference(draft.module(), float_decoder, ids, hidden_TD)
    worst = {"program_vs_eager": 0.0, "eager_vs_reference": 0.0}
    layers = decoder.config.num_hidden_layers
    for i, name in enumerate(("draft logits", "hidden states")):
        difference = worst_difference(program[i], eager[i], bounds_of(decoder.quant, layers),
                                      f"{name} of the program against eager PyTorch")
        worst["program_vs_eager"] = max(worst["program_vs_eager"], difference)
        difference = worst_difference(exact[i], reference[i], bounds_of("fp32", layers),
                                      f"{name} of the exported head in float32 against the trained one")
        worst["eager_vs_reference"] = max(worst["eager_vs_reference"], difference)
    return worst
