"""Model and training settings.

`ModelConfig` holds the keys of a published BlockFFN `config.json` under their published names, so
that a checkpoint written here loads wherever a published one does.  Keys that this package does
not know are kept, ignored and written back.  `TrainConfig` is one YAML file: flat keys plus a
nested `model:` section; `--set key=value` (or `model.key=value`) overrides one of them.

Units   *_tokens counts tokens, *_steps optimizer steps, *_fraction is in [0, 1].
Errors  ValueError names the key, the value and the fix; an unknown training key names the nearest
        valid one.
Source  BlockFFN, arXiv:2507.08771; config.json of the published checkpoints.
"""

from __future__ import annotations

import difflib
import json
import os
import types
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

ATTENTION_TYPES = ("mla", "vanilla")
FFN_TYPES = ("block_linear", "block", "vanilla")
ROUTER_NORMS = ("rms", "sum", "none")
ROPE_SCALING_TYPES = ("linear", "dynamic")


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclass
class ModelConfig:
    """Architecture of one checkpoint; every field but `extra` is a key of config.json."""

    architectures: list = field(default_factory=lambda: ["MiniCPMForCausalLM"])
    model_type: str = "minicpm"
    vocab_size: int = 8192
    hidden_size: int = 384
    num_hidden_layers: int = 8
    max_position_embeddings: int = 4096
    # attention
    attention_type: str = "mla"
    num_attention_heads: int = 6
    num_key_value_heads: int | None = None  # None: as many as attention heads; unused by MLA
    q_lora_rank: int | None = 192
    kv_lora_rank: int | None = 128
    qk_nope_head_dim: int | None = 32
    qk_rope_head_dim: int | None = 32
    attention_bias: bool = False
    rope_theta: float = 10000.0
    rope_scaling: dict | None = None
    # feed-forward
    ffn_type: str = "block_linear"
    num_experts: int | None = 40
    expert_size: int | None = 64
    intermediate_size: int | None = None  # width of the dense ("vanilla") feed-forward
    hidden_act: str = "silu"
    router_act: str = "relu"
    norm_after_router: str = "rms"
    norm_scale: float = 1.0
    # scaling, norms, embeddings
    rms_norm_eps: float = 1e-5
    scale_emb: float = 12.0
    scale_depth: float = 1.4
    dim_model_base: int = 256
    tie_word_embeddings: bool = True
    initializer_range: float = 0.1
    bos_token_id: int | None = 1
    eos_token_id: Any = 2  # int, or a list of ints as some chat checkpoints have
    torch_dtype: str = "bfloat16"
    extra: dict = field(default_factory=dict)  # unknown keys of config.json, written back as read

    def __post_init__(self) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        self.validate()

    # ---- derived sizes ----
    @property
    def is_block_ffn(self) -> bool:
        return self.ffn_type != "vanilla"

    @property
    def v_head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def qk_head_dim(self) -> int:
        """Width of one query or key head."""
        if self.attention_type == "mla":
            return self.qk_nope_head_dim + self.qk_rope_head_dim
        return self.v_head_dim

    @property
    def rope_dim(self) -> int:
        return self.qk_rope_head_dim if self.attention_type == "mla" else self.v_head_dim

    @property
    def eos_ids(self) -> list[int]:
        if self.eos_token_id is None:
            return []
        return list(self.eos_token_id) if isinstance(self.eos_token_id, list) else [self.eos_token_id]

    def validate(self) -> None:
        positive = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                    "num_key_value_heads", "max_position_embeddings", "dim_model_base"]
        if self.attention_type == "mla":
            positive += ["q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim"]
        positive += ["num_experts", "expert_size"] if self.is_block_ffn else ["intermediate_size"]
        for key in positive:
            value = getattr(self, key)
            _require(isinstance(value, int) and not isinstance(value, bool) and value > 0,
                     f"{key}={value!r}: set it to an integer above 0")
        for key in ("rope_theta", "rms_norm_eps", "scale_emb", "scale_depth", "norm_scale",
                    "initializer_range"):
            value = getattr(self, key)
            _require(isinstance(value, (int, float)) and value > 0, f"{key}={value!r}: set it to a number above 0")
        for key, allowed in (("attention_type", ATTENTION_TYPES), ("ffn_type", FFN_TYPES),
                             ("norm_after_router", ROUTER_NORMS), ("hidden_act", ("silu",)),
                             ("router_act", ("relu",))):
            _require(getattr(self, key) in allowed,
                     f"{key}={getattr(self, key)!r}: use one of {', '.join(allowed)}")
        _require(not self.attention_bias, "attention_bias=true: only false is implemented, as published")
        _require(self.hidden_size % self.num_attention_heads == 0,
                 f"hidden_size={self.hidden_size}: make it a multiple of num_attention_heads="
                 f"{self.num_attention_heads}")
        _require(self.num_attention_heads % self.num_key_value_heads == 0,
                 f"num_key_value_heads={self.num_key_value_heads}: make it a divisor of "
                 f"num_attention_heads={self.num_attention_heads}")
        key = "qk_rope_head_dim" if self.attention_type == "mla" else "hidden_size/num_attention_heads"
        _require(self.rope_dim % 2 == 0, f"{key}={self.rope_dim}: make it even, RoPE rotates pairs")
        if self.rope_scaling is not None:
            kind = self.rope_scaling.get("type", self.rope_scaling.get("rope_type"))
            factor = self.rope_scaling.get("factor")
            _require(kind in ROPE_SCALING_TYPES,
                     f"rope_scaling.type={kind!r}: use one of {', '.join(ROPE_SCALING_TYPES)}")
            _require(isinstance(factor, (int, float)) and factor >= 1,
                     f"rope_scaling.factor={factor!r}: set it to a number of at least 1")
            _require(kind != "dynamic" or self.rope_dim > 2, "rope_scaling.type=dynamic: needs a RoPE width above 2")
        for token in self.eos_ids + ([self.bos_token_id] if self.bos_token_id is not None else []):
            _require(isinstance(token, int) and 0 <= token < self.vocab_size,
                     f"bos/eos_token_id={token!r}: choose an id below vocab_size={self.vocab_size}")

    # ---- files ----
    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        hints = typing.get_type_hints(cls)
        known = {f.name for f in fields(cls)} - {"extra"}
        kept = {k: v for k, v in values.items() if k not in known}
        given = {k: _coerce(v, hints[k], k) for k, v in values.items() if k in known and v is not None}
        # An explicit null means "absent" for sizes, but is a value of its own for these keys.
        given |= {k: None for k in ("rope_scaling", "bos_token_id", "eos_token_id") if values.get(k, 0) is None}
        return cls(**given, extra=kept)

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> ModelConfig:
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file; name a checkpoint directory or its config.json") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from None
        _require(isinstance(values, dict), f"{path}: expected a JSON object")
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_dict(self) -> dict:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return values | self.extra

    def to_json(self, path: str | os.PathLike) -> None:
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


