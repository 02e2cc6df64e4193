"""The end-to-end decoding benchmark: its dense twin, its prompts, its figures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import decode, decode_synthetic
from benchmarks.decode_models import Dense, Files, weights_read
from benchmarks.decode_report import summary, table
from benchmarks.dense_twin import OneLayer, Twin, export_parts, export_twin, weight_bytes
from export.decoder import Decoder
from export.draft_decoder import DraftDecoder
from export.lower import lower
from runtime_delegates.runner import Runner
from tests.conftest import TINY
from training.checkpoint import expected_shapes, open_checkpoint
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


def result(ms, cycles, union, chunks):
    return SimpleNamespace(decode_ms=ms, union_share=union, tokens_per_cycle=10 / cycles, chunks=chunks, generated_tokens=11, cycles=cycles,
                           draft_ms=ms / 10)


def test_rows_hold_ratios_and_the_byte_model():
    files = Files("0.1B", "int8", None, None, {"embedding": 999, "linear": 60, "logits": 40, "chunk_sparse_ffn": 1000}, (), 2000)
    sample = {"kind": "code", "prompt": 0, "dense_ms": 4.0, "dense_spec_ms": 20.0, "plain": result(10.0, 10, {1: 0.2}, {1: 10}),
              "auto": result(5.0, 5, {4: 0.3}, {4: 5}), "auto_cpu_ms": 5.0, "plain_cpu_ms": 10.0}
    found = {"samples": [sample, sample], "chunk_ms": {1: 1.0, 4: 2.0, 8: 3.0}, "dense_chunk_ms": {1: 4.0, 8: 8.0}}
    row = summary(files, found)[-1]
    assert (row["dense_plain"], row["sparse_plain"], row["sparse_spec"], row["dense_spec"]) == (250, 1000, 2000, 500)
    assert row["spec_over_dense"] == 8 and row["spec_over_sparse"] == 2 and row["cpu_spec_over_plain"] == 0.5
    assert row["bytes"] == {"dense": 2000, "sparse_plain": 300, "sparse_spec": 5 * 400 / 10}
    text = table([row], {"shipped int8": 1.01})
    assert "8.00x (10.00x)" in text and "4.00x (6.67x) !" in text and "1.010 of the CPU time" in text
    assert "A chunk of 8 tokens takes 3.00 times one token sparse, 2.00 dense" in text and "REPLAYED" in text
    assert "REPLAYED" not in table([row | {"model": "shipped"}], {})


def test_a_head_that_shares_the_embedding_reads_it():
    assert weights_read({"embedding": 5, "linear": 3, "chunk_sparse_ffn": 7}) == (7, 8)
    assert weights_read({"embedding": 5, "linear": 3, "logits": 4, "chunk_sparse_ffn": 7}) == (7, 7)


# ---- synthetic models ----
def made_up_traces():
    rng = np.random.default_rng(0)
    traces = []
    for kind in ("code", "prose"):
        size = decode_synthetic.PROMPT_TOKENS + 14
        ids = rng.permutation(1000)[:size].tolist()
        trees = {}
        for s in range(decode_synthetic.PROMPT_TOKENS, size - 1):
            chain = [(ids[s + 1 + k], k, 0.9, True) for k in range(min(3, size - s - 1))]
            trees[s] = [*chain, (7777, 0, 0.1, False), (7778, 1, 0.1, False)] if s % 3 else [(7777, 0, 0.5, False)]
        traces.append(decode_synthetic.Trace(kind, ids, rng.random((3, size, 12)) < 0.2, {"ngram": {}, "head": trees}))
    return traces


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, backend):
    """(runner, traces, replay) of a small synthetic model, its experts and layers other in number than the traces'."""
    folder, traces = tmp_path_factory.mktemp("synthetic"), made_up_traces()
    config = ModelConfig.from_dict(TINY | dict(hidden_size=64, num_attention_heads=4, num_experts=8, expert_size=16,
                                               num_hidden_layers=5, tie_word_embeddings=False, scale_depth=1e-3))
    model = decode_synthetic.Synthetic(config, decode_synthetic.SyntheticTensors(config, expected_shapes(config), traces))
    lower(Decoder(model, "int8", 160), str(folder / "model.pte"))
    lower(DraftDecoder(*decode_synthetic.head_of(model, 64), "int8", 160), str(folder / "head.pte"))
    runner = Runner(folder / "model.pte")
    return runner, traces, decode_synthetic.Replay(traces, "head", decode_synthetic.head_calls(folder / "head.pte", 64, backend.threads)), model


