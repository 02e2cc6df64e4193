"""Export of whole checkpoints to ONNX, the session that runs them, and damaged or missing files."""

import json
import os
import re
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.external_data_helper import ExternalDataInfo
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file, save_file

from export import quality, to_executorch, to_onnx
from export.decoder import Decoder, causal_chunk
from export.onnx_graph import INPUT_NAMES
from runtime_delegates.onnx_session import OnnxSession
from runtime_delegates.session import ContextFull, Session
from tests.export.test_to_executorch import CONTEXT, FLAVOURS, spelled, token_ids
from training.checkpoint import open_checkpoint

CASES = [("mla", "fp32"), ("mla", "int8"), ("gqa", "int4"), ("dense", "int8")]


def export(module, checkpoint, output, *options):
    return module.main([str(checkpoint), "-o", str(output), "--max-context", str(CONTEXT), *options])


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_checkpoint, backend):
    """exported(flavour, quant) -> (checkpoint, directory of the ONNX model); unchecked."""
    made = {}

    def make(flavour="mla", quant="int8"):
        if (flavour, quant) not in made:
            checkpoint = tiny_checkpoint(**FLAVOURS[flavour])
            output = tmp_path_factory.mktemp("export") / "onnx"
            assert export(to_onnx, checkpoint, output, "--quant", quant, "--check", "none") == 0
            made[flavour, quant] = checkpoint, output
        return made[flavour, quant]

    return make


@pytest.mark.parametrize("flavour, quant", CASES)
def test_same_bits_as_the_pte_and_close_to_eager(exported, tmp_path, flavour, quant):
    """Chunks, a tree, a kept branch; then single steps against one chunk."""
    checkpoint, directory = exported(flavour, quant)
    assert export(to_executorch, checkpoint, tmp_path / "model.pte", "--quant", quant, "--check", "none") == 0
    ours, theirs = OnnxSession(directory / "model.onnx", threads=2), Session(tmp_path / "model.pte")
    golden = quality.Golden.of(320, 3)
    got, want = quality.run_session(ours, golden), quality.run_session(theirs, golden)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    eager = quality.run_decoder(Decoder(open_checkpoint(checkpoint), quant, CONTEXT), golden)
    for a, b in zip(got, eager, strict=True):
        quality.worst_difference(a, b, quality.bounds_of(quant, 2), "ONNX Runtime")
    ids = token_ids(64)
    ours.reset()
    chunk = ours.step(ids)[0]
    ours.reset()
    assert torch.equal(torch.cat([ours.step([i])[0] for i in ids]), chunk)


@pytest.mark.parametrize("flavour, quant", [*CASES, ("mla", "int4")])
def test_without_our_library_the_same_file_gives_the_same_model(exported, flavour, quant):
    """The rounding of one activation may flip between the two, so the bounds are those of an export's parity check."""
    _, directory = exported(flavour, quant)
    golden = quality.Golden.of(320, 3)
    kernels = quality.run_session(OnnxSession(directory / "model.onnx"), golden)
    bodies = quality.run_session(OnnxSession(directory / "model.onnx", plain=True), golden)
    for a, b in zip(bodies, kernels, strict=True):
        quality.worst_difference(a, b, quality.bounds_of(quant, 2), "stock operators")


def test_the_graph_for_the_library_alone_is_small_and_gives_the_same_bits(exported):
    _, directory = exported("mla", "int8")
    golden = quality.Golden.of(320, 3)
    got, want = (quality.run_session(OnnxSession(directory / name, threads=1), golden) for name in ("model.library.onnx", "model.onnx"))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    graph = onnx.load(directory / "model.library.onnx", load_external_data=False).graph
    assert [tensor.name for tensor in graph.initializer] == ["program", "weights"]
    assert list(graph.initializer[1].dims) == [(directory / "model.onnx.data").stat().st_size]
    with pytest.raises(RuntimeError, match="cannot load this model .*decoder"):
        OnnxSession(directory / "model.library.onnx", plain=True)


