"""The end-to-end decoding benchmark: its dense twin, its prompts, its figures."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import decode
from benchmarks.dense_twin import Twin, export_twin, twin_width, weight_bytes
from tests.conftest import TINY
from training.checkpoint import open_checkpoint
from training.config import ModelConfig


def config(**changes):
    return ModelConfig.from_dict(TINY | dict(hidden_size=64, num_experts=40, num_attention_heads=4) | changes)


def test_the_twin_has_as_many_weights_in_its_layers():
    shipped = open_checkpoint(decode.CHECKPOINT).config
    twin, D = Twin(shipped, 64), shipped.hidden_size
    ours = sum(t.numel() for name, t in open_checkpoint(decode.CHECKPOINT).tensors.items() if ".layers." in name)
    theirs = sum(p.numel() for name, p in twin.named_parameters() if name.startswith("layers."))
    assert abs(theirs / ours - 1) < 0.02
    matrices = theirs - 2 * D * shipped.num_hidden_layers + twin.head.weight.numel()
    assert 1 <= weight_bytes(shipped, "8da8w") / matrices < 1.03
    assert 0.5 <= weight_bytes(shipped, "8da4w") / matrices < 0.57


def test_the_exported_twin_computes_what_it_is(tmp_path):
    """Chunk by chunk and token by token on XNNPACK against plain attention over the whole sequence in float32."""
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401

    from runtime_delegates.loader import executorch_runtime

    c = config()
    export_twin(c, "8da8w", 64, tmp_path / "twin.pte")
    program = executorch_runtime._load_program(str(tmp_path / "twin.pte"))
    forward = program.load_method("forward")
    ids = torch.randint(c.vocab_size, (1, 24), generator=torch.Generator().manual_seed(1))
    got = [forward((ids[:, :16], torch.tensor([0])))[0].clone()]
    got += [forward((ids[:, i : i + 1], torch.tensor([i])))[0].clone() for i in range(16, 24)]
    got = torch.cat(got, 1)[0]

    torch.manual_seed(0)
    twin = Twin(c, 64).eval()
    x, D, heads = twin.embed(ids)[0], c.hidden_size, c.num_attention_heads
    cos, sin = twin.cos[:24].repeat(1, 1, 2), twin.sin[:24].repeat(1, 1, 2)
    with torch.no_grad():
        for layer in twin.layers:
            n = layer.norm1(x)
            q, k, v = (m(n).view(24, heads, D // heads) for m in (layer.q, layer.k, layer.v))
            q, k = (y * cos + torch.cat([-y[..., D // heads // 2 :], y[..., : D // heads // 2]], -1) * sin for y in (q, k))
            scores = torch.einsum("thd,shd->hts", q, k) * (D // heads) ** -0.5
            scores = scores.masked_fill(torch.ones(24, 24).triu(1).bool(), -torch.inf).softmax(-1)
            x = x + layer.o(torch.einsum("hts,shd->thd", scores, v).reshape(24, D))
            n = layer.norm2(x)
            x = x + layer.down(torch.nn.functional.silu(layer.gate(n)) * layer.up(n))
        want = twin.head(twin.norm(x))
    error = (got - want).square().mean(1).sqrt() / want.square().mean(1).sqrt()
    assert not (~(error < 0.05)).any()  # activations in 8 bits
    other = (got.roll(1, 0) - want).square().mean(1).sqrt() / want.square().mean(1).sqrt()
    assert (other > 0.5).all()


def test_prompts_are_of_five_kinds():
    cases = decode.prompts(2)
    assert [kind for kind, _ in cases] == [kind for kind in decode.KINDS for _ in range(2)]
    assert len({text for _, text in cases}) == 10 and all(len(text) == decode.PROMPT_CHARACTERS for _, text in cases)


def test_rows_hold_ratios_and_the_byte_model():
    args = SimpleNamespace(tokens=11)
    files = {"bytes": {"embedding": 999, "linear": 100, "chunk_sparse_ffn": 1000}, "dense_bytes": 2000}

    def result(ms, cycles, union, chunks):
        return SimpleNamespace(decode_ms=ms, union_share=union, tokens_per_cycle=10 / cycles, chunks=chunks, generated_tokens=11)

    sample = {"kind": "code", "prompt": 0, "dense_ms": 40.0, "dense_spec_ms": 20.0, "plain": result(10.0, 10, {1: 0.2}, {1: 10}),
              "auto": result(5.0, 5, {4: 0.3}, {4: 5}), "auto_cpu_ms": 5.0, "plain_cpu_ms": 10.0}
    row = decode.summary(args, "int8", files, {"samples": [sample, sample]})[-1]
    assert (row["dense_plain"], row["sparse_plain"], row["sparse_spec"], row["dense_spec_replayed"]) == (250, 1000, 2000, 500)
    assert row["spec_over_dense"] == 8 and row["spec_over_sparse"] == 2 and row["cpu_spec_over_plain"] == 0.5
    assert row["bytes"] == {"dense": 2000, "sparse_plain": 300, "sparse_spec": 5 * 400 / 10}
    text = decode.table([row], {"int8": 1.01})
    assert "8.00x (10.00x)" in text and "4.00x (6.67x) !" in text and "1.010 of the CPU time" in text


@pytest.mark.parametrize("bad", [["--rounds", "0"], ["--checkpoint", "/nowhere"], ["--precisions", "fp64"], ["--tokens", "1"]])
def test_bad_arguments(bad):
    with pytest.raises(SystemExit) as stop:
        decode.arguments(bad)
    assert stop.value.code == 2
