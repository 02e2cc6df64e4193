"""Which experts the tokens of real text use in a checkpoint: routing for the benchmark that nobody made up."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.layers import TOKENS, VARIANTS, Size

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "checkpoints" / "blockffn-22m-docs"
TEXT = ROOT / "checkpoints" / "corpus" / "heldout_sample.jsonl"


def checkpoint_size(directory: Path = CHECKPOINT) -> Size:
    """The FFN of a checkpoint as a size named "22M-traces"."""
    from training.checkpoint import open_checkpoint

    c = open_checkpoint(directory).config
    return Size("22M-traces", c.hidden_size, c.num_experts, c.expert_size, c.num_hidden_layers)


def active_experts(directory: Path = CHECKPOINT, text: Path = TEXT) -> np.ndarray:
    """bool [V, T, E]: chunks of held-out text, each as one layer of the checkpoint routes it; the layers are spread
    over the depth. A chunk starts TOKENS tokens into its document."""
    import json

    from training.checkpoint import open_checkpoint
    from training.model import CausalLM
    from training.tokenizer import load_tokenizer

    checkpoint = open_checkpoint(directory)
    tokenizer = load_tokenizer(checkpoint.tokenizer_dir)
    model = CausalLM.from_checkpoint(checkpoint, "cpu", torch.float32).eval()
    layers, chunks = checkpoint.config.num_hidden_layers, []
    for line in text.read_text(encoding="utf-8").splitlines():
        ids = [tokenizer.bos_id, *tokenizer.encode(json.loads(line)["text"])][: 2 * TOKENS]
        if len(ids) == 2 * TOKENS:
            with torch.inference_mode():
                scores = model(torch.tensor([ids])).raw_scores[(2 * len(chunks) + 1) * layers // (2 * VARIANTS)]
            chunks.append((scores[0, TOKENS:] > 0).numpy())
        if len(chunks) == VARIANTS:
            return np.stack(chunks)
    raise ValueError(f"{text} has fewer than {VARIANTS} documents of {2 * TOKENS} tokens: name a longer text")
