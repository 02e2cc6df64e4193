"""Models of the paper's sizes with random weights that replay the shipped checkpoint's routing and drafts.

Nobody has published weights of every size, and the text of random weights says nothing. But the time of a step depends
only on how many bytes it reads: which experts a chunk uses, how many rows it has, how many of them are accepted. So a trace
of the shipped checkpoint is recorded once (which experts every token of a text used, and the tree that the runner's drafter
proposed at every place), and the synthetic model is built so that the real router and the real logits play it back:

  token id v of the synthetic model stands for place v of the trace; its embedding is the unit vector v
  the rest of the residual stream stays small, because the residual scale is 1e-3
  row e of a layer's router holds +1 in column v if the trace uses that expert at place v, else -1
  row v of lm_head is the unit vector of the place before, so that greedy decoding walks through the trace

The kernels are told nothing and read what they would read of a trained model. A synthetic layer takes its experts from one
layer of the trace, spread over the depth: a random choice of columns, which keeps the share of active experts of one token and
of a chunk. Rejected candidates use the experts of other tokens near the place.

Drafting replays the recorded trees: what was right is right. Where a head drafted, each cycle also runs a head of the size that
the published ones have, with random weights, once for every level of its tree, so that its time is real (plus Python's for the
calls). The runner grows a real head's tree only while that pays; a replayed one has a fixed depth, and `Replay.choices` are tried
in the warm-up: the fastest counts.

Axes    L layers, S places of a text, E experts, D hidden.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

PROMPT_TOKENS = 16  # of a trace, in front of the text that is decoded
HEAD_DEPTH = 3  # calls of a replayed head in a cycle
POOL = 1 << 26  # random weights, of which every tensor is a part that starts elsewhere
ONE_HOT = ("model.embed_tokens.weight", "lm_head.weight")
SIZES = {
    "0.1B": dict(hidden_size=768, expert_size=64, num_experts=48, num_hidden_layers=16, vocab_size=32_000),
    "1.2B": dict(hidden_size=1792, expert_size=128, num_experts=56, num_hidden_layers=35, vocab_size=32_000),
    "2.8B": dict(hidden_size=2048, expert_size=128, num_experts=128, num_hidden_layers=36, vocab_size=73_440,
                 attention_type="vanilla", num_key_value_heads=2),
}


@dataclass
class Trace:
    """One text. ids: the last PROMPT_TOKENS of the prompt, then the text; used_LSE: the experts of each token; trees[drafter][s]:
    rows (token, parent, confidence, right) proposed behind ids[: s + 1], row 0 (that last token) not among them."""

    kind: str
    ids: list[int]
    used_LSE: np.ndarray
    trees: dict[str, dict[int, list[tuple[int, int, float, bool]]]]


def record(runner, checkpoint, cases: list[tuple[str, list[int]]], tokens: int, drafters: list[str], **options) -> list[Trace]:
    """Traces of the first case of each kind: `runner` decodes greedily and drafts, the checkpoint in float32 routes."""
    from training.model import CausalLM

    model, traces = CausalLM.from_checkpoint(checkpoint, "cpu", torch.float32).eval(), []
    for kind, prompt in {kind: ids for kind, ids in reversed(cases)}.items():
        full, trees, seen = prompt + runner.generate(prompt, tokens, "plain").ids, {name: {} for name in drafters}, []
        runner.set_observer(seen.append)
        for name in drafters:
            for place in range(len(prompt), len(full) - 1):  # row 0 of the first cycle is the token behind the given ones
                seen.clear()
                count = []
                runner.generate(full[:place], 64, "spec", drafter=name, on_token=lambda token: count.append(token) or len(count) == 2,
                                **options)
                if seen:
                    trees[name][place - len(prompt) + PROMPT_TOKENS] = marked(seen[0], full[place:])
        runner.set_observer(None)
        with torch.inference_mode():
            scores = model(torch.tensor([full])).raw_scores
        start = len(prompt) - PROMPT_TOKENS
        traces.append(Trace(kind, full[start:], np.stack([(s[0, start:] > 0).numpy() for s in scores]), trees))
    return traces


def marked(rows, text: list[int]) -> list[tuple[int, int, float, bool]]:
    """Proposals of an observed tree whose row 0 is text[0], with whether the text goes that way."""
    depth, right, out = [0], [True], []
    for token, parent, confidence, *_ in rows[1:]:
        depth.append(depth[parent] + 1)
        right.append(right[parent] and depth[-1] < len(text) and text[depth[-1]] == token)
        out.append((token, parent, confidence, right[-1]))
    return out


class Replay:
    """The drafter of a synthetic model, for Runner.set_drafter: one of those that the traces have, at most `depth` deep.
    head(rows, n_past, tree_rows) takes a head's time."""

    def __init__(self, traces: list[Trace], drafter: str, head=None, depth: int = 64) -> None:
        self.places = [(trace, s) for trace in traces for s in range(len(trace.ids))]  # by token id
        self.traces, self.drafter, self.head, self.depth = traces, drafter, head, depth
        self.committed = 0  # rows that the head knows

    @classmethod
    def choices(cls, traces: list[Trace], head=None) -> dict[str, Replay]:
        """Name -> drafter, all that are worth a try: n-grams alone, a head alone, and both."""
        found = {"n-grams": cls(traces, "ngram")}
        for name in ("best", "head"):
            if head is not None and all(name in trace.trees for trace in traces):
                found[f"{name}, depth {HEAD_DEPTH}"] = cls(traces, name, head, HEAD_DEPTH)
        return found

    def prompts(self) -> list[tuple[str, list[int]]]:
        """(kind, ids) for Runner.generate."""
        starts = [sum(len(trace.ids) for trace in self.traces[:i]) for i in range(len(self.traces))]
        return [(trace.kind, list(range(start, start + PROMPT_TOKENS))) for trace, start in zip(self.traces, starts)]

    def __call__(self, context, max_tokens: int, max_depth: int):
        trace, s = self.places[context[-1]]
        rows, depth, size = [], [0], len(trace.ids)
        first, max_depth = context[-1] - s, min(max_depth, self.depth)
        kept = {0: 0}  # row of the recorded tree -> row here
        for i, (_, parent, confidence, right) in enumerate(trace.trees[self.drafter].get(s, []), start=1):
            depth.append(depth[parent] + 1)
            if parent not in kept or depth[i] > max_depth or len(rows) == max_tokens or s + depth[i] >= size:
                continue
            place = s + depth[i] if right else (s + depth[i] + 2 + i) % size
            if not right and place == s + depth[i]:
                place = s
            rows.append((first + place, kept[parent], confidence))
            kept[i] = len(rows)
        if self.head is not None and len(context) > 1:
            past, tree_rows = len(context) - 1, 0
            at = min(self.committed, past - 1)  # a new text is shorter, and always one row is new
            while at < past:
                self.head(min(past - at, 64), at, 0)
                at = min(at + 64, past)
            self.committed = past
            for level in range(1, max((depth[i] for i in kept), default=0)):
                count = min(sum(depth[i] == level for i in kept), 3)
                self.head(count, past + tree_rows, tree_rows)
                tree_rows += count
        return rows


