"""Mixed precision: attention, embedding and head finer than the experts, in both formats; int8 caches."""

import json
from pathlib import Path

import pytest
import torch

from export import command, quality, to_executorch, to_onnx
from export.decoder import Decoder
from runtime_delegates.onnx_session import OnnxSession
from runtime_delegates.session import Session
from tests.export.test_to_executorch import CONTEXT, FLAVOURS
from training.checkpoint import open_checkpoint

CASES = [("mla", "int4", "int8"), ("gqa", "int4", "int8"), ("gqa", "int8", "fp32"), ("dense", "int4", "int8")]
GOLDEN = quality.Golden.of(320, 3)


def export(module, checkpoint, output, capsys, *options):
    """(exit status, the JSON line)."""
    code = module.main([str(checkpoint), "-o", str(output), "--max-context", str(CONTEXT), "--check", "none", *options])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def eager(checkpoint, quant, attention_quant):
    return quality.run_decoder(Decoder(open_checkpoint(checkpoint), quant, CONTEXT, attention_quant), GOLDEN)


@pytest.mark.parametrize("flavour, quant, attention", CASES)
def test_every_runtime_computes_the_mixed_model(tiny_checkpoint, backend, tmp_path, capsys, flavour, quant, attention):
    checkpoint = tiny_checkpoint(**FLAVOURS[flavour])
    mixed = ("--quant", quant, "--attention-quant", attention)
    code, result = export(to_executorch, checkpoint, tmp_path / "model.pte", capsys, *mixed)
    assert code == 0 and (result["quant"], result["attention_quant"]) == (quant, attention)
    assert export(to_onnx, checkpoint, tmp_path / "onnx", capsys, *mixed)[0] == 0
    program = quality.run_session(Session(tmp_path / "model.pte"), GOLDEN)
    onnx = quality.run_session(OnnxSession(tmp_path / "onnx" / "model.onnx", threads=1), GOLDEN)
    assert all(torch.equal(a, b) for a, b in zip(program, onnx, strict=True))
    bodies = quality.run_session(OnnxSession(tmp_path / "onnx" / "model.onnx", threads=1, plain=True), GOLDEN)
    want = eager(checkpoint, quant, attention)
    for got in (program, bodies):
        for a, b in zip(got, want, strict=True):
            quality.worst_difference(a, b, quality.bounds_of(quant, 2), "the mixed program")
    # Nearer to it than to the model with one precision, and nearer to float32 than that one.
    same, exact = eager(checkpoint, quant, quant)[1], eager(checkpoint, "fp32", "fp32")[1]
    assert (program[1] - want[1]).norm() < 0.5 * (program[1] - same).norm()
    assert (program[1] - exact).norm() < (same - exact).norm()


@pytest.mark.parametrize("module", [to_executorch, to_onnx])
def test_matrices_have_the_bytes_of_their_precision(tiny_checkpoint, backend, tmp_path, capsys, module):
    sizes = {}
    for name, options in (("int8", ()), ("int4", ("--quant", "int4")), ("mixed", ("--quant", "int4", "--attention-quant", "int8"))):
        sizes[name] = export(module, tiny_checkpoint(), tmp_path / name, capsys, *options)[1]["weight_bytes"]
    for operator, size in sizes["mixed"].items():
        assert size == sizes["int4" if operator == "chunk_sparse_ffn" else "int8"][operator], operator
    assert sizes["mixed"]["linear"] != sizes["int4"]["linear"] and sizes["mixed"]["chunk_sparse_ffn"] != sizes["int8"]["chunk_sparse_ffn"]


@pytest.mark.parametrize("attention", ["int8", "fp32"])
def test_stock_operators_hold_the_mixed_model(tiny_checkpoint, tmp_path, capsys, attention):
    checkpoint = tiny_checkpoint()
    mixed = ("--quant", "int4", "--attention-quant", attention, "--ffn", "qmoe")
    assert export(to_onnx, checkpoint, tmp_path / "onnx", capsys, *mixed)[0] == 0
    got = quality.run_session(OnnxSession(tmp_path / "onnx" / "model.onnx", threads=1, plain=True), GOLDEN)
    for a, b in zip(got, eager(checkpoint, "int4", attention), strict=True):
        quality.worst_difference(a, b, quality.bounds_of("int4", 2), "stock operators")


