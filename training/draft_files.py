"""Files of EAGLE-style draft heads, in the published layout; draft.py says what they compute.

A head is a directory with config.json (num_hidden_layers, intermediate_size, num_attention_heads,
num_key_value_heads, head_dim) and model.safetensors or pytorch_model.bin:

    fc.weight [D, 2D]  fc.bias [D]  input_norm1.weight [D]  input_norm2.weight [D]  token_id_remap [W] int32
    layers.i.self_attn.{q,k,v,o}_proj.weight  layers.i.post_attention_layernorm.weight
    layers.i.mlp.{gate,up,down}_proj.weight  and, for i > 0, layers.i.input_layernorm.weight

Heads written here also name their target (target_fingerprint, tokenizer_sha256), and are refused for
another one; a published head without these keys is judged by its shapes.

Axes    D hidden, W draft vocabulary.
Errors  ValueError, one for everything that is wrong with a head; it names the fix.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.config import ModelConfig, require
from training.draft import REMAP, DraftConfig, DraftHead
from training.files import save_tensors
from training.weightfiles import DTYPES, stored_tensors

ARCHITECTURE = "BlockFFNDraftHead"
_REMAP_DTYPES = ("I32", "I64", "torch.int32", "torch.int64")
_FINGERPRINT_ROWS = 64


def fingerprint(tensors: Mapping[str, Tensor], config: ModelConfig) -> int:
    """63 bits that tell one trained target from another: of its sizes, its final norm and some rows of its
    embedding, rounded to bfloat16, so that a checkpoint keeps it in any layout and precision down to that."""
    embedding = tensors["model.embed_tokens.weight"]
    rows = torch.linspace(0, config.vocab_size - 1, min(_FINGERPRINT_ROWS, config.vocab_size)).long()
    digest = hashlib.sha256(json.dumps([config.vocab_size, config.hidden_size, config.num_hidden_layers]).encode())
    for tensor in (tensors["model.norm.weight"], embedding[rows]):
        digest.update(tensor.detach().cpu().to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return int.from_bytes(digest.digest()[:8], "little") >> 1


def tokenizer_sha256(checkpoint) -> str | None:
    """Of the tokenizer file in a checkpoint, None without one."""
    for name in ("tokenizer.json", "tokenizer.model"):
        if (checkpoint.path / name).is_file():
            return hashlib.sha256((checkpoint.path / name).read_bytes()).hexdigest()
    return None


def tokenizer_fingerprint(checkpoint) -> int:
    """63 bits of tokenizer_sha256; 0 without a tokenizer. Two models with the same one can draft for each other."""
    digest = tokenizer_sha256(checkpoint) if getattr(checkpoint, "path", None) is not None else None
    return int(digest[:16], 16) >> 1 if digest else 0


@dataclass
class Draft:
    """An opened head; tensors are views of mapped files, except token_id_remap (int32, checked)."""

    path: Path
    config: DraftConfig
    tensors: dict[str, Tensor]

    @property
    def token_id_remap(self) -> Tensor:
        return self.tensors[REMAP]

    def module(self, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> DraftHead:
        with torch.device("meta"):
            head = DraftHead(self.config, self.token_id_remap)
        state = {name: tensor.to(device=device, dtype=torch.int32 if name == REMAP else dtype)
                 for name, tensor in self.tensors.items()}
        head.load_state_dict(state, assign=True)
        return head.requires_grad_(False).eval()


def is_draft(directory: str | os.PathLike) -> bool:
    """Whether a directory's config.json is that of a head rather than of a language model."""
    try:
        values = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "intermediate_size" in values and (
        values.get("architectures") == [ARCHITECTURE] or "vocab_size" not in values)