class SyntheticTensors(Mapping):
    """Canonical name -> tensor; big ones are parts of one pool, so that building a model takes no time and little memory."""

    def __init__(self, config, shapes: dict[str, tuple[int, ...]], traces: list[Trace], seed: int = 0) -> None:
        self.config, self.shapes, self.rng = config, shapes, np.random.default_rng(seed)
        largest = max(int(np.prod(shape)) for name, shape in shapes.items() if name not in ONE_HOT)
        generator = torch.Generator().manual_seed(seed)
        self.pool = torch.randn(max(POOL, largest + (1 << 22)), generator=generator).mul_(0.02)
        self.used = np.concatenate([trace.used_LSE for trace in traces], axis=1) if traces else None
        self.lengths = [len(trace.ids) for trace in traces]
        if traces and sum(self.lengths) > config.hidden_size:
            raise ValueError(f"the traces have {sum(self.lengths)} places, more than the hidden size: record fewer tokens")
        self.made: dict[str, torch.Tensor] = {}

    def __getitem__(self, name: str) -> torch.Tensor:
        shape = self.shapes[name]
        if name in self.made:
            return self.made[name]
        if name in ONE_HOT:
            weight = torch.zeros(shape, dtype=torch.bfloat16)
            place = torch.arange(sum(self.lengths))
            weight[place, place if name.startswith("model") else (place - 1).clamp(min=0)] = 1
        elif name.endswith("router_proj.weight"):
            weight = self._router(int(name.split(".")[2]), shape)
        elif len(shape) == 1:
            weight = torch.ones(shape)
        else:
            size = int(np.prod(shape))
            start = zlib.crc32(name.encode()) % (len(self.pool) - size)
            return self.pool[start : start + size].view(shape)
        self.made[name] = weight
        return weight

    def _router(self, layer: int, shape) -> torch.Tensor:
        L, S, E = self.used.shape
        source, rng = layer * L // self.config.num_hidden_layers, np.random.default_rng([layer, 1])
        pool = np.concatenate([self.used[source], self.used[(source + 1) % L]], axis=1) if shape[0] > E else self.used[source]
        columns = rng.permutation(pool.shape[1])[: shape[0]]
        weight = torch.zeros(shape)
        weight[:, :S] = torch.from_numpy(np.where(pool[:, columns].T, 1.0, -1.0).astype(np.float32))
        return weight

    def __iter__(self):
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass
class Synthetic:
    """What export.decoder.Decoder takes for a checkpoint."""

    config: object
    tensors: SyntheticTensors


