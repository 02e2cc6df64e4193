"""Settings of one training run: a YAML file of flat keys plus a nested `model:` section.

`--set key=value` (or `model.key=value`) overrides one key.

Units   *_tokens counts tokens, *_steps optimizer steps, *_fraction is in [0, 1].
Errors  ValueError names the key, the value and the fix; an unknown key names the nearest valid one.
"""

from __future__ import annotations

import os
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

from training.config import ModelConfig, check_known, coerce, require


def read_yaml(path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = ()) -> dict:
    """The mapping in a YAML file after `key=value` overrides (values are parsed as YAML)."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; training/configs/ holds examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); name a YAML file, training/configs/ holds examples") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({error})") from None
    require(isinstance(values, dict), f"{path}: expected `key: value` lines")
    for item in overrides:
        key, separator, text = item.partition("=")
        require(bool(separator), f"--set {item}: write it as key=value")
        target = values
        if key.startswith("model."):
            target, key = values.setdefault("model", {}), key[len("model."):]
        require(isinstance(target, dict), "model: expected a section of `key: value` lines")
        try:
            target[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"--set {item}: the value is not valid YAML; quote it, as in --set '{key}=\"...\"'") from None
    return values


def uses_bf16(precision: str, device_type: str) -> bool:
    """Few CPUs multiply bfloat16 faster than float32; many emulate it, some 20 times slower."""
    return precision == "bf16" or (precision == "auto" and device_type == "cuda")


@dataclass
class TrainConfig:
    """Everything one training run needs; the fields are the keys of the YAML file."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: str = ""  # directory written by `python -m training.data prepare`
    out_dir: str = "out/run"
    init_from: str | None = None  # checkpoint directory whose weights the run starts with; its config.json unless `model` is given
    seed: int = 1
    # batch and length of the run
    seq_len: int = 1024
    global_batch_tokens: int = 262_144
    micro_batch_size: int = 64  # sequences a process computes at once
    steps: int = 1000
    # optimizer (AdamW) and its schedule: warm-up, stable, linear decay
    lr: float = 3e-3
    min_lr_ratio: float = 0.0  # last learning rate / peak
    warmup_fraction: float = 0.06
    decay_fraction: float = 0.25
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    # sparsity objectives (see losses.py)
    lambda_al: float = 2e-3
    al_alpha: float = 100.0
    lambda_cs: float = 0.05
    cs_chunk_len: int = 64
    cs_start_step: int = 0  # no chunk loss before this step ...
    cs_ramp_steps: int = 0  # ... then it rises linearly to its factor over so many steps
    cs_adapt_after: int = 1000
    cs_adapt_every: int = 100
    cs_min_growth: float = 1.025
    cs_min_factor: float = 0.25  # bounds of the adapted factor, as multiples of lambda_cs
    cs_max_factor: float = 4.0
    cs_target_cls8: float | None = None  # training-batch targets that steer the factor: see ChunkFactor
    tls_target: float | None = None
    sparsity_margin: float = 0.02  # this far above every target the factor shrinks
    # execution
    device: str = "auto"  # auto | cpu | cuda
    precision: str = "auto"  # bf16: bf16 compute, fp32 master weights and router | fp32 | auto: bf16 on CUDA
    compile: str = "auto"  # auto: true on CUDA | true: the whole model | layers: starts sooner | false
    compile_mode: str = "default"  # torch.compile mode, e.g. max-autotune-no-cudagraphs
    attention_backend: str = "auto"  # auto | cudnn | flash | efficient | math
    activation_checkpointing: bool = False
    parallel: str = "ddp"  # ddp | fsdp
    ce_chunk_tokens: int = 8192  # tokens whose logits exist at once
    # output
    log_every: int = 10
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    divergence_margin: float = 1.5  # nats above the running minimum of the loss ...
    divergence_steps: int = 50  # ... for so many steps in a row stop the run
    final_dtype: str = "bf16"  # bf16 | fp32
    max_shard_bytes: int = 5_000_000_000
    eval_windows: int = 512  # held-out windows evaluated at the end, at most
    tokenizer: str | None = None  # copied into checkpoints; default: the data directory's

    def __post_init__(self) -> None:
        self.validate()

    def uses_bf16(self, device_type: str) -> bool:
        return uses_bf16(self.precision, device_type)

    @property
    def sequences_per_step(self) -> int:
        return self.global_batch_tokens // self.seq_len

    def micro_steps(self, world_size: int) -> int:
        """Micro-batches per process and step; ValueError when the batch does not divide."""
        unit = self.seq_len * self.micro_batch_size * world_size
        require(self.global_batch_tokens % unit == 0,
                 f"global_batch_tokens={self.global_batch_tokens}: make it a multiple of seq_len x "
                 f"micro_batch_size x processes = {unit}, or lower micro_batch_size")
        return self.global_batch_tokens // unit

    def validate(self) -> None:
        for key in ("seq_len", "global_batch_tokens", "micro_batch_size", "steps", "cs_chunk_len", "cs_adapt_every",
                    "ce_chunk_tokens", "log_every", "checkpoint_every", "keep_checkpoints", "divergence_steps",
                    "max_shard_bytes", "eval_windows"):
            require(getattr(self, key) > 0, f"{key}={getattr(self, key)}: set it above 0")
        for key in ("lambda_al", "lambda_cs", "weight_decay", "cs_start_step", "cs_ramp_steps", "cs_adapt_after",
                    "cs_min_factor", "sparsity_margin"):
            require(getattr(self, key) >= 0, f"{key}={getattr(self, key)}: set it to 0 or more")
        for key in ("warmup_fraction", "decay_fraction", "min_lr_ratio"):
            require(0 <= getattr(self, key) <= 1, f"{key}={getattr(self, key)}: set it between 0 and 1")
        require(self.warmup_fraction + self.decay_fraction <= 1,
                 "warmup_fraction + decay_fraction exceed 1: lower one of them")
        for key in ("lr", "grad_clip", "al_alpha", "cs_min_growth", "cs_max_factor", "divergence_margin"):
            require(getattr(self, key) > 0, f"{key}={getattr(self, key)}: set it above 0")
        for key, allowed in (("device", ("auto", "cpu", "cuda")), ("precision", ("auto", "bf16", "fp32")),
                             ("compile", ("auto", "true", "layers", "false")), ("parallel", ("ddp", "fsdp")),
                             ("attention_backend", ("auto", "cudnn", "flash", "efficient", "math")),
                             ("final_dtype", ("bf16", "fp32"))):
            require(getattr(self, key) in allowed, f"{key}={getattr(self, key)!r}: use one of {', '.join(allowed)}")
        require(self.seq_len <= self.model.max_position_embeddings,
                 f"seq_len={self.seq_len}: keep it at or below model.max_position_embeddings="
                 f"{self.model.max_position_embeddings}")
        for key in ("cs_target_cls8", "tls_target"):
            value = getattr(self, key)
            require(value is None or 0 < value < 1, f"{key}={value!r}: set it between 0 and 1, or leave it out")
        require(self.seq_len % self.cs_chunk_len == 0,
                 f"cs_chunk_len={self.cs_chunk_len}: make it a divisor of seq_len={self.seq_len}")
        self.micro_steps(1)

    @classmethod
    def from_yaml(cls, path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = ()) -> TrainConfig:
        """Read a YAML file and apply `key=value` overrides (values are parsed as YAML)."""
        return cls.from_dict(read_yaml(path, overrides))

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        hints = typing.get_type_hints(cls)
        known = {f.name for f in fields(cls)}
        for key in values:
            check_known(key, known)
        model = values.get("model", {})
        require(isinstance(model, dict), "model: expected a section of `key: value` lines")
        for key in model:  # unlike a published config.json, a recipe must not hide a typing error
            check_known(key, {f.name for f in fields(ModelConfig)} - {"extra"}, "model.")
        given = {k: coerce(v, hints[k], k) for k, v in values.items() if k != "model"}
        if given.get("init_from") and not model:
            return cls(model=ModelConfig.from_json(Path(given["init_from"]) / "config.json"), **given)
        return cls(model=ModelConfig.from_dict(model), **given)

    def to_dict(self) -> dict:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"model": self.model.to_dict()}
