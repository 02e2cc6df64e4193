"""Settings of one run that trains a draft head: a YAML file of flat keys plus a `model:` section of its sizes.

Units   *_tokens counts tokens, *_steps optimizer steps, *_fraction and *_share are in [0, 1].
Errors  ValueError names the key, the value and the fix; an unknown key names the nearest valid one.
"""

from __future__ import annotations

import os
import typing
from dataclasses import dataclass, field, fields

from training.config import check_known, coerce, require
from training.draft import SIZES
from training.train_config import read_yaml, uses_bf16

DEFAULT_SIZES = {"num_hidden_layers": 1, "intermediate_size": 768, "num_attention_heads": 6,
                 "num_key_value_heads": 2, "head_dim": 64}


@dataclass
class DraftTrainConfig:
    """Everything one run needs; the fields are the keys of the YAML file."""

    model: dict = field(default_factory=dict)  # sizes of the head, see draft.py
    target: str = ""  # checkpoint directory
    data: str = ""  # directory written by `python -m training.data prepare --tokenizer TARGET`
    out_dir: str = "out/draft"
    seed: int = 1
    draft_vocab_size: int = 4096  # the most frequent tokens of the training text
    # what is trained on besides the text: the target's own continuations of it, which is what it will be asked to draft
    generated_tokens: int = 0
    generated_share: float = 0.25  # of every batch
    generated_length: int = 256  # tokens of each, its beginning included; greedy text repeats itself before long
    generated_prompt: int = 64  # tokens of text that a continuation starts from
    generated_temperature: float = 0.7  # of every other continuation; the others are greedy
    # batch and length of the run
    seq_len: int = 1024
    global_batch_tokens: int = 16_384
    micro_batch_size: int = 16  # sequences computed at once
    steps: int = 6000
    # objective, see draft_step.py
    unroll_steps: int = 5
    step_decay: float = 0.8
    hidden_weight: float = 0.05
    # optimizer (AdamW): warm-up, then linear decay to 0 at the last step, or at the time limit
    lr: float = 2e-3
    warmup_steps: int = 100
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    # execution
    device: str = "auto"  # auto | cpu | cuda
    precision: str = "auto"  # bf16: bf16 compute, fp32 master weights | fp32 | auto: bf16 on CUDA
    compile: str = "auto"  # auto: true on CUDA | true | false
    # output
    log_every: int = 10
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    final_dtype: str = "bf16"  # bf16 | fp32

    def __post_init__(self) -> None:
        for key in self.model:
            check_known(key, set(SIZES), "model.")
        self.model = DEFAULT_SIZES | {key: coerce(value, int, f"model.{key}") for key, value in self.model.items()}
        self.validate()

    def uses_bf16(self, device_type: str) -> bool:
        return uses_bf16(self.precision, device_type)

    @property
    def sequences_per_step(self) -> int:
        return self.global_batch_tokens // self.seq_len

    def validate(self) -> None:
        for key in ("draft_vocab_size", "seq_len", "global_batch_tokens", "micro_batch_size", "steps", "unroll_steps",
                    "log_every", "checkpoint_every", "keep_checkpoints", "generated_prompt", "generated_length", "lr", "grad_clip",
                    "step_decay", "generated_temperature"):
            require(getattr(self, key) > 0, f"{key}={getattr(self, key)}: set it above 0")
        for key in ("generated_tokens", "hidden_weight", "warmup_steps", "weight_decay"):
            require(getattr(self, key) >= 0, f"{key}={getattr(self, key)}: set it to 0 or more")
        require(0 <= self.generated_share <= 1, f"generated_share={self.generated_share}: set it between 0 and 1")
        for key, allowed in (("device", ("auto", "cpu", "cuda")), ("precision", ("auto", "bf16", "fp32")),
                             ("compile", ("auto", "true", "false")), ("final_dtype", ("bf16", "fp32"))):
            require(getattr(self, key) in allowed, f"{key}={getattr(self, key)!r}: use one of {', '.join(allowed)}")
        require(self.global_batch_tokens % (self.seq_len * self.micro_batch_size) == 0,
                f"global_batch_tokens={self.global_batch_tokens}: make it a multiple of seq_len x micro_batch_size = "
                f"{self.seq_len * self.micro_batch_size}, or lower micro_batch_size")
        require(self.seq_len > self.unroll_steps,
                f"seq_len={self.seq_len}: make it longer than unroll_steps={self.unroll_steps}")
        require(not self.generated_tokens or self.seq_len % self.generated_length == 0,
                f"generated_length={self.generated_length}: make it a divisor of seq_len={self.seq_len}")
        require(not self.generated_tokens or self.generated_length > self.generated_prompt,
                f"generated_prompt={self.generated_prompt}: keep it below generated_length={self.generated_length}")

    @classmethod
    def from_yaml(cls, path: str | os.PathLike, overrides: list[str] | tuple[str, ...] = ()) -> DraftTrainConfig:
        """Read a YAML file and apply `key=value` overrides (values are parsed as YAML)."""
        values = read_yaml(path, overrides)
        hints = typing.get_type_hints(cls)
        for key in values:
            check_known(key, {f.name for f in fields(cls)})
        model = values.pop("model", None) or {}
        require(isinstance(model, dict), "model: expected a section of `key: value` lines")
        return cls(model=model, **{key: coerce(value, hints[key], key) for key, value in values.items()})

    def to_dict(self) -> dict:
        return {f.name: getattr(self, f.name) for f in fields(self)}
