"""The loss of a recurrent draft head: drafting unrolled from every position at once, against the target's distributions.

    row i of step k   token i + k, s_i of step k - 1;   judged by the target's output i + k

    loss = sum over steps of step_decay^(k-1) * CE

CE is between the target's probabilities of token i + k's successors, with everything else as "none of them", and the
head's. What leaves a document, or the window, does not count, as in draft_step.py.

Axes    B batch, S sequence, D hidden, V vocabulary, C successors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.attention import rope_tables
from training.draft import draft_embedding
from training.draft_step import shift, target_hidden
from training.model import CausalLM
from training.recurrent import RecurrentHead


class RecurrentStep(nn.Module):
    """forward(ids [B, S], docs [B, S]) -> (loss sum, [2 * steps] sums of CE and of agreements, count), as DraftStep."""

    def __init__(self, head: RecurrentHead, target: CausalLM, config, device: torch.device):
        super().__init__()
        self.head, self.config = head, config
        object.__setattr__(self, "target", target)  # not trained, not saved
        self.target_rope = rope_tables(target.config, config.seq_len, device)
        self.register_buffer("padded", head.successors.padded().to(device), persistent=False)
        self.dtype = torch.bfloat16 if config.uses_bf16(device.type) else torch.float32

    def compile(self) -> None:
        """Nothing here is worth the seconds that compiling takes."""

    @torch.no_grad()
    def targets(self, ids_BS: Tensor, blocked_BSS: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(hidden [B, S, D], successors of each token [B, S, C], the target's probabilities [B, S, C + 1] with "none" last,
        the token that it would write [B, S])."""
        hidden_BSD = target_hidden(self.target, self.target_rope, ids_BS, blocked_BSS, self.dtype)
        candidates_BSC = self.padded[ids_BS]
        probabilities, written = [], []
        for hidden, candidates in zip(hidden_BSD.split(8), candidates_BSC.split(8)):
            logits = self.target.logits(hidden).float()
            p = (logits.gather(-1, candidates.clamp(min=0)) - logits.logsumexp(-1, keepdim=True)).exp()
            p = torch.where(candidates >= 0, p, 0.0)
            written.append(logits.argmax(-1))
            probabilities.append(torch.cat((p, (1 - p.sum(-1, keepdim=True)).clamp(min=0)), dim=-1).to(self.dtype))
        return hidden_BSD, candidates_BSC, torch.cat(probabilities), torch.cat(written)

    def forward(self, ids_BS: Tensor, docs_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config, head, S = self.config, self.head, ids_BS.shape[1]
        position = torch.arange(S, device=ids_BS.device)
        blocked = (position[None, :, None] < position[None, None]) | (docs_BS[:, :, None] != docs_BS[:, None])
        hidden_BSD, candidates_BSC, wanted_BSC, written_BS = self.targets(ids_BS, blocked)
        added_V = head.token_table(draft_embedding(torch.arange(len(self.padded), device=ids_BS.device), self.target, self.dtype))
        rows_VR = head.score_table(self.target.head_weight.to(self.dtype))
        added_BSM = F.embedding(ids_BS, added_V)
        state, total, stats, counted = head.start(hidden_BSD), 0.0, [], None
        for k in range(1, config.unroll_steps + 1):
            valid_BS = (docs_BS == shift(docs_BS, k)) & (docs_BS >= 0) & (position + k < S)
            state = head.advance(state, shift(added_BSM, k))
            candidates, wanted = shift(candidates_BSC, k), shift(wanted_BSC, k)
            z = head.scores(state, rows_VR).gather(-1, candidates.clamp(min=0)).float()
            z = torch.cat((z.masked_fill(candidates < 0, -1e4), head.none_score(state)[..., None]), dim=-1)
            ce = -(wanted * z.log_softmax(-1)).sum(-1)
            ce = torch.where(valid_BS, ce, 0.0).sum()
            choice = candidates.gather(-1, z[..., :-1].argmax(-1, keepdim=True))[..., 0]
            agree = ((choice == shift(written_BS, k)) & valid_BS).sum().float()
            total = total + config.step_decay ** (k - 1) * ce
            stats += [ce.detach(), agree]
            counted = valid_BS.sum() if counted is None else counted
        return total, torch.stack(stats), counted