def open_draft(directory: str | os.PathLike, target) -> Draft:
    """Read and check a head for `target`, an opened checkpoint.

    Raises ValueError that lists everything missing, unexpected, misshapen, or of another target.
    """
    directory = Path(directory)
    require(directory.is_dir(), f"{directory}: not a directory; name one with config.json and model.safetensors")
    path = directory / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        require(isinstance(values, dict), "expected a JSON object")
        config = DraftConfig.from_dict(values, target.config)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; name the directory of a draft head") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    _check_target(directory, values, target)

    stored = {name: (shape, dtype, source) for name, shape, dtype, source in stored_tensors(directory)}
    remap_shape = stored.get(REMAP, ((0,),))[0]
    expected = config.expected_shapes(remap_shape[0] if len(remap_shape) == 1 else 0)
    problems = [f"missing:    {name} {list(expected[name])}" for name in expected if name not in stored]
    for name, (shape, dtype, _) in stored.items():
        if name not in expected:
            problems.append(f"unexpected: {name} {list(shape)}")
        elif shape != expected[name]:
            problems.append(f"misshapen:  {name} is {list(shape)}, config.json and the target imply "
                            f"{list(expected[name])}")
        elif name != REMAP and dtype not in DTYPES.values():
            problems.append(f"wrong type: {name} is {dtype}, supported are bfloat16, float16 and float32")
    if problems:
        raise ValueError(f"{directory}: not a draft head for {target.path}, whose hidden size is "
                         f"{config.hidden_size}:\n  " + "\n  ".join(sorted(problems))
                         + "\nFix: name the target that the head was trained for, or download the head again.")
    tensors = {name: stored[name][2].load(name) for name in expected}
    tensors[REMAP] = _checked_remap(directory, tensors[REMAP], stored[REMAP][1], config.vocab_size)
    return Draft(directory, config, tensors)


def _check_target(directory: Path, values: dict, target) -> None:
    """ValueError if the head says that it belongs to another target."""
    config = target.config
    for key in ("hidden_size", "vocab_size"):
        require(values.get(key) in (None, getattr(config, key)),
                f"{directory}: this head is for a target of {key} {values.get(key)}, {target.path} has "
                f"{getattr(config, key)}; name the target that it was trained for")
    wanted, ours = values.get("tokenizer_sha256"), tokenizer_sha256(target)
    require(None in (wanted, ours) or wanted == ours,
            f"{directory}: this head was trained with another tokenizer than that of {target.path}; name the target "
            "that it was trained for")
    wanted = values.get("target_fingerprint")
    require(wanted is None or wanted == fingerprint(target.tensors, config),
            f"{directory}: this head was trained for another target than {target.path} (their fingerprints differ); "
            "name its own, or train a head for this one")


def _checked_remap(directory: Path, remap: Tensor, dtype: object, vocab_size: int) -> Tensor:
    require(str(dtype) in _REMAP_DTYPES, f"{directory}: {REMAP} is {dtype}, expected int32")
    require(remap.numel() > 0, f"{directory}: {REMAP} is empty; download the head again")
    low, high = int(remap.min()), int(remap.max())
    require(0 <= low and high < vocab_size,
            f"{directory}: {REMAP} names token {low if low < 0 else high}, the target's vocabulary has {vocab_size}; "
            "name the target that it was trained for")
    values, counts = remap.unique(return_counts=True)
    require(bool((counts == 1).all()), f"{directory}: {REMAP} names token {int(values[counts.argmax()])} twice; "
            "download the head again")
    return remap.to(torch.int32)


def save_draft(directory: str | os.PathLike, head: DraftHead, target, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write a head that `open_draft` reads for `target`, an opened checkpoint; whole or not at all."""
    directory, config = Path(directory), head.config
    known = {"config.json", "model.safetensors"}
    foreign = [] if not directory.exists() else (
        sorted(p.name for p in directory.iterdir() if p.name not in known) if directory.is_dir() else ["a file"])
    require(not foreign, f"{directory} holds {', '.join(foreign)}, not only a draft head: choose another directory")
    values = {"architectures": [ARCHITECTURE], **config.sizes(), "hidden_size": config.hidden_size,
              "vocab_size": config.vocab_size, "draft_vocab_size": len(head.token_id_remap),
              "target_fingerprint": fingerprint(target.tensors, target.config),
              "tokenizer_sha256": tokenizer_sha256(target), "torch_dtype": str(dtype).removeprefix("torch.")}
    part, old = (directory.with_name(directory.name + suffix) for suffix in (".part", ".old.part"))
    for stale in (part, old):
        shutil.rmtree(stale, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        tensors = {name: tensor.detach().cpu().to(torch.int32 if name == REMAP else dtype).contiguous()
                   for name, tensor in head.state_dict().items()}
        save_tensors(tensors, part / "model.safetensors", metadata={"format": "pt"})
        (part / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        shutil.copymode(part / "config.json", part / "model.safetensors")
        if directory.exists():
            os.rename(directory, old)
        os.rename(part, directory)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return directory
