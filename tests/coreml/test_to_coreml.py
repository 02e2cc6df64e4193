"""The export command: its checks, what they catch, and what it leaves behind."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from export import coreml_compress, coreml_decoder, coreml_graph, to_coreml
from export.coreml_executorch import extract_package, pte_metadata
from export.coreml_session import CoreMLSession
from tests.coreml.conftest import CONTEXT, PACKAGES, export


SMALL = dict(num_hidden_layers=1, attention_type="vanilla", num_key_value_heads=2)  # files and faults do not depend on the layers


def result_of(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_flags_are_frozen():
    """Scripts depend on them: add, but do not rename or change a default."""
    actions = {action.option_strings[-1] if action.option_strings else action.metavar: action.default
               for action in to_coreml.build_parser()._actions}
    actions.pop("--heldout")
    assert actions == {
        "--help": "==SUPPRESS==", "CKPT": None, "--output": None, "--quant": "int8", "--max-context": None, "--check": "full",
        "--heldout-tokens": 4096, "--max-perplexity-increase": None, "--ffn": "dense", "--gather-experts": "auto",
        "--gather-chunk": None, "--executorch": False,
    }
    assert to_coreml.MAX_INCREASE == {"fp16": 0.005, "int8": 0.01, "int4": 0.05, "palette4": 0.08}


def test_other_commands_do_not_import_coremltools():
    code = "import sys, export.to_executorch, export.to_onnx, export.to_coreml, export.command; " \
           "sys.exit('coremltools' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=to_coreml.command.ROOT)


@pytest.mark.parametrize("name", ["fp16", "int8", "int4", "palette4", "fp16 none", "int8 dense"])
def test_checked_export_reports_what_it_found(exported, name):
    one = exported(name)
    assert {path.name for path in one.package.parent.iterdir()} == {
        "model.mlpackage", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    assert one.result["mlpackage_bytes"] == sum(file.stat().st_size for file in one.package.rglob("*") if file.is_file())
    parity = one.result["parity"]
    assert 1e-5 < parity["program_vs_eager"] < 0.02 and parity["eager_vs_reference"] < 1e-5
    assert ("constexpr" in one.table) == (one.quant != "fp16") and "linear" in one.table and "Core ML kernels" not in one.table
    session = CoreMLSession(one.package)
    assert (session.max_chunk, session.max_context, session.vocab_size) == (64, CONTEXT, 320)
    assert (session.bos_id, session.eos_ids) == (1, [2])
    gathers = "--ffn" in PACKAGES[name][1]
    assert one.result["delegates"] == {"Core ML main+dense" if gathers else "Core ML main": 1}
    if name == "int4":  # the one with a full check, and with measured room
        measured = one.result["perplexity"]
        assert measured["tokens"] == 300 and abs(measured["increase"]) < 0.05
        assert 0 <= measured["overflowed_chunks"] <= 0.1 * measured["gathered_chunks"] < measured["chunks"]
    else:
        assert one.result["perplexity"] is None


def test_the_two_functions_share_their_weights(exported, tiny_checkpoint, tmp_path):
    assert export(tiny_checkpoint(num_hidden_layers=1), tmp_path / "alone.mlpackage", "--quant", "palette4", "--check", "none") == 0
    alone, both = (next(p.rglob("weight.bin")).stat().st_size
                   for p in (tmp_path / "alone.mlpackage", exported("palette4").package))
    assert both < 1.1 * alone


@pytest.mark.parametrize("config, quant, matrices, check", [
    (dict(), "palette4", 9, ("--heldout-tokens", "100")),
    (dict(attention_type="vanilla", num_key_value_heads=2, tie_word_embeddings=False), "int4", 8, ("--check", "parity")),
])
def test_the_same_program_for_executorch(tiny_checkpoint, tmp_path, capsys, config, quant, matrices, check):
    """The package taken out of the .pte again, with all its checks; the eager side never sees its update of the cache."""
    output = tmp_path / "model.pte"
    assert export(tiny_checkpoint(**config, num_hidden_layers=1), output, "--executorch", "--quant", quant, *check) == 0
    result = result_of(capsys)
    assert result["delegates"] == {"ExecuTorch CoreMLBackend": 1} and result["pte_bytes"] == output.stat().st_size
    assert 1e-5 < result["parity"]["program_vs_eager"] < 0.02
    assert (result["perplexity"] or {"tokens": 100})["tokens"] == 100
    assert sum(n for kind, n in result["nodes"].items() if kind.startswith("constexpr_")) == matrices
    assert {path.name for path in tmp_path.iterdir()} == {"model.pte", "tokenizer.json", "tokenizer_config.json",
                                                          "generation_config.json"}
    session = CoreMLSession(extract_package(output, tmp_path / "extracted"), pte_metadata(output))
    assert session.lengths == [1, 2, 4, 8, 16, 32, 64] and (session.bos_id, session.eos_ids) == (1, [2])
    one, many = session.step([5]), session.step([6, 7, 8])
    session.reset()
    chunk = session.step([5, 6, 7, 8])[0]
    torch.testing.assert_close(torch.cat([one[0], many[0]]), chunk, atol=0.02 * float(chunk.abs().max()), rtol=0)


def refuse(checkpoint, tmp_path, capsys, message, *options):
    """The export fails with `message`, and leaves nothing, or what was there."""
    before = sorted(tmp_path.rglob("*"))
    assert export(checkpoint, tmp_path / "new" / "model.mlpackage", *options) == 1
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_weight_that_was_not_compressed_stops_the_export(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    find = coreml_compress.Compression.find
    monkeypatch.setattr(coreml_compress.Compression, "find",
                        lambda self, values: None if getattr(values, "shape", None) == (72, 48) else find(self, values))
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "1 weights were not compressed, the first is layers.0.mlp.up_proj.weight",
           "--quant", "palette4")


def test_a_compression_that_is_lost_when_saving_stops_the_export(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    """The count is taken from the saved package: here the pass reports all weights and rewrites none."""
    monkeypatch.setattr(coreml_graph, "pass_names", lambda: __import__("coremltools").PassPipeline.DEFAULT.passes)
    monkeypatch.setattr(coreml_compress.Compression, "require_all",
                        lambda self: self.found.update(self._names.values()))
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "0 of 7 weights are compressed in function main", "--quant", "int8")


@pytest.mark.parametrize("fault", ["rows are not moved", "mask is ignored", "residual"])
def test_parity_catches_a_wrong_program(tiny_checkpoint, tmp_path, capsys, monkeypatch, fault):
    convert, Chunk = coreml_graph.convert, coreml_decoder.Chunk
    start, update = Chunk.__init__, Chunk.update

    def unmoved(self, cache, rows):
        self.moves_WW = torch.eye(64)
        update(self, cache, rows)

    def unmasked(self, n_past, tree_mask, *rest):
        start(self, n_past, tree_mask * 0 + 1, *rest)

    def wrong(decoder):
        with monkeypatch.context() as patch:
            if fault == "rows are not moved":
                patch.setattr(Chunk, "update", unmoved)
            elif fault == "mask is ignored":
                patch.setattr(Chunk, "__init__", unmasked)
            else:
                decoder.layers[0].residual_scale *= 1.1
            return convert(decoder)

    monkeypatch.setattr(coreml_graph, "convert", wrong)
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "of the program against eager PyTorch", "--quant", "fp16", "--check", "parity")


def test_failures_leave_nothing(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "perplexity", "--heldout-tokens", "200", "--max-perplexity-increase", "-1")
    refuse(tiny_checkpoint(ffn_type="vanilla", **SMALL), tmp_path, capsys, "cannot be gathered from a dense model", "--ffn", "gather")
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "7 experts cannot be gathered from 6", "--ffn", "gather", "--gather-experts", "7")
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "need --ffn gather", "--gather-experts", "3")
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "1 to 64 tokens", "--ffn", "gather", "--gather-chunk", "65")
    refuse(tiny_checkpoint(tokenizer=False, **SMALL), tmp_path, capsys, "give numbers with --gather-experts", "--ffn", "gather")
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "needs --ffn dense", "--executorch", "--ffn", "gather")
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "16 bits", "--max-context", "40000")
    source = shutil.copytree(tiny_checkpoint(**SMALL), tmp_path / "ckpt")
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.0.mlp.down_proj"][0, 0] = float("nan")
    save_file(tensors, source / "model.safetensors")
    refuse(source, tmp_path, capsys, "damaged", "--check", "none")
    monkeypatch.setattr(coreml_graph, "inventory", lambda *_: signal.raise_signal(signal.SIGINT))
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "interrupted; nothing was written", "--check", "none")


def test_an_earlier_package_is_replaced_and_anything_else_is_not(tiny_checkpoint, tmp_path, capsys):
    output = tmp_path / "model.mlpackage"
    assert export(tiny_checkpoint(**SMALL), output, "--check", "none") == 0
    before = next(output.rglob("weight.bin")).read_bytes()
    failing = ("--quant", "int4", "--heldout-tokens", "200", "--max-perplexity-increase", "-1")
    assert export(tiny_checkpoint(**SMALL), output, *failing) == 1
    assert next(output.rglob("weight.bin")).read_bytes() == before
    assert export(tiny_checkpoint(**SMALL), output, "--quant", "int4", "--check", "none") == 0
    assert next(output.rglob("weight.bin")).stat().st_size < len(before)
    assert {path.name for path in tmp_path.iterdir()} == {"model.mlpackage", "tokenizer.json", "tokenizer_config.json",
                                                          "generation_config.json"}
    (output / "thesis.txt").write_text("mine")
    assert export(tiny_checkpoint(**SMALL), output, "--check", "none") == 1
    assert "thesis.txt" in capsys.readouterr().err and (output / "thesis.txt").exists()


def test_without_coremltools_it_says_where_there_are_wheels(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    refuse(tiny_checkpoint(**SMALL), tmp_path, capsys, "it has wheels for x86-64 Linux and macOS")
