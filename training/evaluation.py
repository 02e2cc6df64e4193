"""Held-out loss and sparsity at the end of a run (training/evaluate.py does the same for any checkpoint)."""

from __future__ import annotations

import math

import numpy as np
import torch

from training.train_config import TrainConfig
from training.parallel import Processes
from training.step import BatchCounts, TrainStep


@torch.no_grad()
def evaluate_heldout(step: TrainStep, dataset, config: TrainConfig, processes: Processes) -> dict:
    """Cross-entropy with float32 logits, perplexity, TLS and CLS8 over the first eval_windows windows.

    Every process takes as many batches as the others (sharded layers need that): padding fills up.
    """
    step.eval()
    windows = np.arange(min(len(dataset), config.eval_windows))
    per_round = config.micro_batch_size * processes.world
    sums, counts = 0.0, torch.zeros(len(BatchCounts._fields), dtype=torch.float64)
    for start in range(0, len(windows), per_round):
        mine = windows[start + processes.rank:start + per_round:processes.world]
        ids, docs = dataset.batch(mine if len(mine) else windows[:1])
        if not len(mine):
            docs = torch.full_like(docs, -1)
        counts += torch.tensor(BatchCounts.of(docs, config.cs_chunk_len))
        sums = sums + step(ids.to(processes.device), docs.to(processes.device))
    step.train()
    sums = processes.sum(sums).tolist()
    counts = BatchCounts(*processes.sum(counts.to(processes.device)).tolist())
    loss = sums[0] / max(counts.targets, 1)
    result = {"heldout_tokens": int(counts.targets), "heldout_loss": loss,
              "heldout_perplexity": math.exp(min(loss, 700))}
    if config.model.is_block_ffn:
        scores = config.model.num_experts * config.model.num_hidden_layers
        result |= {"heldout_tls": sums[3] / (max(counts.tokens, 1) * scores),
                   "heldout_cls8": sums[4] / (max(counts.whole_chunks, 1) * scores)}
    return result
