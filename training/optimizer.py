"""AdamW with weight decay on the matrices, but not on norms or on the router.

Decay would pull raw router scores towards 0, where a tiny change switches an expert on or off.
"""

from __future__ import annotations

import torch
from torch import nn

from training.train_config import TrainConfig


def decays(name: str, parameter: torch.Tensor) -> bool:
    return parameter.dim() >= 2 and not name.endswith("router_proj.weight")


def make_optimizer(model: nn.Module, config: TrainConfig, fused: bool) -> torch.optim.AdamW:
    """`lr` is set before every step by the trainer."""
    named = list(model.named_parameters())
    groups = [{"params": [p for n, p in named if decays(n, p)], "weight_decay": config.weight_decay},
              {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.adam_eps,
                             fused=fused)
