"""Exports with stock operators only: the same checks as every export, without our library."""

import json

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from export import quality, to_onnx
from export.decoder import Decoder
from runtime_delegates.onnx_session import OnnxSession
from tests.export.test_to_executorch import CONTEXT, FLAVOURS, token_ids
from training.checkpoint import open_checkpoint

FLAVOURS = FLAVOURS | {
    "odd": dict(expert_size=19, qk_rope_head_dim=10, qk_nope_head_dim=7),  # every size has to be filled up
    "none": dict(norm_after_router="none", num_experts=5),
}
CASES = [(flavour, quant) for flavour in FLAVOURS for quant in ("int8", "int4")] + [("dense", "fp32")]


def export(checkpoint, output, *options):
    return to_onnx.main([str(checkpoint), "-o", str(output), "--max-context", str(CONTEXT), "--ffn", "qmoe", *options])


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_checkpoint):
    made = {}

    def make(flavour, quant):
        if (flavour, quant) not in made:
            checkpoint = tiny_checkpoint(**FLAVOURS[flavour])
            output = tmp_path_factory.mktemp("stock") / "onnx"
            assert export(checkpoint, output, "--quant", quant, "--check", "none") == 0
            made[flavour, quant] = checkpoint, output / "model.onnx"
        return made[flavour, quant]

    return make


@pytest.mark.parametrize("flavour, quant", CASES)
def test_close_to_eager_over_chunks_a_tree_and_a_kept_branch(exported, flavour, quant):
    checkpoint, path = exported(flavour, quant)
    golden = quality.Golden.of(320, 3)
    got = quality.run_session(OnnxSession(path, plain=True), golden)
    want = quality.run_decoder(Decoder(open_checkpoint(checkpoint), quant, CONTEXT), golden)
    for a, b in zip(got, want, strict=True):
        quality.worst_difference(a, b, quality.bounds_of(quant, 2), "stock operators")


def test_router_norms_of_both_signs_are_in_the_test(exported):
    checkpoint, _ = exported("mla", "int8")
    norms = [w for name, w in load_file(checkpoint / "model.safetensors").items() if "router_norm" in name]
    assert all((w < 0).any() and (w > 0).any() for w in norms)


def test_only_stock_operators(exported):
    model = onnx.load(exported("mla", "int8")[1], load_external_data=False)
    onnx.checker.check_model(str(exported("mla", "int8")[1]), full_check=True)
    assert {node.domain for node in model.graph.node} == {"", "com.microsoft"} and not model.functions
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QMoE") == kinds.count("GroupQueryAttention") == 2


def test_skipped_logits_are_zero_and_chunks_do_not_matter(exported):
    session = OnnxSession(exported("gqa", "int8")[1], plain=True)
    ids = token_ids(40)
    whole, _ = session.step(ids)
    session.reset()
    parts = torch.cat([session.step(ids[i : i + 8], logits_start=3)[0] for i in range(0, 40, 8)])
    for i in range(40):
        if i % 8 < 3:
            assert not parts[i].any()
        else:
            assert (parts[i] - whole[i]).abs().max() < 0.1 * whole[i].abs().max()


def test_checked_export(tiny_checkpoint, tmp_path, capsys):
    assert export(tiny_checkpoint(), tmp_path / "onnx", "--heldout-tokens", "300") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["nodes"]["QMoE"] == 2 and result["delegates"] == {"domain com.microsoft": 1}
    assert abs(result["perplexity"]["increase"]) < 0.01 and result["parity"]["program_vs_eager"] < 0.15
    assert {path.name for path in (tmp_path / "onnx").iterdir()} >= {"model.onnx", "model.onnx.data", "tokenizer.json"}


@pytest.mark.parametrize("config, quant, sentence", [
    ({}, "fp32", "choose --quant int8 or int4"),
    (dict(hidden_size=40, num_attention_heads=4), "int8", "multiples of 16"),
])
def test_what_the_operators_cannot_hold_is_refused(tiny_checkpoint, tmp_path, capsys, config, quant, sentence):
    assert export(tiny_checkpoint(**config), tmp_path / "onnx", "--quant", quant, "--check", "none") == 1
    assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_weights_keep_the_numbers_of_every_format(exported):
    """The packed values of one matrix, unpacked here, against the quantizer."""
    from export.quantize import quantize_weight

    checkpoint, path = exported("gqa", "int4")
    graph = onnx.load(path).graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    node = [n for n in graph.node if n.op_type == "MatMulNBits"][-1]  # the head
    values, scales = (weights[name] for name in node.input[1:3])
    low_high = np.stack([values & 15, values >> 4], axis=-1).reshape(len(values), -1).astype(np.float64) - 8
    restored = low_high * np.repeat(scales, 32, axis=1)
    decoder = Decoder(open_checkpoint(checkpoint), "int4", CONTEXT)
    want = quantize_weight(decoder.lm_head, "int4").dequantize().numpy() * decoder.logits_scale
    assert np.allclose(restored[:, : want.shape[1]], want, rtol=1e-6, atol=0)
