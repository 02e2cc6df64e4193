"""The loss of a draft head: several steps of drafting unrolled, against the target's own distributions.

Step 1 reads the target's hidden states; step k reads h of step k - 1 in their place, as drafting does
from its second token on, and attends to what drafting attends to then: the rows of the target's hidden
states up to where the chain started, and the chain's own rows. Chains start at every position at once:

    row i of step k   token i + k, h_i of step k - 1, position i + k - 1;   judged by the target's output i + k
    sees              rows 0..i of step 1, and row i of steps 2..k

    loss = sum over steps of step_decay^(k-1) * (CE + hidden_weight * smooth L1(h, target's hidden state))

CE is between the target's probabilities of the draft vocabulary (not renormalised: a position counts as
much as the draft vocabulary covers it) and the head's. What leaves a document, or the window, does not count.

Axes    B batch, S sequence, D hidden, H heads, R head width, W draft vocabulary, V vocabulary, N rows.
Source  EAGLE-3, arXiv:2503.01840 (training-time test); EAGLE, arXiv:2401.15077 (smooth L1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.attention import rope_tables
from training.draft import DraftHead, draft_embedding
from training.model import CausalLM


def mix(q: Tensor, key: Tensor, value: Tensor, own_keys: Tensor, own_values: Tensor, own_used: Tensor,
        blocked_BSS: Tensor) -> Tensor:
    """Attention of q [B, S, H, R] over the unblocked rows of key and value, and over the chain's own rows.

    own_keys and own_values are [B, S, E, H, R]; own_used [E] says which of them there are already: one shape for
    all steps, so that one compiled graph serves them.
    """
    scale, S = q.shape[-1] ** -0.5, q.shape[1]
    scores = torch.einsum("bshr,bthr->bhst", q, key).float() * scale
    scores = scores.masked_fill(blocked_BSS[:, None], float("-inf"))
    own = (q[:, :, None] * own_keys).float().sum(-1).permute(0, 3, 1, 2) * scale  # [B, H, S, E]
    own = own.masked_fill(~own_used, float("-inf"))
    weights = torch.cat([scores, own], dim=-1).softmax(dim=-1).to(q.dtype)
    out = torch.einsum("bhst,bthr->bshr", weights[..., :S], value)
    return out + (weights[..., S:].permute(0, 2, 3, 1)[..., None] * own_values).sum(2)


def _padded(rows: list[Tensor], count: int, like: Tensor) -> Tensor:
    """[B, S, count, H, R] of rows [B, S, H, R], zeros for those that are not there yet."""
    return torch.stack(rows + [torch.zeros_like(like)] * (count - len(rows)), dim=2)


def _soft_cross_entropy(logits_NW: Tensor, target_NW: Tensor, count_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(sum of the losses, sum of p(draft's choice) over the target's, gradient of the logits in their dtype)."""
    z, p = logits_NW.float(), target_NW.float()
    lse_N1 = torch.logsumexp(z, dim=-1, keepdim=True)
    mass_N1, weight_N1 = p.sum(-1, keepdim=True), count_N.float()[:, None]
    loss = ((mass_N1 * lse_N1 - (p * z).sum(-1, keepdim=True)) * weight_N1).sum()
    gradient = (mass_N1 * torch.exp(z - lse_N1) - p) * weight_N1
    agree = (z.argmax(-1) == p.argmax(-1)) & (count_N > 0)
    return loss, agree.float().sum(), gradient.to(logits_NW.dtype)


class _SoftCrossEntropy(torch.autograd.Function):
    """The gradient is computed in the forward pass, so that no logits outlive it; the lm_head is not trained."""

    @staticmethod
    def forward(ctx, x_ND: Tensor, weight_WD: Tensor, target_NW: Tensor, count_N: Tensor, softmax):
        loss, agree, gradient_NW = softmax(x_ND @ weight_WD.t(), target_NW, count_N)
        ctx.save_for_backward(gradient_NW @ weight_WD)
        ctx.mark_non_differentiable(agree)
        return loss, agree

    @staticmethod
    def backward(ctx, grad: Tensor, _):
        (grad_x,) = ctx.saved_tensors
        return grad_x * grad.to(grad_x.dtype), None, None, None, None


def shift(x: Tensor, k: int) -> Tensor:
    """x[:, i + k] in place of x[:, i]; the last k hold what does not count."""
    return x.roll(-k, dims=1) if k else x


