"""The feed-forward layers: BlockFFN (chunk-sparse mixture of experts) and its dense twin.

    r = W_router x          s = ReLU(r)          A = RMSNorm(s)
    y = sum_e A_e W_down_e silu(W_up_e x)

An expert is *active* for a token where s != 0: A cannot tell, since the RMSNorm weight may be
negative or zero.  In training every expert is computed and the inactive ones are multiplied by 0:
two large matrix products and one element-wise pass that torch.compile fuses, which beats gathering
at the sparsity of training.  The export path computes active experts only.

Axes    B batch, S sequence, D hidden, E experts, F expert width, I dense width.
Source  BlockFFN, arXiv:2507.08771, section 3.1 (equations 1-3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import ModelConfig

SUM_NORM_EPS = 1e-5  # of norm_after_router "sum", as published


class Linear(nn.Linear):
    """Linear map without bias; the (fp32 master) weight is cast to the dtype of its input."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """x / sqrt(mean x^2 + eps) * weight, computed in float32, returned in the dtype of x."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        scale = torch.rsqrt(x32.square().mean(dim=-1, keepdim=True) + self.eps)
        return (x32 * scale * self.weight.float()).to(x.dtype)


class BlockFFN(nn.Module):
    """forward(x_BSD) -> (y_BSD, raw router scores r_BSE, normalised scores A_BSE), scores in float32."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, E, width = config.hidden_size, config.num_experts, config.expert_size
        self.num_experts, self.expert_size = E, width
        self.norm_after_router, self.norm_scale = config.norm_after_router, config.norm_scale
        self.router_proj = Linear(D, E)
        if config.norm_after_router == "rms":
            self.router_norm = RMSNorm(E, config.rms_norm_eps)
        self.stacked = config.ffn_type == "block_linear"  # one matrix, or one per expert
        self.up_proj = nn.Parameter(torch.empty((E * width, D) if self.stacked else (E, width, D)))
        self.down_proj = nn.Parameter(torch.empty((D, E * width) if self.stacked else (E, D, width)))

    def route(self, x_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Raw scores r and normalised scores A, both in float32."""
        raw_BSE = self.router_proj(x_BSD.float())
        scores_BSE = torch.relu(raw_BSE)
        if self.norm_after_router == "rms":
            scores_BSE = self.router_norm(scores_BSE)
        elif self.norm_after_router == "sum":
            total = scores_BSE.sum(dim=-1, keepdim=True)
            scores_BSE = scores_BSE / (total * self.norm_scale + SUM_NORM_EPS)
        return raw_BSE, scores_BSE

    def forward(self, x_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw_BSE, scores_BSE = self.route(x_BSD)
        up_ND = self.up_proj if self.stacked else self.up_proj.flatten(0, 1)
        down_DN = self.down_proj if self.stacked else self.down_proj.transpose(0, 1).flatten(1)
        h_BSN = F.linear(x_BSD, up_ND.to(x_BSD.dtype))
        h_BSEF = F.silu(h_BSN).unflatten(-1, (self.num_experts, self.expert_size))
        h_BSEF = h_BSEF * scores_BSE.to(x_BSD.dtype).unsqueeze(-1)
        return F.linear(h_BSEF.flatten(-2), down_DN.to(x_BSD.dtype)), raw_BSE, scores_BSE


class DenseFFN(nn.Module):
    """Gated dense twin: W_down (silu(W_gate x) * W_up x).  Same signature, no router."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, width = config.hidden_size, config.intermediate_size
        self.gate_proj, self.up_proj = Linear(D, width), Linear(D, width)
        self.down_proj = Linear(width, D)

    def forward(self, x_BSD: Tensor) -> tuple[Tensor, None, None]:
        return self.down_proj(F.silu(self.gate_proj(x_BSD)) * self.up_proj(x_BSD)), None, None
