"""What the training loop asks of a kind of draft head: how one begins, its loss, its files, what it chooses from."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.draft import DraftConfig, DraftHead
from training.draft_config import DraftTrainConfig
from training.draft_data import draft_vocabulary
from training.draft_files import save_draft
from training.draft_step import DraftStep
from training.recurrent import RecurrentConfig, RecurrentHead, Successors
from training.recurrent_files import save_recurrent
from training.recurrent_step import RecurrentStep

TEXT_WEIGHT = 0.1  # of a pair in the training text, where the target wrote texts too: they are what is drafted


@dataclass(frozen=True)
class Kind:
    new_head: Callable  # (target's config, dataset, generated texts or None, config) -> module, its weights not initialised
    step: Callable  # (head, target, config, device) -> module that gives (loss, stats, count)
    save: Callable[..., Path]  # (directory, head, checkpoint, dtype)
    vocabulary: Callable[..., list | int]  # of a head, as a resumed run must find it again
    summary: Callable[..., dict]


def _new_layer(target, dataset, generated, config: DraftTrainConfig) -> DraftHead:
    always = [i for i in target.eos_ids if i < dataset.vocab_size]
    return DraftHead(DraftConfig(target, **config.model), draft_vocabulary(dataset, config.draft_vocab_size, always))


def _new_recurrent(target, dataset, generated: tuple[Tensor, Tensor] | None, config: DraftTrainConfig) -> RecurrentHead:
    shards, weights = dataset.shards(), [1.0] * len(dataset.shards())
    if generated is not None:
        ids, lengths = generated
        written = ids.long()[torch.arange(ids.shape[1])[None] < lengths[:, None]]  # neighbours of two texts meet once each
        shards, weights = [*shards, written.numpy()], [TEXT_WEIGHT] * len(shards) + [1.0]
    successors = Successors.most_frequent(shards, weights, target.vocab_size, config.successor_pairs, config.most_successors)
    return RecurrentHead(RecurrentConfig(target, **config.model), successors)


def _checksum(head: RecurrentHead) -> int:
    return zlib.crc32(head.successors.tokens.numpy().tobytes(), zlib.crc32(head.successors.starts.numpy().tobytes()))


KINDS = {
    "layer": Kind(_new_layer, DraftStep, save_draft, lambda head: head.token_id_remap.tolist(),
                  lambda head: {"draft_vocab_size": len(head.token_id_remap)}),
    "recurrent": Kind(_new_recurrent, RecurrentStep, save_recurrent, _checksum,
                      lambda head: {"successor_pairs": len(head.successors.tokens), "most_successors": head.successors.most}),
}
