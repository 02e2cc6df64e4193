"""Checkpoint directories: read any published layout, write our own.

The only place that translates foreign names.  A checkpoint is a directory with `config.json`,
weights (`model.safetensors`, or `pytorch_model.bin` read with weights_only, one file or shards
with an index) and tokenizer files.  Consumers see one set of names, the published ones, and the
experts of a layer always as `mlp.up_proj` [E, F, D] and `mlp.down_proj` [E, D, F]:

    stored as             up_proj                                down_proj
    block_linear          mlp.up_proj [E*F, D]                   mlp.down_proj [D, E*F]
    block                 mlp.up_proj [E, F, D]                  mlp.down_proj [E, D, F]
    fastmoe               mlp.experts.up_proj.weight [E, F, D]   mlp.experts.down_proj.weight [E, D, F]
    megablocks            mlp.mlp.up_proj [E*F, D]               mlp.mlp.down_proj [E*F, D]

Tensors are views of the memory-mapped files: opening a checkpoint reads headers only, and a
weight is paged in when it is used.  Do not write into them.

Axes    E experts, F expert width, D hidden, V vocabulary.
Errors  ValueError, one for everything that is wrong with a checkpoint; it names the fix.
Source  BlockFFN, arXiv:2507.08771 and its published checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from training.config import ModelConfig
from training.files import save_tensors
from training.weightfiles import DTYPES, SINGLE_FILES, PickleFile, SafetensorsFile, stored_tensors

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
                   "added_tokens.json", "chat_template.jinja", "vocab.json", "merges.txt")
# Buffers that some writers store although they follow from config.json.
_HARMLESS = re.compile(r"rotary_emb\.(inv_freq|cos_cached|sin_cached)$")
_EXPERTS = re.compile(r"(model\.layers\.\d+\.mlp\.)(experts\.|mlp\.)?(up|down)_proj(?:\.weight)?$")


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of every tensor that a model of this configuration has."""
    D, V, H = config.hidden_size, config.vocab_size, config.num_attention_heads
    if config.attention_type == "mla":
        q_rank, kv_rank = config.q_lora_rank, config.kv_lora_rank
        attention = {"q_a_proj": (q_rank, D), "q_a_layernorm": (q_rank,), "q_b_proj": (H * config.qk_head_dim, q_rank),
                     "kv_a_proj_with_mqa": (kv_rank + config.qk_rope_head_dim, D), "kv_a_layernorm": (kv_rank,),
                     "kv_b_proj": (H * (config.qk_nope_head_dim + config.v_head_dim), kv_rank)}
    else:
        kv_dim = config.num_key_value_heads * config.v_head_dim
        attention = {"q_proj": (D, D), "k_proj": (kv_dim, D), "v_proj": (kv_dim, D)}
    layer = {f"self_attn.{name}.weight": shape for name, shape in attention.items()}
    layer |= {"self_attn.o_proj.weight": (D, H * config.v_head_dim),
              "input_layernorm.weight": (D,), "post_attention_layernorm.weight": (D,)}
    if config.is_block_ffn:
        E, F = config.num_experts, config.expert_size
        layer |= {"mlp.router_proj.weight": (E, D), "mlp.up_proj": (E, F, D), "mlp.down_proj": (E, D, F)}
        if config.norm_after_router == "rms":
            layer["mlp.router_norm.weight"] = (E,)
    else:
        width = config.intermediate_size
        layer |= {"mlp.gate_proj.weight": (width, D), "mlp.up_proj.weight": (width, D),
                  "mlp.down_proj.weight": (D, width)}
    shapes = {"model.embed_tokens.weight": (V, D)}
    for i in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (D,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (V, D)
    return shapes


# ---- expert layouts: "block" is canonical ----

def _stored_shape(side: str, layout: str, shape_E3: tuple[int, ...]) -> tuple[int, ...]:
    E, rows, columns = shape_E3
    if layout == "block":
        return shape_E3
    if side == "up":
        return (E * rows, columns)
    return (rows, E * columns) if layout == "block_linear" else (E * columns, rows)


def _to_block(tensor: Tensor, side: str, layout: str, num_experts: int) -> Tensor:
    if layout == "block":
        return tensor
    if side == "up":
        return tensor.unflatten(0, (num_experts, -1))
    if layout == "block_linear":
        return tensor.unflatten(1, (num_experts, -1)).transpose(0, 1)
    return tensor.unflatten(0, (num_experts, -1)).transpose(1, 2)


def _from_block(tensor: Tensor, side: str, ffn_type: str) -> Tensor:
    """The layout of config.ffn_type; a view wherever the strides allow one."""
    if ffn_type == "block":
        return tensor
    return tensor.flatten(0, 1) if side == "up" else tensor.transpose(0, 1).flatten(1)


@dataclasses.dataclass
class _Stored:
    """One tensor as a file holds it."""

    name: str
    shape: tuple[int, ...]
    dtype: object  # torch.dtype, or the file's spelling of one that is not supported
    source: SafetensorsFile | PickleFile
    side: str | None = None  # "up" or "down" of experts
    layout: str | None = None


def _translate(name: str, ndim: int, config: ModelConfig) -> tuple[str, str | None, str | None]:
    """(canonical name, side, layout) of a stored name."""
    match = _EXPERTS.match(name)
    if not match or not config.is_block_ffn:
        return name, None, None
    prefix, spelling, side = match.groups()
    layout = {None: "block" if ndim == 3 else "block_linear", "experts.": "block", "mlp.": "megablocks"}[spelling]
    return f"{prefix}{side}_proj", side, layout


# ---- reading ----

class _Tensors(Mapping):
    """Canonical name -> tensor, loaded on access."""

    def __init__(self, stored: dict[str, _Stored], num_experts: int | None):
        self._stored, self._num_experts = stored, num_experts

    def __getitem__(self, name: str) -> Tensor:
        entry = self._stored[name]
        tensor = entry.source.load(entry.name)
        return tensor if entry.side is None else _to_block(tensor, entry.side, entry.layout, self._num_experts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


@dataclasses.dataclass
class Checkpoint:
    """An opened checkpoint; see `open_checkpoint`."""

    path: Path
    config: ModelConfig
    tensors: Mapping[str, Tensor]  # canonical names, experts as [E, F, D] and [E, D, F]

    @property
    def tokenizer_dir(self) -> Path | None:
        """This directory when it holds a tokenizer, else None."""
        has_one = any((self.path / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
        return self.path if has_one else None

    def state_dict(self, ffn_type: str | None = None) -> dict[str, Tensor]:
        """All tensors, experts in the layout of `ffn_type` (default: the configuration's own)."""
        return {name: _expert_layout(name, tensor, self.config, ffn_type or self.config.ffn_type)
                for name, tensor in self.tensors.items()}


def _expert_layout(name: str, tensor: Tensor, config: ModelConfig, ffn_type: str) -> Tensor:
    """`tensor` of a canonical name, from [E, ., .] or block_linear into the layout of ffn_type."""
    name, side, layout = _translate(name, tensor.ndim, config)
    if side is None or layout == ffn_type:
        return tensor
    return _from_block(_to_block(tensor, side, layout, config.num_experts), side, ffn_type)


def open_checkpoint(directory: str | os.PathLike) -> Checkpoint:
    """Read config.json and the headers of the weights; check every name, shape and dtype.

    Raises ValueError that lists everything missing, unexpected, misshapen or of a wrong type.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory}: not a directory; name a checkpoint directory with config.json and weights")
    config = ModelConfig.from_json(directory)
    expected, stored, problems = expected_shapes(config), {}, []
    for name, shape, dtype, source in stored_tensors(directory):
        canonical, side, layout = _translate(name, len(shape), config)
        if canonical in stored:
            problems.append(f"twice:      {canonical} as {stored[canonical].name} and {name}")
        elif canonical in expected:
            stored[canonical] = _Stored(name, shape, dtype, source, side, layout)
            want = expected[canonical] if side is None else _stored_shape(side, layout, expected[canonical])
            if shape != want:
                problems.append(f"misshapen:  {name} is {list(shape)}, config.json implies {list(want)}")
            if dtype not in DTYPES.values():
                problems.append(f"wrong type: {name} is {dtype}, supported are bfloat16, float16 and float32")
        elif canonical != "lm_head.weight" and not _HARMLESS.search(name):  # a tied head may be stored as well
            problems.append(f"unexpected: {name} {list(shape)}")
    problems += [f"missing:    {name} {list(expected[name])}" for name in expected if name not in stored]
    if problems:
        raise ValueError(f"{directory}: the weights do not fit config.json:\n  " + "\n  ".join(sorted(problems))
                         + "\nFix: correct config.json (ffn_type, attention_type, norm_after_router, "
                         "tie_word_embeddings and the sizes decide which tensors there are), or download the "
                         "weights that belong to it.")
    return Checkpoint(directory, config, _Tensors({name: stored[name] for name in expected}, config.num_experts))


# ---- writing ----

def _shards(shapes: Mapping[str, tuple[int, ...]], itemsize: int, limit: float) -> list[list[str]]:
    """Names in order, cut where a shard would exceed `limit` bytes."""
    shards, size = [[]], 0
    for name, shape in shapes.items():
        tensor_bytes = torch.Size(shape).numel() * itemsize
        if shards[-1] and size + tensor_bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor_bytes
    return shards


def _owned(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """On the CPU, contiguous, and not a window into a larger storage (safetensors refuses those)."""
    tensor = tensor.detach().to("cpu", dtype).contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


def save_checkpoint(directory: str | os.PathLike, config: ModelConfig, tensors: Mapping[str, Tensor],
                    dtype: torch.dtype = torch.bfloat16, tokenizer_dir: str | os.PathLike | None = None,
                    max_shard_bytes: float = 5e9) -> Path:
    """Write a checkpoint that `open_checkpoint` and the published code load; returns its path.

    `tensors` has canonical names; experts in either layout, they are written in that of
    config.ffn_type.  One shard is held in memory at a time.  The directory appears whole or not at
    all (`.part`, then a rename).  An older checkpoint of that name is replaced, but ValueError is
    raised when the directory holds anything that this function would not have written.
    """
    directory = Path(directory)
    expected = expected_shapes(config)
    wrong = [f"missing {name}" for name in expected if name not in tensors]
    wrong += [f"unexpected {name}" for name in tensors
              if name not in expected and not (name == "lm_head.weight" and config.tie_word_embeddings)]
    if dtype not in DTYPES.values():
        wrong.append(f"dtype {dtype}: use bfloat16, float16 or float32")
    if directory.exists():
        foreign = sorted(p.name for p in directory.iterdir() if not _is_ours(p)) if directory.is_dir() else ["a file"]
        if foreign:
            wrong.append(f"the target holds {', '.join(foreign)}, not only a checkpoint: choose another directory")
    if wrong:
        raise ValueError(f"{directory}: not written:\n  " + "\n  ".join(wrong))

    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write_weights(part, config, tensors, expected, dtype, max_shard_bytes)
        dataclasses.replace(config, torch_dtype=str(dtype).removeprefix("torch.")).to_json(part / "config.json")
        for weights in part.glob("*.safetensors"):  # the library makes them readable by their owner only
            shutil.copymode(part / "config.json", weights)
        _write_json(part / "generation_config.json",
                    {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id})
        if tokenizer_dir is not None:
            for name in TOKENIZER_FILES:
                if (Path(tokenizer_dir) / name).is_file():
                    shutil.copyfile(Path(tokenizer_dir) / name, part / name)
        if directory.exists():
            old = directory.with_name(directory.name + ".old.part")
            shutil.rmtree(old, ignore_errors=True)
            os.rename(directory, old)
            os.rename(part, directory)
            shutil.rmtree(old)
        else:
            os.rename(part, directory)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return directory


def _is_ours(path: Path) -> bool:
    names = (*SINGLE_FILES[:1], "model.safetensors.index.json", "config.json", "generation_config.json")
    return path.is_file() and (path.name in names + TOKENIZER_FILES
                               or re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors", path.name) is not None)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _write_weights(part: Path, config: ModelConfig, tensors: Mapping[str, Tensor],
                   expected: dict[str, tuple[int, ...]], dtype: torch.dtype, max_shard_bytes: float) -> None:
    shards = _shards(expected, dtype.itemsize, max_shard_bytes)
    weight_map, total = {}, 0
    for number, names in enumerate(shards, start=1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        values = {}
        for name in names:
            tensor = _expert_layout(name, tensors[name], config, config.ffn_type)
            _, side, layout = _translate(name, tensor.ndim, config)
            want = expected[name] if side is None else _stored_shape(side, layout, expected[name])
            if tuple(tensor.shape) != want:
                raise ValueError(f"{name} is {list(tensor.shape)}, the configuration implies {list(want)}")
            values[name] = _owned(tensor, dtype)
            total += values[name].nbytes
            weight_map[name] = file
        save_tensors(values, part / file, metadata={"format": "pt"})
    if len(shards) > 1:
        _write_json(part / "model.safetensors.index.json",
                    {"metadata": {"total_size": total}, "weight_map": weight_map})
