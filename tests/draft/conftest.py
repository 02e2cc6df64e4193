"""Small random draft heads in the published layout, written without the code under test."""

import json

import pytest
import torch
from safetensors.torch import save_file

SIZES = dict(num_hidden_layers=1, intermediate_size=80, num_attention_heads=4, num_key_value_heads=2, head_dim=10)


def head_tensors(D=48, vocab_size=320, draft_vocab_size=96, seed=0, **sizes):
    """Stored name -> tensor, from the layout's description."""
    s = SIZES | sizes
    q, kv, F = s["num_attention_heads"] * s["head_dim"], s["num_key_value_heads"] * s["head_dim"], s["intermediate_size"]
    shapes = {"fc.weight": (D, 2 * D), "fc.bias": (D,), "input_norm1.weight": (D,), "input_norm2.weight": (D,)}
    for i in range(s["num_hidden_layers"]):
        shapes |= {f"layers.{i}.self_attn.{n}_proj.weight": shape
                   for n, shape in (("q", (q, D)), ("k", (kv, D)), ("v", (kv, D)), ("o", (D, q)))}
        shapes |= {f"layers.{i}.mlp.{n}_proj.weight": shape
                   for n, shape in (("gate", (F, D)), ("up", (F, D)), ("down", (D, F)))}
        norms = ["post_attention_layernorm"] + ["input_layernorm"] * (i > 0)
        shapes |= {f"layers.{i}.{norm}.weight": (D,) for norm in norms}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        tensors[name] = 1 + 0.2 * noise if "norm" in name else noise * (shape[-1] ** -0.5 if len(shape) > 1 else 0.3)
    tensors["token_id_remap"] = torch.randperm(vocab_size, generator=generator)[:draft_vocab_size].int()
    return tensors


@pytest.fixture(scope="session")
def published_head(tmp_path_factory):
    """Factory: published_head(config={...}, change=f(tensors), **sizes) -> new directory."""

    def make(config=None, change=None, **options):
        path = tmp_path_factory.mktemp("head")
        tensors = head_tensors(**options)
        if change is not None:
            change(tensors)
        sizes = SIZES | {key: options[key] for key in SIZES if key in options}
        (path / "config.json").write_text(json.dumps(sizes | (config or {})))
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "model.safetensors")
        return path

    return make


@pytest.fixture(scope="session")
def draft_data(tmp_path_factory, tiny_tokenizer):
    """Tokens of a few short documents, in the vocabulary of the tiny checkpoints."""
    from training.data import prepare

    folder = tmp_path_factory.mktemp("text")
    words = "the a runtime expert token chunk reads writes needs of and".split()
    generator = torch.Generator().manual_seed(3)
    lines = []
    for number in range(60):
        picks = torch.randint(len(words), (12 + number % 30,), generator=generator).tolist()
        lines.append(json.dumps({"text": " ".join(words[i] for i in picks) + ". " + "so it goes on, " * 6}))
    (folder / "text.jsonl").write_text("\n".join(lines))
    prepare([str(folder / "text.jsonl")], folder / "tokens", heldout_percent=10, tokenizer=str(tiny_tokenizer), workers=1)
    return folder / "tokens"
