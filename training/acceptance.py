"""Accepted tokens a cycle of greedy speculative decoding, exactly, without verifying candidates one tree at a time.

Greedy verification accepts the path of a tree that the target's own greedy text follows. So the target writes
its texts once; each drafting cycle then starts at a place in a text, grows its tree from what a real cycle would
have there (rows of committed tokens come from the target's hidden states), and moves on by the candidates
that match plus one: the token that the target gives behind the last match (the bonus token). The numbers are
those of the real loop, see tests/draft/test_draft_acceptance.py, up to ties between logits.

A tree of depth d and width w: the root's w likeliest tokens; d - 1 times, of the latest level's candidates the
w with the highest cumulative log-probability get w children each; of all candidates the `nodes` best are
verified. Width 1 is a chain.

Axes    M trees, N candidates of a level, A rows of a tree, D hidden.   Units  tokens.
Source  EAGLE-2, arXiv:2406.16858; the published BlockFFN decoding (3 steps, 10 candidates, best 31 + root).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.drafters import Drafter


@dataclass
class Acceptance:
    """Cycles by number of tokens gained, 1 (nothing accepted, the bonus token alone) to depth + 1."""

    histogram: list[int]
    verified: int = 0  # candidates given to the target, the root not counted

    @property
    def cycles(self) -> int:
        return sum(self.histogram)

    @property
    def tokens(self) -> int:
        return sum(gained * count for gained, count in enumerate(self.histogram, start=1))

    @property
    def tokens_per_cycle(self) -> float:
        return self.tokens / self.cycles if self.cycles else 0.0


@torch.no_grad()
def accepted(drafter: Drafter, ids_BS: Tensor, text_M: Tensor, length_M: Tensor, depth: int, width: int,
             nodes: int) -> tuple[Tensor, Tensor]:
    """(accepted candidates, verified candidates) of one cycle at each place, int64 [M].

    length_M tokens of the text are known; the text must hold `depth` more.
    """
    tree = drafter.start(text_M, length_M)
    device, M = ids_BS.device, len(text_M)
    wanted_MK = torch.stack([ids_BS[text_M, length_M + k] for k in range(depth)], dim=1)
    width = min(width, len(drafter.token_ids))
    log_p = tree.root_log_p()[:, None]  # [M, N, W] of the rows that get children
    states = tree.root_states[:, None]
    cumulative = torch.zeros(M, 1, device=device)
    on_path = torch.ones(M, 1, dtype=torch.bool, device=device)  # whether the text leads to this row
    sees = torch.zeros(M, 1, 0, dtype=torch.bool, device=device)  # rows of the tree that it attends to
    scores, hits = [], []  # of all candidates, level by level
    for level in range(depth):
        best, choice = log_p.topk(width, dim=-1)  # [M, N, width]
        score = (cumulative[..., None] + best).flatten(1)
        token = drafter.token_ids[choice].flatten(1)
        hit = (on_path[..., None].expand_as(best).flatten(1)) & (token == wanted_MK[:, level, None])
        scores.append(score)
        hits.append(hit)
        if level == depth - 1:
            break
        cumulative, kept = score.sort(dim=-1, descending=True, stable=True)
        cumulative, kept = cumulative[:, :width], kept[:, :width]
        parent = kept // width
        on_path, token = hit.gather(1, kept), token.gather(1, kept)
        own = torch.eye(kept.shape[1], dtype=torch.bool, device=device).expand(M, -1, -1)
        before = sees.gather(1, parent[..., None].expand(-1, -1, sees.shape[-1]))
        sees = torch.cat([before, own], dim=-1)
        parents = states.gather(1, parent[..., None].expand(-1, -1, states.shape[-1]))
        log_p, states = tree.grow(token, parents, sees, level + 1)
    # Parents precede their children and score no less: a stable sort keeps every kept candidate's parent.
    score_MC, level_C = torch.cat(scores, dim=1), torch.cat([torch.full((s.shape[1],), k) for k, s in enumerate(scores)])
    rank = score_MC.sort(dim=-1, descending=True, stable=True).indices[:, :nodes]
    hit_MC, level_C = torch.cat(hits, dim=1).gather(1, rank), level_C.to(device)[rank]
    reached = torch.stack([(hit_MC & (level_C == k)).any(1) for k in range(depth)], dim=1)
    return reached.long().cumprod(1).sum(1), torch.full((M,), rank.shape[1], device=device)


@torch.no_grad()
def measure(drafter: Drafter, ids_BS: Tensor, prompt: int, lengths_B: Tensor, ended_B: Tensor, depth: int, width: int,
            nodes: int = 31) -> Acceptance:
    """Cycles through texts whose first `prompt` tokens were given; cycles begin before lengths_B tokens.

    drafter.read must have seen the texts; they must hold `depth` tokens more than max(lengths_B). The first
    token behind the prompt comes from reading the prompt. Nothing counts behind the end of a text that ended_B.
    """
    known_B = torch.full_like(lengths_B, prompt + 1)
    result = Acceptance([0] * (depth + 1))
    while True:
        active = (known_B < lengths_B).nonzero().flatten()
        if not len(active):
            return result
        count_M, verified_M = accepted(drafter, ids_BS, active, known_B[active], depth, width, nodes)
        left = lengths_B[active] - known_B[active]
        gained_M = torch.where(ended_B[active], torch.minimum(count_M + 1, left), count_M + 1)
        for gained in gained_M.tolist():
            result.histogram[gained - 1] += 1
        result.verified += int(verified_M.sum())
        known_B[active] += gained_M
