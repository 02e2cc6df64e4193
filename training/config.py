"""Architecture of a model, as in a checkpoint's config.json (settings of a run: train_config.py).

`ModelConfig` holds the keys of a published BlockFFN `config.json` under their published names, so
that a checkpoint written here loads wherever a published one does.  Keys that this package does
not know are kept, ignored and written back.

Errors  ValueError names the key, the value and the fix.
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

ATTENTION_TYPES = ("mla", "vanilla")
FFN_TYPES = ("block_linear", "block", "vanilla")
ROUTER_NORMS = ("rms", "sum", "none")
ROPE_SCALING_TYPES = ("linear", "dynamic")
# What other families mean by leaving these out is not what a published BlockFFN config.json means by it.
SAID_BY_OTHER_FAMILIES = ("attention_type", "ffn_type", "scale_emb", "scale_depth", "dim_model_base", "tie_word_embeddings",
                          "rms_norm_eps", "rope_theta")


def require(ok: bool, message: str) -> None:
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
            require(isinstance(value, int) and not isinstance(value, bool) and value > 0,
                     f"{key}={value!r}: set it to an integer above 0")
        for key in ("rope_theta", "rms_norm_eps", "scale_emb", "scale_depth", "norm_scale",
                    "initializer_range"):
            value = getattr(self, key)
            require(isinstance(value, (int, float)) and value > 0, f"{key}={value!r}: set it to a number above 0")
        for key, allowed in (("attention_type", ATTENTION_TYPES), ("ffn_type", FFN_TYPES),
                             ("norm_after_router", ROUTER_NORMS), ("hidden_act", ("silu",)),
                             ("router_act", ("relu",))):
            require(getattr(self, key) in allowed,
                     f"{key}={getattr(self, key)!r}: use one of {', '.join(allowed)}")
        require(not self.attention_bias, "attention_bias=true: only false is implemented, as published")
        require(self.hidden_size % self.num_attention_heads == 0,
                 f"hidden_size={self.hidden_size}: make it a multiple of num_attention_heads="
                 f"{self.num_attention_heads}")
        require(self.num_attention_heads % self.num_key_value_heads == 0,
                 f"num_key_value_heads={self.num_key_value_heads}: make it a divisor of "
                 f"num_attention_heads={self.num_attention_heads}")
        key = "qk_rope_head_dim" if self.attention_type == "mla" else "hidden_size/num_attention_heads"
        require(self.rope_dim % 2 == 0, f"{key}={self.rope_dim}: make it even, RoPE rotates pairs")
        if self.rope_scaling is not None:
            kind = self.rope_scaling.get("type", self.rope_scaling.get("rope_type"))
            factor = self.rope_scaling.get("factor")
            require(kind in ROPE_SCALING_TYPES,
                     f"rope_scaling.type={kind!r}: use one of {', '.join(ROPE_SCALING_TYPES)}")
            require(isinstance(factor, (int, float)) and factor >= 1,
                     f"rope_scaling.factor={factor!r}: set it to a number of at least 1")
            require(kind != "dynamic" or self.rope_dim > 2, "rope_scaling.type=dynamic: needs a RoPE width above 2")
        for token in self.eos_ids + ([self.bos_token_id] if self.bos_token_id is not None else []):
            require(isinstance(token, int) and 0 <= token < self.vocab_size,
                     f"bos/eos_token_id={token!r}: choose an id below vocab_size={self.vocab_size}")

    # ---- files ----
    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        hints = typing.get_type_hints(cls)
        known = {f.name for f in fields(cls)} - {"extra"}
        kept = {k: v for k, v in values.items() if k not in known}
        given = {k: coerce(v, hints[k], k) for k, v in values.items() if k in known and v is not None}
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
        require(isinstance(values, dict), f"{path}: expected a JSON object")
        family = values.get("model_type") or "minicpm"
        unsaid = [key for key in SAID_BY_OTHER_FAMILIES if key not in values]
        require(str(family).startswith("minicpm") or not unsaid,
                f"{path}: model_type={family!r} is not the MiniCPM that BlockFFN is built on, whose defaults it does not share; if "
                f"the architecture is the same, add {', '.join(unsaid)} (without scaling: attention_type and ffn_type vanilla, "
                "scale_emb 1, scale_depth sqrt(num_hidden_layers), dim_model_base hidden_size)")
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_dict(self) -> dict:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return values | self.extra

    def to_json(self, path: str | os.PathLike) -> None:
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def check_known(key: str, known: set[str], prefix: str = "") -> None:
    if key not in known:
        near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.0)
        raise ValueError(f"unknown key {prefix}{key}; did you mean {prefix}{near[0]}?")


def coerce(value: Any, hint: Any, key: str) -> Any:
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
