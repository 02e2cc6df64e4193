"""Training objectives: cross-entropy, activation locality, chunk sparsification; sparsity counters.

Which positions count comes from `docs`, the document index of every token (-1 = padding):
* target t counts where docs[t] == docs[t+1] >= 0: the first token of a document is never a target;
* a pair of neighbours (t, t+1) counts under the same condition, both being inputs;
* a chunk is cut at its first document border: only tokens of the document of its first token count,
  the others contribute the factor 1.  A chunk that starts in padding does not count.

All functions return sums over what counts; the caller divides by counts of the *global* batch, so
that losses do not depend on the number of processes or micro-batches.  Masks never change a score
in place.  Gradients flow into both scores of a pair of the locality loss.

Axes    B batch, S sequence, E experts, C chunks, K tokens of a chunk, N tokens, V vocabulary, D hidden.
Source  BlockFFN, arXiv:2507.08771, section 3.2 (both losses; sharpness of the sigmoid 100, chunks of 64 tokens: the defaults
        of train_config.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -1  # a target that does not count
CLS_CHUNK = 8  # chunk length of the CLS8 that training reports
MIN_SCORE_SUM = 1e-20  # a token whose scores sum to less uses no expert: its shares are 0


# ---- which positions count ----

def valid_targets(ids_BS1: Tensor, docs_BS1: Tensor) -> Tensor:
    """Next tokens [B, S] of windows [B, S+1], IGNORE where they do not count."""
    same = (docs_BS1[:, 1:] == docs_BS1[:, :-1]) & (docs_BS1[:, 1:] >= 0)
    return torch.where(same, ids_BS1[:, 1:], IGNORE)


def valid_pairs(docs_BS: Tensor) -> Tensor:
    """bool [B, S-1]: tokens t and t+1 belong to one document."""
    return (docs_BS[:, 1:] == docs_BS[:, :-1]) & (docs_BS[:, 1:] >= 0)


def chunk_mask(docs_BS: Tensor, chunk_len: int) -> Tensor:
    """bool [B, C, K]: token counts in its chunk."""
    docs_BCK = docs_BS.unflatten(1, (-1, chunk_len))
    return (docs_BCK == docs_BCK[..., :1]) & (docs_BCK >= 0)


def whole_chunks(docs_BS: Tensor, chunk_len: int) -> Tensor:
    """bool [B, C]: chunk without border or padding (those that CLS counts)."""
    return chunk_mask(docs_BS, chunk_len).all(dim=-1)


# ---- activation locality ----

def locality_loss_sum(raw_BSE: Tensor, pairs_BS: Tensor, alpha: float) -> Tensor:
    """Sum over counted pairs and experts of BCE(sigmoid(alpha r_t), target sigmoid(alpha r_t+1)).

    With z = alpha r this is softplus(z_t) - z_t sigmoid(z_t+1), finite for any finite r.
    """
    z_BSE = raw_BSE.float() * alpha
    now, following = z_BSE[:, :-1], z_BSE[:, 1:]
    bce = F.softplus(now) - now * torch.sigmoid(following)
    return torch.where(pairs_BS[..., None], bce, 0.0).sum()


# ---- chunk sparsification ----

class _ChunkProduct(torch.autograd.Function):
    """Product over dim -2; its gradient is right where one factor, or several, are 0 (p = 1)."""

    @staticmethod
    def forward(ctx, factors_BCKE: Tensor) -> Tensor:
        ctx.save_for_backward(factors_BCKE)
        return factors_BCKE.prod(dim=-2)

    @staticmethod
    def backward(ctx, grad_BCE: Tensor) -> Tensor:
        (factors,) = ctx.saved_tensors
        zero = factors == 0
        zeros = zero.sum(dim=-2, keepdim=True)
        nonzero = torch.where(zero, 1.0, factors)
        product = nonzero.prod(dim=-2, keepdim=True)  # of the factors that are not 0
        others = torch.where(zero, torch.where(zeros == 1, product, 0.0),
                             torch.where(zeros == 0, product / nonzero, 0.0))
        return grad_BCE.unsqueeze(-2) * others


def score_shares(raw_BSE: Tensor) -> Tensor:
    """p = s / sum over experts of s, s = ReLU(r); 0 where no expert is active."""
    s_BSE = torch.relu(raw_BSE.float())
    total = s_BSE.sum(dim=-1, keepdim=True)
    used = total > MIN_SCORE_SUM
    return torch.where(used, s_BSE / torch.where(used, total, 1.0), 0.0)


def chunk_loss_sum(raw_BSE: Tensor, mask_BCK: Tensor) -> Tensor:
    """Sum over chunks and experts of 1 - prod over counted tokens of (1 - p): expert uses of a chunk.

    A chunk without counted tokens adds 0.
    """
    p_BCKE = score_shares(raw_BSE).unflatten(1, mask_BCK.shape[1:])
    factors = torch.where(mask_BCK[..., None], 1.0 - p_BCKE, 1.0)
    return (1.0 - _ChunkProduct.apply(factors)).sum()


# ---- sparsity of the training batches ----

def sparsity_counts(raw_BSE: Tensor, docs_BS: Tensor) -> Tensor:
    """float32 [2]: inactive (token, expert) pairs, and experts unused in whole chunks of 8."""
    inactive = raw_BSE <= 0
    tokens = (inactive & (docs_BS >= 0)[..., None]).sum()
    length = docs_BS.shape[1] // CLS_CHUNK * CLS_CHUNK
    unused = inactive[:, :length].unflatten(1, (-1, CLS_CHUNK)).all(dim=2)
    chunks = (unused & whole_chunks(docs_BS[:, :length], CLS_CHUNK)[..., None]).sum()
    return torch.stack((tokens, chunks)).float()


# ---- cross-entropy ----

def _softmax_and_gradient(logits_NV: Tensor, targets_N: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss times scale, and its gradient in the dtype of the logits."""
    z = logits_NV.float()
    lse_N = torch.logsumexp(z, dim=-1)
    weight_N = (targets_N != IGNORE).float() * scale
    index_N = targets_N.clamp(min=0)
    loss = ((lse_N - z.gather(1, index_N[:, None]).squeeze(1)) * weight_N).sum()
    hit = torch.arange(z.shape[1], device=z.device) == index_N[:, None]
    gradient = (torch.exp(z - lse_N[:, None]) - hit.float()) * weight_N[:, None]
    return loss, gradient.to(logits_NV.dtype)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Gradients are computed in the forward pass, chunk by chunk: no logits outlive their chunk
    and none are computed twice."""

    @staticmethod
    def forward(ctx, x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, scale: Tensor,
                chunk_tokens: int, softmax) -> Tensor:
        weight = weight_VD.to(x_ND.dtype)
        grad_x = torch.empty_like(x_ND)
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.promote_types(weight_VD.dtype, torch.float32))
        loss = torch.zeros((), dtype=torch.float32, device=x_ND.device)
        for start in range(0, len(x_ND), chunk_tokens):
            part = slice(start, start + chunk_tokens)
            chunk_loss, gradient_NV = softmax(x_ND[part] @ weight.t(), targets_N[part], scale)
            loss = loss + chunk_loss
            torch.mm(gradient_NV, weight, out=grad_x[part])
            grad_weight += gradient_NV.t() @ x_ND[part]
        ctx.save_for_backward(grad_x, grad_weight)
        return loss

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad_x, grad_weight = ctx.saved_tensors
        return grad_x * grad.to(grad_x.dtype), grad_weight * grad, None, None, None, None


def cross_entropy(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, scale: Tensor,
                  chunk_tokens: int = 8192, softmax=_softmax_and_gradient) -> Tensor:
    """scale * sum of the cross-entropies of x @ weight^T, in nats; IGNOREd targets add 0.

    x is already divided by hidden_size / dim_model_base.  `softmax`: a compiled
    `_softmax_and_gradient`.  Logits are in the dtype of x; the softmax is float32.
    """
    return _ChunkedCrossEntropy.apply(x_ND, weight_VD, targets_N, scale, chunk_tokens, softmax)


@torch.no_grad()
def cross_entropy_sum(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, chunk_tokens: int = 8192) -> Tensor:
    """Sum of the cross-entropies with float32 logits: for evaluation."""
    weight, total = weight_VD.float(), torch.zeros((), dtype=torch.float64, device=x_ND.device)
    for start in range(0, len(x_ND), chunk_tokens):
        part = slice(start, start + chunk_tokens)
        total += F.cross_entropy(x_ND[part].float() @ weight.t(), targets_N[part], ignore_index=IGNORE,
                                 reduction="sum").double()
    return total