@dataclass
class TrainConfig:
    """Everything one training run needs; the fields are the keys of the YAML file."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: str = ""  # directory written by `python -m training.data prepare`
    out_dir: str = "out/run"
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
    precision: str = "bf16"  # bf16: bf16 compute, fp32 master weights and router | fp32
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

    @property
    def sequences_per_step(self) -> int:
        return self.global_batch_tokens // self.seq_len

    def micro_steps(self, world_size: int) -> int:
        """Micro-batches per process and step; ValueError when the batch does not divide."""
        unit = self.seq_len * self.micro_batch_size * world_size
        _require(self.global_batch_tokens % unit == 0,
                 f"global_batch_tokens={self.global_batch_tokens}: make it a multiple of seq_len x "
                 f"micro_batch_size x processes = {unit}, or lower micro_batch_size")
        return self.global_batch_tokens // unit

    def validate(self) -> None:
        for key in ("seq_len", "global_batch_tokens", "micro_batch_size", "steps", "cs_chunk_len", "cs_adapt_every",
                    "ce_chunk_tokens", "log_every", "checkpoint_every", "keep_checkpoints", "divergence_steps",
                    "max_shard_bytes", "eval_windows"):
            _require(getattr(self, key) > 0, f"{key}={getattr(self, key)}: set it above 0")
        for key in ("lambda_al", "lambda_cs", "weight_decay", "cs_start_step", "cs_ramp_steps", "cs_adapt_after",
                    "cs_min_factor", "sparsity_margin"):
            _require(getattr(self, key) >= 0, f"{key}={getattr(self, key)}: set it to 0 or more")
        for key in ("warmup_fraction", "decay_fraction", "min_lr_ratio"):
            _require(0 <= getattr(self, key) <= 1, f"{key}={getattr(self, key)}: set it between 0 and 1")
        _require(self.warmup_fraction + self.decay_fraction <= 1,
                 "warmup_fraction + decay_fraction exceed 1: lower one of them")
        for key in ("lr", "grad_clip", "al_alpha", "cs_min_growth", "cs_max_factor", "divergence_margin"):
            _require(getattr(self, key) > 0, f"{key}={getattr(self, key)}: set it above 0")
        for key, allowed in (("device", ("auto", "cpu", "cuda")), ("precision", ("bf16", "fp32")),
                             ("compile", ("auto", "true", "layers", "false")), ("parallel", ("ddp", "fsdp")),
                             ("attention_backend", ("auto", "cudnn", "flash", "efficient", "math")),
                             ("final_dtype", ("bf16", "fp32"))):
            _require(getattr(self, key) in allowed, f"{key}={getattr(self, key)!r}: use one of {', '.join(allowed)}")
        _require(self.seq_len <= self.model.max_position_embeddings,
                 f"seq_len={self.seq_len}: keep it at or below model.max_position_embeddings="
                 f"{self.model.max_position_embeddings}")
        for key in ("cs_target_cls8", "tls_target"):
            value = getattr(self, key)
            _require(value is None or 0 < value < 1, f"{key}={value!r}: set it between 0 and 1, or leave it out")
        _require(self.seq_len % self.cs_chunk_len == 0,
                 f"cs_chunk_len={self.cs_chunk_len}: make it a divisor of seq_len={self.seq_len}")
        self.micro_steps(1)

    @classmethod
    def from_yaml(cls, path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = ()) -> TrainConfig:
        """Read a YAML file and apply `key=value` overrides (values are parsed as YAML)."""
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file; training/configs/ holds examples") from None
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: not valid YAML ({error})") from None
        _require(isinstance(values, dict), f"{path}: expected `key: value` lines")
        for item in overrides:
            key, separator, text = item.partition("=")
            _require(bool(separator), f"--set {item}: write it as key=value")
            target = values
            if key.startswith("model."):
                target, key = values.setdefault("model", {}), key[len("model."):]
            target[key] = yaml.safe_load(text)
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        hints = typing.get_type_hints(cls)
        known = {f.name for f in fields(cls)}
        for key in values:
            _check_known(key, known)
        model = values.get("model", {})
        _require(isinstance(model, dict), "model: expected a section of `key: value` lines")
        for key in model:  # unlike a published config.json, a recipe must not hide a typing error
            _check_known(key, {f.name for f in fields(ModelConfig)} - {"extra"}, "model.")
        given = {k: _coerce(v, hints[k], k) for k, v in values.items() if k != "model"}
        return cls(model=ModelConfig.from_dict(model), **given)

    def to_dict(self) -> dict:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"model": self.model.to_dict()}


def _check_known(key: str, known: set[str], prefix: str = "") -> None:
    if key not in known:
        near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.0)
        raise ValueError(f"unknown key {prefix}{key}; did you mean {prefix}{near[0]}?")


def _coerce(value: Any, hint: Any, key: str) -> Any:
    """`value` as the annotated type.  YAML reads 2e-3 as a string, so numbers are parsed here."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    try:
        if kind is str and isinstance(value, bool):
            return str(value).lower()  # `compile: true`
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        if kind is float and not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    if kind is Any or isinstance(value, kind):
        return value
    raise ValueError(f"{key}={value!r}: expected {getattr(kind, '__name__', kind)}")