def test_a_synthetic_model_walks_through_the_trace_and_uses_its_experts(replayed):
    runner, traces, replay, model = replayed
    used = np.concatenate([trace.used_LSE for trace in traces], axis=1)
    routers = [model.tensors[f"model.layers.{i}.mlp.router_proj.weight"].numpy() > 0 for i in range(5)]
    columns = [[next(c for c in range(12) if (used[i * 3 // 5, :, c] == router[e, : used.shape[1]]).all()) for e in range(8)]
               for i, router in enumerate(routers)]
    assert all(len(set(c)) == 8 for c in columns)  # a choice of the trace's experts, layer by layer
    for trace, (kind, prompt) in zip(traces, replay.prompts()):
        assert kind == trace.kind
        got = runner.generate(prompt, 14, "plain")
        assert got.ids == list(range(prompt[-1] + 1, prompt[-1] + 15))
        places = range(prompt[-1] + 1, prompt[-1] + 14)
        want = np.mean([used[i * 3 // 5, place, columns[i]].mean() for i in range(5) for place in places])
        assert got.union_share[1] == pytest.approx(want, abs=1e-6)


def test_replayed_drafts_are_accepted_as_the_trace_says(replayed):
    runner, traces, replay, _ = replayed
    runner.set_drafter(replay)
    for trace, (_, prompt) in zip(traces, replay.prompts()):
        got, s, emitted = runner.generate(prompt, 14, "spec"), decode_synthetic.PROMPT_TOKENS, {}
        assert got.ids == list(range(prompt[-1] + 1, prompt[-1] + 15))
        while s < len(trace.ids) - 1:
            accepted = sum(right for *_, right in trace.trees["head"][s])
            gained = min(accepted + 1, len(trace.ids) - 1 - s)
            emitted[gained] = emitted.get(gained, 0) + 1
            s += gained
        assert got.emitted == emitted and max(emitted) >= 3
        assert got.draft_ms > 0


def test_the_drafters_to_choose_from(replayed):
    _, traces, replay, _ = replayed
    assert list(decode_synthetic.Replay.choices(traces)) == ["n-grams"]
    choices = decode_synthetic.Replay.choices(traces, replay.head)
    assert list(choices) == ["n-grams", "head, depth 3"]
    context = list(range(decode_synthetic.PROMPT_TOKENS + 2))
    assert choices["n-grams"](context, 20, 20) == [] and max(parent for _, parent, _ in choices["head, depth 3"](context, 20, 20)) == 2


def test_marked_knows_what_the_text_does():
    rows = [(5, -1, 1.0, True, True), (6, 0, 0.9, True, True), (7, 1, 0.8, True, False), (9, 0, 0.1, True, False), (7, 3, 0.1, True, False)]
    assert [right for *_, right in decode_synthetic.marked(rows, [5, 6, 7])] == [True, True, False, False]
    assert [right for *_, right in decode_synthetic.marked(rows, [5, 6])] == [True, False, False, False]


def test_a_twin_in_parts_computes_what_it_is(tmp_path):
    """Layers one by one, each with a cache of its own, against the same layer over the whole sequence."""
    c = config()
    export_parts(c, "8da8w", 64, tmp_path / "layer.pte", tmp_path / "head.pte")
    files = Files("tiny", "int8", c, None, {}, (tmp_path / "layer.pte", tmp_path / "head.pte"), 0)
    dense = Dense(files)
    assert len(dense._layers) == c.num_hidden_layers
    x = torch.randn(1, 20, 64, generator=torch.Generator().manual_seed(0))
    parts = [dense._layers[0][1]((x[:, :12], torch.tensor([0])))[0].clone(),
             *(dense._layers[0][1]((x[:, i : i + 1], torch.tensor([i])))[0].clone() for i in range(12, 20))]
    torch.manual_seed(0)
    with torch.no_grad():
        want = OneLayer(c, 64).eval()(x, torch.tensor([0]))
    error = (torch.cat(parts, 1) - want).square().mean(-1).sqrt() / (want - x).square().mean(-1).sqrt()
    assert not (~(error < 0.05)).any()
    assert dense.plain([1] * 40, 2)[0] > 0
    assert dense.chunk_ms(4, 0) > 0 and set(dense.forget()) == {4}


@pytest.mark.parametrize("bad", [["--rounds", "0"], ["--checkpoint", "/nowhere"], ["--precisions", "fp64"], ["--tokens", "1"],
                                 ["--models-of", "7B"], ["--draft", "/nowhere"]])
def test_bad_arguments(bad):
    with pytest.raises(SystemExit) as stop:
        decode.arguments(bad)
    assert stop.value.code == 2