def test_the_checks_compare_with_the_mixed_model(tiny_checkpoint, backend, tmp_path, capsys):
    code = to_executorch.main([str(tiny_checkpoint()), "-o", str(tmp_path / "model.pte"), "--quant", "int4", "--attention-quant", "fp32",
                               "--max-context", str(CONTEXT), "--heldout-tokens", "300"])
    out = capsys.readouterr().out
    assert code == 0 and "int4; attention, embedding and head fp32" in out
    assert json.loads(out.splitlines()[-1])["parity"]["eager_vs_reference"] < 1e-4


def test_names_say_both_precisions(tiny_checkpoint, backend, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint = tiny_checkpoint().resolve()
    for options, name in ((("--attention-quant", "int8"), "model-int4-attention-int8.pte"), (("--attention-quant", "int4"), "model-int4.pte")):
        assert to_executorch.main([str(checkpoint), "--quant", "int4", "--check", "none", *options]) == 0
        assert (Path("out") / checkpoint.name / name).is_file()


@pytest.mark.parametrize("options, sentence", [
    (("--quant", "int8", "--attention-quant", "int4"), "coarser than --quant int8"),
    (("--target", "{checkpoint}", "--attention-quant", "int8", "--quant", "int4"), "one precision"),
    (("--attention-quant", "fp16"), "invalid choice"),
])
def test_bad_arguments(tiny_checkpoint, capsys, options, sentence):
    checkpoint = tiny_checkpoint()
    with pytest.raises(SystemExit) as stop:
        to_executorch.main([str(checkpoint), *(option.format(checkpoint=checkpoint) for option in options)])
    assert stop.value.code == 2 and sentence in capsys.readouterr().err


def test_packed_bytes_are_estimated_for_both_precisions(tiny_checkpoint):
    decoder = Decoder(open_checkpoint(tiny_checkpoint()), "int4", CONTEXT, "int8")
    whole = {quant: command.packed_bytes(decoder, quant) for quant in ("int4", "int8")}
    assert whole["int4"] < command.packed_bytes(decoder, "int4", "int8") < whole["int8"]
    with pytest.raises(ValueError, match="unknown quantization 'int5'"):
        Decoder(open_checkpoint(tiny_checkpoint()), "int4", CONTEXT, "int5")


@pytest.mark.parametrize("flavour, quant", [("mla", "int8"), ("gqa", "fp32"), ("dense", "int4")])
def test_a_program_with_an_int8_cache_computes_the_rounded_model(tiny_checkpoint, backend, tmp_path, capsys, flavour, quant):
    checkpoint = tiny_checkpoint(**FLAVOURS[flavour])
    code, result = export(to_executorch, checkpoint, tmp_path / "model.pte", capsys, "--quant", quant, "--kv", "int8")
    assert code == 0 and result["kv"] == "int8"
    got = quality.run_session(Session(tmp_path / "model.pte"), GOLDEN)
    want, plain = (quality.run_decoder(Decoder(open_checkpoint(checkpoint), quant, CONTEXT, kv_quant=kv), GOLDEN)
                   for kv in ("int8", "fp32"))
    for a, b in zip(got, want, strict=True):
        quality.worst_difference(a, b, quality.bounds_of("int8" if quant == "fp32" else quant, 2), "the program")
    assert (got[1] - want[1]).norm() < 0.5 * (got[1] - plain[1]).norm()


def test_int8_caches_are_for_models_alone(tiny_checkpoint, capsys):
    with pytest.raises(SystemExit):
        to_executorch.main([str(tiny_checkpoint()), "--target", str(tiny_checkpoint()), "--kv", "int8"])
    assert "--kv is for models" in capsys.readouterr().err
    with pytest.raises(ValueError, match="choose fp32, int8"):
        Decoder(open_checkpoint(tiny_checkpoint()), "int8", CONTEXT, kv_quant="int4")