def test_the_readmes_loop_over_plain_onnxruntime_gives_our_tokens(exported):
    _, directory = exported("mla", "int8")
    readme = (Path(__file__).parents[2] / "export/README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    setting = r'"out/blockffn-22m-docs/onnx-int8", "To install the package,", 40'
    prompt = "every byte counts " * 6  # longer than a chunk
    assert code.count(setting) == 1
    names: dict = {}
    exec(code.replace(setting, repr((str(directory), prompt, CONTEXT))), names)
    session, ids = OnnxSession(directory / "model.onnx"), names["ids"]
    prompt_tokens = 1 + len(names["tokenizer"].encode(prompt, add_special_tokens=False).ids)
    assert 64 < prompt_tokens < CONTEXT - 8 and len(ids) == CONTEXT
    for position in range(prompt_tokens):
        logits, _ = session.step(ids[position:position + 1])
    for token in ids[prompt_tokens:]:  # the functions round sums otherwise than our operator: no exact equality of logits
        best = int(logits[-1].argmax())
        assert token == best or logits[-1, best] - logits[-1, token] <= 0.05 * logits[-1].abs().max()
        logits, _ = session.step([token])


def test_the_reference_evaluator_runs_the_file(exported):
    _, directory = exported("mla", "fp32")
    session = OnnxSession(directory / "model.onnx")
    ids = token_ids(9)
    logits, hidden = session.step(ids)
    evaluator = ReferenceEvaluator(str(directory / "model.onnx"))
    caches = {i.name: np.zeros([d.dim_value for d in i.type.tensor_type.shape.dim], np.float32)
              for i in evaluator.proto_.graph.input if i.name.startswith("past_")}
    chunk = [x.numpy() for x in causal_chunk(ids)]
    got = evaluator.run(["logits", "hidden"], dict(zip(INPUT_NAMES, chunk, strict=True)) | caches)
    for a, b in zip(got, (logits, hidden), strict=True):
        quality.worst_difference(torch.from_numpy(a[0]), b, quality.bounds_of("fp32", 2), "the reference evaluator")


def test_the_model_is_valid_and_holds_the_packed_bytes_of_the_pte(exported, tmp_path):
    checkpoint, directory = exported("mla", "int8")
    onnx.checker.check_model(str(directory / "model.onnx"), full_check=True)
    model = onnx.load(directory / "model.onnx", load_external_data=False)
    assert [(node.domain, node.op_type) for node in model.graph.node] == [("blockffn", "decoder")]
    bodies = {function.name: function for function in model.functions}
    calls = [node.op_type for node in bodies.pop("decoder").node]
    assert len(calls) == 25 and set(calls) == set(bodies)
    assert all(node.domain == "" for body in bodies.values() for node in body.node), "an operator that is not stock"
    data = (directory / "model.onnx.data").read_bytes()
    program, *weights = model.graph.initializer
    assert program.name == "program" and len(program.raw_data) < 1e5
    for tensor in weights:
        info = ExternalDataInfo(tensor)
        assert info.offset % 64 == 0 and info.offset + info.length <= len(data)
    assert export(to_executorch, checkpoint, tmp_path / "model.pte", "--check", "none") == 0
    assert data in (tmp_path / "model.pte").read_bytes()


def test_every_spelling_gives_the_same_model(tiny_checkpoint, backend, tmp_path):
    block, models = tiny_checkpoint(ffn_type="block"), set()
    for spelling in ("block", "block_linear", "fastmoe", "megablocks", "bin", "sharded"):
        source = block if spelling == "block" else spelled(block, tmp_path / spelling, spelling)
        output = tmp_path / f"{spelling}-onnx"
        assert export(to_onnx, source, output, "--check", "none") == 0
        models.add(tuple((output / name).read_bytes() for name in ("model.onnx", "model.onnx.data", "model.library.onnx")))
    assert len(models) == 1


def test_checked_export_reports_what_it_found(tiny_checkpoint, backend, tmp_path, capsys):
    output = tmp_path / "new" / "onnx"
    assert export(to_onnx, tiny_checkpoint(), output, "--heldout-tokens", "300") == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    names = {"model.onnx", "model.onnx.data", "model.library.onnx", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    assert {path.name for path in output.iterdir()} == names
    assert [path.name for path in output.parent.iterdir()] == ["onnx"]
    assert result["onnx_bytes"] == sum((output / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert result["nodes"] == {"embedding": 1, "logits": 1, "rms_norm": 7, "linear": 8, "mla_attention": 2, "add": 4,
                               "chunk_sparse_ffn": 2}
    assert result["parity"]["eager_vs_reference"] < 1e-4 and abs(result["perplexity"]["increase"]) < 0.01
    assert "chunk_sparse_ffn" in out and "ONNX Runtime kernels" in out
    session = OnnxSession(output / "model.onnx")
    assert (session.max_chunk, session.max_context, session.vocab_size) == (64, CONTEXT, 320)
    assert (session.bos_id, session.eos_ids) == (1, [2])


def test_an_earlier_export_is_replaced_and_a_failed_one_keeps_it(tiny_checkpoint, backend, tmp_path, capsys):
    output = tmp_path / "onnx"
    assert export(to_onnx, tiny_checkpoint(), output, "--check", "none") == 0
    before = (output / "model.onnx.data").read_bytes()
    failing = ("--quant", "int4", "--heldout-tokens", "300", "--max-perplexity-increase", "-1")
    assert export(to_onnx, tiny_checkpoint(), output, *failing) == 1
    assert "perplexity" in capsys.readouterr().err
    assert (output / "model.onnx.data").read_bytes() == before and list(tmp_path.iterdir()) == [output]
    assert export(to_onnx, tiny_checkpoint(), output, "--quant", "int4", "--check", "none") == 0
    assert (output / "model.onnx.data").read_bytes() != before and list(tmp_path.iterdir()) == [output]


def test_a_directory_with_other_files_is_refused(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "thesis.txt").write_text("mine")
    assert export(to_onnx, tiny_checkpoint(), tmp_path / "onnx", "--check", "none") == 1
    assert "thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "onnx" / "thesis.txt").read_text() == "mine" and len(list(tmp_path.rglob("*"))) == 2


def test_ctrl_c_and_damaged_weights_leave_nothing(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    source = shutil.copytree(tiny_checkpoint(), tmp_path / "ckpt")
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj"][0, 0] = float("nan")
    save_file(tensors, source / "model.safetensors")
    assert export(to_onnx, source, tmp_path / "onnx", "--check", "none") == 1
    assert "damaged" in capsys.readouterr().err and list(tmp_path.iterdir()) == [source]

    monkeypatch.setattr("export.onnx_graph.onnx.checker.check_model", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert export(to_onnx, tiny_checkpoint(), tmp_path / "onnx", "--check", "none") == 1
    assert "interrupted" in capsys.readouterr().err and list(tmp_path.iterdir()) == [source]


def test_a_missing_library_is_found_before_the_work(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BLOCKFFN_ORT_LIB", str(tmp_path / "none.so"))
    monkeypatch.setattr("export.onnx_graph.write_onnx", None)  # must not be reached
    assert export(to_onnx, tiny_checkpoint(), tmp_path / "onnx") == 1
    assert "make build" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported("mla", "int8")[1], tmp_path / "onnx")


def test_missing_and_truncated_weights_are_one_sentence(copied):
    data = copied / "model.onnx.data"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(RuntimeError, match="cannot load this model .*export it again"):
        OnnxSession(copied / "model.onnx")
    data.unlink()
    with pytest.raises(RuntimeError, match="cannot load this model .*export it again"):
        OnnxSession(copied / "model.onnx")
    with pytest.raises(RuntimeError, match="no such file"):
        OnnxSession(copied / "none.onnx")


@pytest.mark.parametrize("magic, offset, value, sentence", [
    (b"BFMX", 0, b"XXXX", "load this model .*matrix"),
    (b"BFMX", 12, b"\xff\xff\xff\0", "load this model .*truncated"),
    (b"BFFF", 4, b"\x63\0", "load this model .*packed FFN has an unknown format version"),
])
def test_damaged_weights_are_a_status(copied, magic, offset, value, sentence):
    data = bytearray((copied / "model.onnx.data").read_bytes())
    at = data.index(magic) + offset
    data[at : at + len(value)] = value
    (copied / "model.onnx.data").write_bytes(data)
    with pytest.raises(RuntimeError, match=sentence):
        OnnxSession(copied / "model.onnx").step([1, 2])


def test_misaligned_weights_are_a_status(copied):
    """The runtime maps external data at any offset; kernels need 64 bytes."""
    model = onnx.load(copied / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer[1:]:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(int(entry.value) + 1)
    onnx.save(model, copied / "model.onnx")
    (copied / "model.onnx.data").write_bytes(b"\0" + (copied / "model.onnx.data").read_bytes())
    with pytest.raises(RuntimeError, match="multiple of 64 bytes"):
        OnnxSession(copied / "model.onnx").step([1, 2])


def test_sessions_do_not_share_a_context_and_run_at_once(exported):
    _, directory = exported("mla", "int8")
    ids = token_ids(60)
    expected = OnnxSession(directory / "model.onnx").step(ids)[0]
    results = {}

    def run(name):
        session = OnnxSession(directory / "model.onnx", threads=2)
        results[name] = torch.cat([session.step(ids[i : i + 3])[0] for i in range(0, 60, 3)])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and all(torch.equal(r, expected) for r in results.values())


def test_the_context_is_counted(exported):
    session = OnnxSession(exported("mla", "int8")[1] / "model.onnx")
    session.prefill(token_ids(CONTEXT))
    with pytest.raises(ContextFull):
        session.step([1])


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="needs Linux's memory accounting")
def test_weights_stay_in_the_mapped_file(tiny_checkpoint, backend, tmp_path):
    """Loading and running costs no anonymous memory of the weights' size, and reads them from the mapping."""
    from export.resources import anonymous_bytes

    checkpoint = tiny_checkpoint(hidden_size=512, num_experts=64, expert_size=128, tokenizer=False)
    assert export(to_onnx, checkpoint, tmp_path / "onnx", "--quant", "fp32", "--check", "none") == 0
    data = tmp_path / "onnx" / "model.onnx.data"
    assert data.stat().st_size > 60e6
    OnnxSession(tmp_path / "onnx" / "model.onnx").step([1])  # the runtime's own memory
    before = anonymous_bytes()
    session = OnnxSession(tmp_path / "onnx" / "model.onnx", threads=1)
    session.step([1, 2, 3])
    assert anonymous_bytes() - before < 0.05 * data.stat().st_size
    assert str(data.resolve()) in open("/proc/self/maps", encoding="utf-8").read()
    assert np.isfinite(session.step([4])[0].numpy()).all()
