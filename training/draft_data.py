"""What a draft head is trained on: the draft vocabulary, texts written by the target, and mixed batches.

Generated texts are kept in OUT_DIR/generated.safetensors, so that a resumed run reads them again: each is the
beginning of a training document continued by the target, up to its end token.

Axes    B windows, S tokens, L tokens of a generated text, W draft vocabulary, V vocabulary.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from training.cached import generate
from training.config import require
from training.dataset import TokenDataset, window_order
from training.draft_config import DraftTrainConfig
from training.files import save_tensors, write_whole
from training.model import CausalLM

GENERATED_FILE = "generated.safetensors"
COUNTED_TOKENS = 100_000_000  # of the text, for the frequencies
GENERATED_SEED = 7919


class DraftBatch(NamedTuple):
    """Micro-batches (ids [B, S] int64, docs [B, S] int32, -1 where padded) of one step, and what counts in them."""

    micro_batches: list[tuple[Tensor, Tensor]]
    count: int  # positions that step 1 of the loss judges


def draft_vocabulary(dataset: TokenDataset, size: int, always: list[int]) -> Tensor:
    """The `size` most frequent tokens of a split and those in `always`, ascending, int32 [W]."""
    require(size <= dataset.vocab_size,
            f"draft_vocab_size={size}: the tokenizer has {dataset.vocab_size} entries, choose at most as many")
    counts, left = np.zeros(dataset.vocab_size, dtype=np.int64), COUNTED_TOKENS
    for shard in dataset.shards():
        counts += np.bincount(shard[:left], minlength=dataset.vocab_size)
        left -= min(left, len(shard))
    counts[always] = np.iinfo(np.int64).max
    chosen = np.argsort(-counts, kind="stable")[:size]
    return torch.from_numpy(np.sort(chosen).astype(np.int32))


def generated_texts(dataset: TokenDataset, target: CausalLM, config: DraftTrainConfig) -> tuple[Tensor, Tensor] | None:
    """(ids [N, L] int32, lengths [N]) of texts that start with generated_prompt tokens of training windows."""
    if not config.generated_tokens:
        return None
    path = Path(config.out_dir) / GENERATED_FILE
    if path.exists():
        stored = load_file(path)
        return stored["ids"], stored["lengths"]
    length, new = config.generated_length, config.generated_length - config.generated_prompt
    count = max(1, -(-config.generated_tokens // length))
    device = target.head_weight.device
    batch = min(count, 4096 if device.type == "cuda" else 32)
    prompts = _prompts(dataset, count, config)
    generator = torch.Generator(device).manual_seed(config.seed)
    ids = torch.zeros(count, length, dtype=torch.int32)
    bar = tqdm(total=count * new, desc="target writes", unit="token",
               unit_scale=True, file=sys.stderr, disable=None)
    with bar:
        for start in range(0, count, batch):
            chosen = prompts[start:start + batch].to(device)
            odd = torch.arange(len(chosen), device=device) % 2
            texts = generate(target, chosen, new, odd * config.generated_temperature, generator, bar.update,
                             keep_hidden=False)[0]
            ids[start:start + batch] = texts.int().cpu()
    lengths = text_lengths(ids, config.generated_prompt, dataset.eos_id)
    write_whole(path, lambda part: save_tensors({"ids": ids, "lengths": lengths}, part))
    return ids, lengths


def _prompts(dataset: TokenDataset, count: int, config: DraftTrainConfig) -> Tensor:
    """[count, P] beginnings of windows that belong to one document; windows are used again where they are few."""
    found, sample = [], 0
    while len(found) < count:
        windows = window_order(len(dataset), config.seed + GENERATED_SEED, sample, count)
        sample += count
        ids, docs = (x[:, :config.generated_prompt] for x in dataset.batch(windows))
        found += list(ids[(docs >= 0).all(1) & (docs[:, 0] == docs[:, -1])])
        require(bool(found) or sample < 10 * len(dataset),
                f"generated_prompt={config.generated_prompt}: no document is that long; lower it")
    return torch.stack(found[:count])


def text_lengths(ids_NS: Tensor, prompt: int, eos_id: int) -> Tensor:
    """Tokens up to the first end token that was generated, it included."""
    ended = (ids_NS[:, prompt:] == eos_id).int()
    first = torch.where(ended.any(1), prompt + ended.argmax(1) + 1, ids_NS.shape[1])
    return first.to(torch.int32)


def draft_batch(dataset: TokenDataset, generated: tuple[Tensor, Tensor] | None, step: int,
                config: DraftTrainConfig, pin: bool) -> DraftBatch:
    """Batch of step `step`, which depends on the seed and the step alone."""
    total = config.sequences_per_step
    written = round(total * config.generated_share) if generated is not None else 0
    order = window_order(len(dataset), config.seed, step * (total - written), total - written)
    ids, docs = dataset.batch(order)
    ids, docs = ids[:, :config.seq_len], docs[:, :config.seq_len]
    if written:
        all_ids, lengths = generated
        per_window = config.seq_len // all_ids.shape[1]
        chosen = torch.from_numpy(window_order(len(all_ids), config.seed + 1, step * written * per_window,
                                               written * per_window))
        inside = torch.arange(all_ids.shape[1])[None] < lengths[chosen][:, None]
        number = (torch.arange(len(chosen)) % per_window)[:, None]
        ids = torch.cat((ids, all_ids[chosen].long().view(written, -1)))
        docs = torch.cat((docs, torch.where(inside, number, -1).int().view(written, -1)))
    micro, count = [], 0
    for start in range(0, total, config.micro_batch_size):
        pair = tuple(x[start:start + config.micro_batch_size].contiguous() for x in (ids, docs))
        same = (pair[1][:, 1:] == pair[1][:, :-1]) & (pair[1][:, 1:] >= 0)
        count += int(same.sum())
        micro.append(tuple(x.pin_memory() for x in pair) if pin else pair)
    return DraftBatch(micro, count)
