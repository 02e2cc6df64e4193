"""Files of recurrent draft heads; recurrent.py says what they compute.

A head is a directory with config.json (architectures ["BlockFFNRecurrentHead"], state_size, inner_size, and the keys by
which every head written here names its target) and model.safetensors:

    input_norm.weight [D]  hidden_in.weight [R, D]  token_in.weight [2 M, D]  cell_in.weight [2 M, R]  cell_out.weight [R, M]
    token_out.weight [R, D]  none [R]     bfloat16, float16 or float32
    successor_counts [V] int32            how many successors each token has
    successors [N] uint16 or int32        those of token 0, then those of token 1, ...; the likeliest of each first

Axes    D hidden, R state, M inner, V vocabulary, N successors of all tokens.
Errors  ValueError, one for everything that is wrong with a head; it names the fix.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.config import require
from training.draft_files import check_target, write_head
from training.recurrent import RECURRENT_SIZES, RecurrentConfig, RecurrentHead, Successors
from training.weightfiles import DTYPES, stored_tensors

RECURRENT_ARCHITECTURE = "BlockFFNRecurrentHead"
COUNTS, SUCCESSORS = "successor_counts", "successors"
SMALL_VOCABULARY = 1 << 16  # whose tokens are stored in 16 bits


@dataclass
class RecurrentDraft:
    """An opened head; tensors are views of mapped files, the successors are checked."""

    path: Path
    config: RecurrentConfig
    tensors: dict[str, Tensor]
    successors: Successors

    def module(self, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> RecurrentHead:
        with torch.device("meta"):
            head = RecurrentHead(self.config, self.successors)
        head.load_state_dict({name: tensor.to(device=device, dtype=dtype) for name, tensor in self.tensors.items()}, assign=True)
        return head.requires_grad_(False).eval()


def is_recurrent(directory: str | os.PathLike) -> bool:
    """Whether a directory's config.json is that of a recurrent head."""
    try:
        values = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("architectures") == [RECURRENT_ARCHITECTURE]


def open_recurrent(directory: str | os.PathLike, target) -> RecurrentDraft:
    """Read and check a head for `target`, an opened checkpoint; ValueError lists everything that is wrong with it."""
    directory = Path(directory)
    path = directory / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in RECURRENT_SIZES if key not in values]
        require(not missing, f"{', '.join(missing)} missing: this is not the config.json of a recurrent head")
        config = RecurrentConfig(target.config, **{key: values[key] for key in RECURRENT_SIZES})
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}; name the directory of a draft head") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    check_target(directory, values, target)
    stored = {name: (shape, dtype, source) for name, shape, dtype, source in stored_tensors(directory)}
    expected = config.expected_shapes()
    integers = {COUNTS: ("I32",), SUCCESSORS: ("U16", "I32")}
    problems = [f"missing:    {name}" for name in (*expected, *integers) if name not in stored]
    for name, (shape, dtype, _) in stored.items():
        if name in integers:
            if str(dtype) not in integers[name] or len(shape) != 1:
                problems.append(f"wrong type: {name} is {dtype} {list(shape)}, expected {' or '.join(integers[name])} in one row")
        elif name not in expected:
            problems.append(f"unexpected: {name} {list(shape)}")
        elif shape != expected[name]:
            problems.append(f"misshapen:  {name} is {list(shape)}, config.json and the target imply {list(expected[name])}")
        elif dtype not in DTYPES.values():
            problems.append(f"wrong type: {name} is {dtype}, supported are bfloat16, float16 and float32")
    if problems:
        raise ValueError(f"{directory}: not a recurrent head for {target.path}:\n  " + "\n  ".join(sorted(problems))
                         + "\nFix: name the target that the head was trained for, or download the head again.")
    successors = _checked_successors(directory, stored[COUNTS][2].load(COUNTS), stored[SUCCESSORS][2].load(SUCCESSORS),
                                     target.config.vocab_size)
    return RecurrentDraft(directory, config, {name: stored[name][2].load(name) for name in expected}, successors)


def _checked_successors(directory: Path, counts: Tensor, tokens: Tensor, vocab_size: int) -> Successors:
    counts, tokens = counts.long(), tokens.to(torch.int32).long()
    require(len(counts) == vocab_size and int(counts.min()) >= 0 and int(counts.sum()) == len(tokens) > 0,
            f"{directory}: {COUNTS} does not say how {SUCCESSORS} belong to {vocab_size} tokens; download the head again")
    require(0 <= int(tokens.min()) and int(tokens.max()) < vocab_size,
            f"{directory}: {SUCCESSORS} names a token that the target's vocabulary of {vocab_size} lacks; name the target that "
            "it was trained for")
    pairs = torch.repeat_interleave(torch.arange(vocab_size), counts) * vocab_size + tokens
    require(len(pairs.unique()) == len(pairs), f"{directory}: {SUCCESSORS} names a successor twice; download the head again")
    return Successors(torch.cat((torch.zeros(1, dtype=torch.long), counts.cumsum(0))), tokens)


def save_recurrent(directory: str | os.PathLike, head: RecurrentHead, target, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write a head that `open_recurrent` reads for `target`, an opened checkpoint; whole or not at all."""
    tensors = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in head.state_dict().items()}
    small = target.config.vocab_size <= SMALL_VOCABULARY
    tensors[COUNTS] = head.successors.starts.diff().to(torch.int32)
    tensors[SUCCESSORS] = head.successors.tokens.to(torch.int32).to(torch.uint16 if small else torch.int32)
    values = {"architectures": [RECURRENT_ARCHITECTURE], **head.config.sizes(), "torch_dtype": str(dtype).removeprefix("torch.")}
    return write_head(directory, values, tensors, target)
