"""Writes a random checkpoint of a published size, to measure what an export costs.

    python tests/export/make_synthetic.py /tmp/synthetic-1.2b --hidden 1792 --expert-size 128 --experts 56 --layers 35

Weights are made one at a time, so that any size needs little memory. The model knows nothing: export
it with --check parity.
"""

import argparse
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training.checkpoint import expected_shapes, save_checkpoint  # noqa: E402
from training.config import ModelConfig  # noqa: E402


class RandomTensors(Mapping):
    """Name -> bfloat16 tensor, computed when it is asked for and always the same."""

    def __init__(self, config: ModelConfig) -> None:
        self.shapes = expected_shapes(config)

    def __getitem__(self, name: str) -> torch.Tensor:
        shape = self.shapes[name]
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(shape, generator=generator).bfloat16()
        if "norm" in name:
            return 1 + 0.1 * noise
        return noise * (0.1 if "embed" in name else shape[-1] ** -0.5)

    def __iter__(self):
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    for name, default in (("hidden", 1792), ("expert-size", 128), ("experts", 56), ("layers", 35), ("vocab", 32000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    config = ModelConfig.from_dict(dict(
        vocab_size=args.vocab, hidden_size=args.hidden, num_hidden_layers=args.layers, max_position_embeddings=4096,
        attention_type="mla", num_attention_heads=args.hidden // 128, q_lora_rank=768, kv_lora_rank=256,
        qk_nope_head_dim=128, qk_rope_head_dim=64, num_experts=args.experts, expert_size=args.expert_size,
        tie_word_embeddings=False,
    ))
    torch.set_grad_enabled(False)
    save_checkpoint(args.directory, config, RandomTensors(config), max_shard_bytes=5e8)
    print(sum(torch.Size(shape).numel() for shape in expected_shapes(config).values()), "parameters")


if __name__ == "__main__":
    main()