class DraftStep(nn.Module):
    """forward(ids [B, S], docs [B, S]) -> (loss sum, [2 * steps] sums of CE and of agreements, count).

    The loss is a sum over what counts in step 1; the caller divides by the count of the whole batch.
    """

    def __init__(self, head: DraftHead, target: CausalLM, config, device: torch.device):
        super().__init__()
        self.head, self.config = head, config
        object.__setattr__(self, "target", target)  # not trained, not saved
        self.rope = rope_tables(head.config, config.seq_len + config.unroll_steps, device)
        self.target_rope = rope_tables(target.config, config.seq_len, device)
        weight_WD = target.head_weight[head.token_id_remap.long()]
        self.register_buffer("lm_rows", target.head_input(weight_WD), persistent=False)  # the scale rides along
        self.dtype = torch.bfloat16 if config.uses_bf16(device.type) else torch.float32
        self.mix, self.softmax = mix, _soft_cross_entropy

    def compile(self) -> None:
        """The two parts that touch large tensors element by element; they start in seconds."""
        self.mix = torch.compile(mix, dynamic=False)
        self.softmax = torch.compile(_soft_cross_entropy, dynamic=False)

    @torch.no_grad()
    def features(self, ids_BS: Tensor, blocked_BSS: Tensor) -> tuple[Tensor, Tensor]:
        """(hidden states [B, S, D] after the final norm, probabilities of the draft vocabulary [B, S, W]).

        The target sees what blocked_BSS leaves: one document, as when it runs. (Its own training let documents of a
        window see each other.)
        """
        visible_B1SS, decoder = ~blocked_BSS[:, None], self.target.model
        h_BSD = draft_embedding(ids_BS, self.target, self.dtype)
        for layer in decoder.layers:
            q, k, v = (x.transpose(1, 2) for x in layer.self_attn.qkv(layer.attention_input(h_BSD), self.target_rope))
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible_B1SS)
            h_BSD = layer.finish(h_BSD, out.transpose(1, 2).flatten(2))
        hidden_BSD = decoder.norm(h_BSD)
        remap = self.head.token_id_remap.long()
        probabilities = []
        for hidden in hidden_BSD.split(max(1, 8192 // hidden_BSD.shape[1])):
            logits = self.target.logits(hidden).float()
            probabilities.append((logits[..., remap] - logits.logsumexp(-1, keepdim=True)).exp().to(self.dtype))
        return hidden_BSD, torch.cat(probabilities)

    def forward(self, ids_BS: Tensor, docs_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config, steps, head = self.config, self.config.unroll_steps, self.head
        S = ids_BS.shape[1]
        position = torch.arange(S, device=ids_BS.device)
        blocked = (position[None, :, None] < position[None, None]) | (docs_BS[:, :, None] != docs_BS[:, None])
        hidden_BSD, target_BSW = self.features(ids_BS, blocked)
        embedded_BSD = draft_embedding(ids_BS, self.target, self.dtype)
        lm_rows = self.lm_rows.to(self.dtype)
        keys: list[list[Tensor]] = [[] for _ in head.layers]
        values: list[list[Tensor]] = [[] for _ in head.layers]
        own_used = torch.ones(steps + 1, max(steps - 1, 1), dtype=torch.bool, device=ids_BS.device).tril(-2)
        x, total, stats = hidden_BSD, 0.0, []
        counted = None
        for k in range(1, steps + 1):
            valid_BS = (docs_BS == shift(docs_BS, k)) & (docs_BS >= 0) & (position + k < S)
            rope = tuple(table[k - 1:k - 1 + S] for table in self.rope)
            x = head.combine(shift(embedded_BSD, k), x)
            for layer, layer_keys, layer_values in zip(head.layers, keys, values):
                q, key, value = layer.self_attn.qkv(layer.attention_input(x), rope)
                layer_keys.append(key)
                layer_values.append(value)
                own = [_padded(rows[1:], max(steps - 1, 1), q) for rows in (layer_keys, layer_values)]
                out = self.mix(q, layer_keys[0], layer_values[0], *own, own_used[k].clone(), blocked)
                x = layer.finish(x, out.flatten(2))
            ce, agree = _SoftCrossEntropy.apply(x.flatten(0, 1), lm_rows, shift(target_BSW, k).flatten(0, 1),
                                                valid_BS.flatten(), self.softmax)
            loss = ce
            if config.hidden_weight:
                distance = F.smooth_l1_loss(x.float(), shift(hidden_BSD, k).float(), reduction="none").mean(-1)
                loss = loss + config.hidden_weight * torch.where(valid_BS, distance, 0.0).sum()
            total = total + config.step_decay ** (k - 1) * loss
            stats += [ce.detach(), agree]
            counted = valid_BS.sum() if counted is None else counted
        return total, torch.stack(stats), counted