def synthetic(size: str, traces: list[Trace]) -> Synthetic:
    """ValueError if the size is unknown, or has fewer experts to choose from than it needs."""
    from training.checkpoint import expected_shapes
    from training.config import ModelConfig

    if size not in SIZES:
        raise ValueError(f"unknown size {size}; choose {', '.join(SIZES)}")
    given = SIZES[size]
    config = ModelConfig.from_dict(dict(
        attention_type="mla", q_lora_rank=768, kv_lora_rank=256, qk_nope_head_dim=128, qk_rope_head_dim=64, max_position_embeddings=4096,
        num_attention_heads=given["hidden_size"] // 128, tie_word_embeddings=False, scale_depth=1e-3) | given)
    return Synthetic(config, SyntheticTensors(config, expected_shapes(config), traces))


def head_of(model: Synthetic, draft_vocab: int | None = None):
    """(draft, target) for DraftDecoder: a head of the published kind for the size, with random weights."""
    from training.draft import DraftConfig, DraftHead
    from training.draft_files import REMAP, Draft

    c = model.config
    config = DraftConfig(c, intermediate_size=3 * c.hidden_size, num_attention_heads=c.num_attention_heads,
                         num_key_value_heads=c.num_attention_heads, head_dim=c.hidden_size // c.num_attention_heads)
    remap = torch.arange(draft_vocab or (32_768 if c.vocab_size > 32_768 else 16_384))
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in DraftHead(config, torch.arange(len(remap), device="meta")).state_dict().items()}
    weights = SyntheticTensors(c, shapes, [])
    tensors = {name: remap.int() if name == REMAP else weights[name] for name in shapes}
    return Draft(Path("synthetic"), config, tensors), model


def head_calls(path: Path, hidden_size: int, threads: int):
    """head(rows, n_past, tree_rows) of Replay: runs the program of a head once. `threads`: what the pool has already."""
    from runtime_delegates.draft_session import DraftSession
    from runtime_delegates.logs import quiet_log

    with quiet_log():
        session = DraftSession(path, threads)
    hidden = torch.randn(64, hidden_size)

    def call(rows: int, n_past: int, tree_rows: int) -> None:
        session.step([7] * rows, hidden[:rows], n_past, tree_rows)

    return call
