"""One forward pass of training: model and objectives, compiled, with losses normalised globally.

`BatchCounts` of the whole global batch come from the data loader, before the first micro-batch, so
the sum of the losses of all micro-batches of all processes is the loss of the global batch:

    loss = CE / targets + lambda_al * AL / (pairs * E * L) + lambda_cs * CS / (chunks * E * L)

The compiled part is the whole decoder with its sparsity losses in one graph, or each layer (compile:
layers; always under FSDP, whose hooks sit between layers); the cross-entropy follows chunk by chunk.

Axes    B batch, S sequence, D hidden, L layers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training import losses
from training.attention import rope_tables
from training.train_config import TrainConfig
from training.model import CausalLM

STATS = ("loss", "ce", "al", "cs", "tls", "cls8")  # of one (micro-)batch, in this order


class BatchCounts(NamedTuple):
    """How many targets, neighbour pairs, chunks, tokens and whole chunks of 8 count in a batch."""

    targets: int
    pairs: int
    chunks: int
    tokens: int
    whole_chunks: int

    @classmethod
    def of(cls, docs_BS1: Tensor, chunk_len: int) -> BatchCounts:
        """Counts of windows of S+1 tokens; plain integers, so call it where docs are on the CPU."""
        docs = docs_BS1[:, :-1]
        length = docs.shape[1] // losses.CLS_CHUNK * losses.CLS_CHUNK
        counted = (losses.valid_pairs(docs_BS1), losses.valid_pairs(docs),
                   losses.chunk_mask(docs, chunk_len)[..., 0], docs >= 0,
                   losses.whole_chunks(docs[:, :length], losses.CLS_CHUNK))
        return cls(*(int(mask.sum()) for mask in counted))


class TrainStep(nn.Module):
    """forward(ids_BS1, docs_BS1, counts[5], lambda_cs) -> (loss, stats[6]); counts as float32.
    In eval mode, forward(ids_BS1, docs_BS1) -> the sums of `_evaluate`, uncompiled.

    stats are detached shares of the global batch's values: add them up over micro-batches and processes.
    """

    def __init__(self, model: CausalLM, config: TrainConfig, device: torch.device):
        super().__init__()
        self.model, self.config = model, config
        self.rope = rope_tables(config.model, config.seq_len, device)  # no buffers: nothing for DDP to broadcast
        self.trunk = self._trunk
        self.softmax = losses._softmax_and_gradient

    def compile(self, mode: str, per_layer: bool) -> None:
        """Compile on first use.  `mode` is torch.compile's."""
        options = {"fullgraph": True, "dynamic": False, "mode": None if mode == "default" else mode}
        self.softmax = torch.compile(losses._softmax_and_gradient, **options)
        if per_layer:
            for layer in self.model.model.layers:
                layer.compile(**options)
            self.sparsity_terms = torch.compile(self.sparsity_terms, **options)
        else:
            self.trunk = torch.compile(self._trunk, **options)

    def sparsity_terms(self, raw_scores: list[Tensor], docs_BS: Tensor) -> Tensor:
        """float32 [4]: AL and CS sums, inactive pairs and unused chunk experts, over all layers."""
        pairs_BS = losses.valid_pairs(docs_BS)
        mask_BCK = losses.chunk_mask(docs_BS, self.config.cs_chunk_len)
        terms = []
        for raw_BSE in raw_scores:
            al = losses.locality_loss_sum(raw_BSE, pairs_BS, self.config.al_alpha)
            cs = losses.chunk_loss_sum(raw_BSE, mask_BCK)
            terms.append(torch.cat((torch.stack((al, cs)), losses.sparsity_counts(raw_BSE.detach(), docs_BS))))
        return torch.stack(terms).sum(dim=0)

    def _trunk(self, ids_BS: Tensor, docs_BS: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor | None]:
        """(input of the head [B, S, D], sparsity terms [4] or None for the dense twin)."""
        output = self.model(ids_BS, rope)
        terms = None
        if self.config.model.is_block_ffn:
            terms = self.sparsity_terms(output.raw_scores, docs_BS)
        return self.model.head_input(output.hidden), terms

    def forward(self, ids_BS1: Tensor, docs_BS1: Tensor, counts: Tensor | None = None,
                lambda_cs: Tensor | None = None) -> tuple[Tensor, Tensor] | Tensor:
        if not self.training:
            return self._evaluate(ids_BS1, docs_BS1)
        config = self.config
        targets_BS = losses.valid_targets(ids_BS1, docs_BS1)
        x_BSD, terms = self.trunk(ids_BS1[:, :-1], docs_BS1[:, :-1], self.rope)
        share = 1.0 / counts.clamp(min=1.0)  # nothing counted: the sums are 0 as well
        ce = losses.cross_entropy(x_BSD.flatten(0, 1), self.model.head_weight, targets_BS.flatten(), share[0],
                                  config.ce_chunk_tokens, self.softmax)
        if terms is None:
            loss, sparsity = ce, ce.new_zeros(4)
        else:
            scores_per_position = config.model.num_experts * config.model.num_hidden_layers
            sparsity = terms * share[1:] / scores_per_position
            loss = ce + config.lambda_al * sparsity[0] + lambda_cs * sparsity[1]
        return loss, torch.cat((torch.stack((loss, ce)), sparsity)).detach()

    def _evaluate(self, ids_BS1: Tensor, docs_BS1: Tensor) -> Tensor:
        """float64 [5]: sums of CE (float32 logits), AL, CS, inactive pairs and unused chunk experts."""
        targets_BS = losses.valid_targets(ids_BS1, docs_BS1)
        x_BSD, terms = self._trunk(ids_BS1[:, :-1], docs_BS1[:, :-1], self.rope)
        ce = losses.cross_entropy_sum(x_BSD.flatten(0, 1), self.model.head_weight, targets_BS.flatten(),
                                      self.config.ce_chunk_tokens)
        return torch.cat((ce.reshape(1), ce.new_zeros(4) if terms is None else terms.double()))
