"""Fixtures shared by all tests: the backend library, and small random checkpoints and programs of any flavour."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the test processes share the cores

import pytest
import torch

# A shell's background job ignores SIGINT, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TINY = dict(
    vocab_size=320, hidden_size=48, num_hidden_layers=2, max_position_embeddings=256, dim_model_base=16,
    num_attention_heads=4, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8,
    num_experts=6, expert_size=12, intermediate_size=96, initializer_range=0.2, torch_dtype="float32",
)


def tensor_shapes(config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint of `config`, in the published layout."""
    c, D = config, config.hidden_size
    heads, width = c.num_attention_heads, c.v_head_dim
    if c.attention_type == "mla":
        rank, qk = c.kv_lora_rank, c.qk_nope_head_dim + c.qk_rope_head_dim
        attention = {
            "q_a_proj": (c.q_lora_rank, D), "q_a_layernorm": (c.q_lora_rank,),
            "q_b_proj": (heads * qk, c.q_lora_rank), "kv_a_proj_with_mqa": (rank + c.qk_rope_head_dim, D),
            "kv_a_layernorm": (rank,), "kv_b_proj": (heads * (c.qk_nope_head_dim + width), rank),
            "o_proj": (D, heads * width),
        }
    else:
        kv = c.num_key_value_heads * width
        attention = {"q_proj": (heads * width, D), "k_proj": (kv, D), "v_proj": (kv, D), "o_proj": (D, heads * width)}
    if c.ffn_type == "vanilla":
        ffn = {f"{name}_proj.weight": (c.intermediate_size, D) for name in ("gate", "up")}
        ffn["down_proj.weight"] = (D, c.intermediate_size)
    else:
        E, F = c.num_experts, c.expert_size
        stacked = c.ffn_type == "block_linear"
        ffn = {"router_proj.weight": (E, D), "up_proj": (E * F, D) if stacked else (E, F, D),
               "down_proj": (D, E * F) if stacked else (E, D, F)}
        if c.norm_after_router == "rms":
            ffn["router_norm.weight"] = (E,)
    shapes = {"model.embed_tokens.weight": (c.vocab_size, D), "model.norm.weight": (D,)}
    if not c.tie_word_embeddings:
        shapes["lm_head.weight"] = (c.vocab_size, D)
    for i in range(c.num_hidden_layers):
        layer = f"model.layers.{i}."
        shapes |= {f"{layer}{norm}.weight": (D,) for norm in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{layer}self_attn.{name}.weight": shape for name, shape in attention.items()}
        shapes |= {f"{layer}mlp.{name}": shape for name, shape in ffn.items()}
    return shapes


def random_tensors(config, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights that make about half of the experts active; some router_norm weights are negative."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("router_norm.weight"):
            tensors[name] = noise
        elif "norm" in name:
            tensors[name] = 1 + 0.2 * noise
        else:  # unit variance in, unit variance out; embeddings are scaled by scale_emb
            tensors[name] = noise * (shape[-1] ** -0.5 if "embed" not in name else 0.1)
    return tensors


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory) -> Path:
    """Directory of a byte-level tokenizer with TINY's vocabulary, trained on a few sentences."""
    from training.tokenizer import train_tokenizer

    out = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    texts = ["The runtime reads only the experts that a chunk of tokens needs.", "Naïve café, 你好, 😀: every byte counts.",
             (ROOT / "LICENSE").read_text(encoding="utf-8")]
    train_tokenizer(texts, TINY["vocab_size"], out)
    return out


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, tiny_tokenizer):
    """Factory: tiny_checkpoint(seed=0, dtype=torch.float32, tokenizer=True, max_shard_bytes=..., **config) -> Path.

    Writes a random checkpoint of any flavour, e.g. attention_type="vanilla", num_key_value_heads=2,
    ffn_type="block", norm_after_router="sum", tie_word_embeddings=False. Equal arguments give the
    same directory: do not change it, copy it.
    """
    from training.checkpoint import save_checkpoint
    from training.config import ModelConfig

    made: dict[str, Path] = {}

    def make(seed: int = 0, dtype=torch.float32, tokenizer: bool = True, max_shard_bytes: float = 5e9, **overrides) -> Path:
        key = json.dumps([seed, str(dtype), tokenizer, max_shard_bytes, overrides], sort_keys=True, default=str)
        if key not in made:
            config = ModelConfig.from_dict(TINY | overrides)
            path = tmp_path_factory.mktemp("checkpoint") / "model"
            save_checkpoint(path, config, random_tensors(config, seed), dtype=dtype, max_shard_bytes=max_shard_bytes,
                            tokenizer_dir=tiny_tokenizer if tokenizer else None)
            made[key] = path
        return made[key]

    return make


@pytest.fixture(scope="session")
def backend(tmp_path_factory):
    """The loaded backend, built first if it is missing (`make test` has built it)."""
    from runtime_delegates.loader import DEFAULT_LIBRARY, LIBRARY_VARIABLE, load_backend

    if not os.environ.get(LIBRARY_VARIABLE) and not DEFAULT_LIBRARY.is_file():
        from filelock import FileLock  # test processes start at the same time; one builds

        with FileLock(ROOT / ".build.lock"):
            if not DEFAULT_LIBRARY.is_file():
                subprocess.run(["make", "-C", str(ROOT), "build"], check=True)
    return load_backend()


@pytest.fixture(scope="session")
def tiny_pte(tmp_path_factory, tiny_checkpoint, backend):
    """Factory: tiny_pte(quant="fp32", max_context=160, **config) -> Path of a .pte. Do not change the file, copy it."""
    from export.decoder import Decoder
    from export.lower import lower
    from training.checkpoint import open_checkpoint

    made: dict[str, Path] = {}

    def make(quant: str = "fp32", max_context: int = 160, **config) -> Path:
        key = json.dumps([quant, max_context, config], sort_keys=True)
        if key not in made:
            path = tmp_path_factory.mktemp("program") / "model.pte"
            lower(Decoder(open_checkpoint(tiny_checkpoint(**config)), quant, max_context), str(path))
            made[key] = path
        return made[key]

    return make
