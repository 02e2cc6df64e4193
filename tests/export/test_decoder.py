"""The decoder that is exported, run eagerly, against the whole-model float64 oracle."""

import numpy as np
import pytest
import torch

from export.decoder import Decoder, causal_chunk, rope_frequencies
from export.quality import Golden, reference_model, run_decoder, run_reference
from tests.export import model_oracle
from training.checkpoint import open_checkpoint
from training.config import ModelConfig

FLAVOURS = {
    "mla": dict(),
    "gqa_untied": dict(attention_type="vanilla", num_key_value_heads=2, tie_word_embeddings=False, ffn_type="block"),
    "dense": dict(ffn_type="vanilla", attention_type="vanilla", rope_scaling={"type": "linear", "factor": 2.0}),
    "sum": dict(norm_after_router="sum", norm_scale=2.0, rope_scaling={"type": "dynamic", "factor": 4.0},
                max_position_embeddings=64),
    "none": dict(norm_after_router="none", num_attention_heads=3, hidden_size=42, expert_size=5, num_experts=7),
}
CONTEXT = 128


@pytest.fixture(params=FLAVOURS)
def checkpoint(request, tiny_checkpoint):
    return open_checkpoint(tiny_checkpoint(tokenizer=False, **FLAVOURS[request.param]))


def token_ids(config, count):
    return torch.randint(config.vocab_size, (count,), generator=torch.Generator().manual_seed(count)).tolist()


def assert_close(got, want, bound=3e-5):
    """Per element, against the largest magnitude of the row; NaN fails."""
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want)
    assert got.shape == want.shape
    wrong = ~(np.abs(got - want) <= bound * np.abs(want).max(axis=-1, keepdims=True))
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} differ, worst {np.abs(got - want).max()}"


@torch.no_grad()
@pytest.mark.parametrize("tokens", [1, 2, 7, 64])
def test_one_chunk_is_the_model(checkpoint, tokens):
    ids = token_ids(checkpoint.config, tokens)
    logits, hidden = Decoder(checkpoint, "fp32", CONTEXT)(*causal_chunk(ids))
    want_logits, want_hidden = model_oracle.forward(checkpoint.config, checkpoint.tensors, ids, max_context=CONTEXT)
    assert_close(logits[0], want_logits)
    assert_close(hidden[0], want_hidden)


@torch.no_grad()
def test_steps_are_the_chunk(checkpoint):
    ids = token_ids(checkpoint.config, 20)
    decoder = Decoder(checkpoint, "fp32", CONTEXT)
    want, _ = model_oracle.forward(checkpoint.config, checkpoint.tensors, ids, max_context=CONTEXT)
    n_past = 0
    for size in (7, 1, 1, 8, 3):
        logits, _ = decoder(*causal_chunk(ids[n_past : n_past + size], n_past))
        assert_close(logits[0], want[n_past : n_past + size])
        n_past += size


@torch.no_grad()
def test_tree_and_compaction_are_linear_text(checkpoint):
    golden = Golden.of(checkpoint.config.vocab_size, seed=3)
    logits, _ = run_decoder(Decoder(checkpoint, "fp32", CONTEXT), golden)
    base = len(golden.prefix)
    parents = list(range(-1, base - 1)) + [base - 1, base, base, base + 1, base + 1, base + 2, base + 2]
    ids = golden.prefix + golden.tree
    # The last token follows nodes 0, 2 and 5 of the tree.
    parents.append(base + 5)
    want, _ = model_oracle.forward(checkpoint.config, checkpoint.tensors, ids + [golden.last], parents, CONTEXT)
    assert_close(logits, want)


def test_reference_of_the_quality_check_is_the_model(checkpoint):
    golden = Golden.of(checkpoint.config.vocab_size, seed=4)
    logits, _ = run_reference(reference_model(checkpoint, CONTEXT), golden)
    base = len(golden.prefix)
    parents = list(range(-1, base - 1)) + [base - 1, base, base, base + 1, base + 1, base + 2, base + 2, base + 5]
    ids = golden.prefix + golden.tree + [golden.last]
    assert_close(logits, model_oracle.forward(checkpoint.config, checkpoint.tensors, ids, parents, CONTEXT)[0])


@torch.no_grad()
def test_logits_start_skips_rows_and_changes_no_other(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint(tokenizer=False))
    ids = token_ids(checkpoint.config, 9)
    whole, _ = Decoder(checkpoint, "fp32", CONTEXT)(*causal_chunk(ids))
    last, _ = Decoder(checkpoint, "fp32", CONTEXT)(*causal_chunk(ids, logits_start=8))
    assert torch.equal(last[0, 8], whole[0, 8]) and not last[0, :8].any()


def test_building_reads_no_weight(tiny_checkpoint):
    """Every matrix is a view of the mapped file."""
    path = tiny_checkpoint(tokenizer=False, dtype=torch.bfloat16, tie_word_embeddings=False)
    decoder = Decoder(open_checkpoint(path), "int8", CONTEXT)
    mapped = []
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if line.rstrip().endswith(str(path / "model.safetensors")):
                mapped.append([int(end, 16) for end in line.split()[0].split("-")])
    assert mapped
    for name, parameter in decoder.named_parameters():
        assert parameter.dtype == torch.bfloat16, name
        assert any(start <= parameter.data_ptr() < end for start, end in mapped), name


def test_rope_frequencies():
    config = ModelConfig.from_dict(dict(rope_theta=100.0, qk_rope_head_dim=4, max_position_embeddings=100))
    assert rope_frequencies(config, 1000).tolist() == pytest.approx([1.0, 0.1])
    config.rope_scaling = {"type": "linear", "factor": 8.0}
    assert rope_frequencies(config, 1000).tolist() == pytest.approx([0.125, 0.0125])
    config.rope_scaling = {"rope_type": "dynamic", "factor": 2.0}
    assert rope_frequencies(config, 100).tolist() == pytest.approx([1.0, 0.1])
    theta = 100.0 * (2.0 * 400 / 100 - 1) ** (4 / 2)  # grows with the exported context
    assert rope_frequencies(config, 400).tolist() == pytest.approx([1.0, theta**-0.5])


def test_errors_name_the_fix(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint(tokenizer=False))
    with pytest.raises(ValueError, match="fp32, int8, int4"):
        Decoder(checkpoint, "int2")
    with pytest.raises(ValueError, match="at least 64"):
        Decoder(checkpoint, "int8", 63)
