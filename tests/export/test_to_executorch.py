"""Export of whole checkpoints: the program that comes out, and what refuses to come out."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from executorch.exir._serialize._program import deserialize_pte_binary
from safetensors.torch import load_file, save_file

from export import quality, to_executorch
from export.decoder import Decoder
from export.lower import FORMAT_VERSION, lower
from runtime_delegates import session as runtime
from runtime_delegates.session import Session
from tests.export import model_oracle
from training.checkpoint import open_checkpoint
from training.draft_files import fingerprint

FLAVOURS = {
    "mla": dict(rope_scaling={"type": "dynamic", "factor": 3.0}, max_position_embeddings=64),
    "gqa": dict(attention_type="vanilla", num_key_value_heads=2, tie_word_embeddings=False, norm_after_router="sum"),
    "dense": dict(ffn_type="vanilla", attention_type="vanilla", rope_scaling={"type": "linear", "factor": 2.0}),
}
CONTEXT = 128


def export(checkpoint, output, *options):
    """Exit status of the command, run in this process."""
    return to_executorch.main([str(checkpoint), "-o", str(output), "--max-context", str(CONTEXT), *options])


def result_of(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_checkpoint, backend):
    """exported(flavour, quant) -> (checkpoint, program); each is made once, unchecked."""
    made = {}

    def make(flavour="mla", quant="int8"):
        if (flavour, quant) not in made:
            checkpoint = tiny_checkpoint(**FLAVOURS[flavour])
            output = tmp_path_factory.mktemp("program") / "model.pte"
            assert export(checkpoint, output, "--quant", quant, "--check", "none") == 0
            made[flavour, quant] = checkpoint, output
        return made[flavour, quant]

    return make


def token_ids(count, vocab_size=320):
    return torch.randint(vocab_size, (count,), generator=torch.Generator().manual_seed(count)).tolist()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_everything_is_in_one_delegate(exported, flavour):
    _, output = exported(flavour, "fp32")
    program = deserialize_pte_binary(output.read_bytes()).program
    plan = next(plan for plan in program.execution_plan if plan.name == "forward")
    calls = [type(i.instr_args).__name__ for chain in plan.chains for i in chain.instructions]
    assert calls == ["DelegateCall"]
    assert [delegate.id for delegate in plan.delegates] == ["BlockFFNBackend"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_float_program_is_the_model(exported, flavour):
    """Per element against the float64 oracle; chunks of several sizes and single steps give the same bits."""
    checkpoint, output = exported(flavour, "fp32")
    opened, session, ids = open_checkpoint(checkpoint), Session(output), token_ids(64)
    logits, hidden = session.step(ids)
    want_logits, want_hidden = model_oracle.forward(opened.config, opened.tensors, ids, max_context=CONTEXT)
    for got, want in ((logits, want_logits), (hidden, want_hidden)):
        got = got.double().numpy()
        assert not (~(np.abs(got - want) <= 3e-5 * np.abs(want).max(axis=-1, keepdims=True))).any()
    session.reset()
    steps = [session.step(ids[start:end])[0] for start, end in ((0, 1), (1, 3), (3, 10), (10, 18), (18, 63), (63, 64))]
    assert torch.equal(torch.cat(steps), logits)


@pytest.mark.parametrize("flavour, quant", [("mla", "int8"), ("gqa", "int4"), ("dense", "int8"), ("mla", "int4")])
def test_quantized_program_is_the_eager_decoder(exported, flavour, quant):
    """Where no activation is rounded differently the two agree as float32 does; elsewhere within the bounds."""
    checkpoint, output = exported(flavour, quant)
    session, decoder = Session(output), Decoder(open_checkpoint(checkpoint), quant, CONTEXT)
    exact = 0
    for seed in range(4):
        golden = quality.Golden.of(320, seed)
        got, want = quality.run_session(session, golden)[0], quality.run_decoder(decoder, golden)[0]
        quality.worst_difference(got, want, quality.bounds_of(quant, 2), "logits")
        scale = want.abs().amax(dim=-1, keepdim=True)
        exact += int(((got - want).abs() <= 1e-5 * scale).all(dim=-1).sum())
    assert exact >= 4, "no row agrees: this is not rounding"
    ids = token_ids(21)
    chunk = session.step(ids)[0]
    session.reset()
    assert torch.equal(torch.cat([session.step([i])[0] for i in ids]), chunk)


def spelled(source, directory, spelling):
    """A copy of a "block" checkpoint in another published spelling."""
    tensors = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    out = {}
    for name, tensor in tensors.items():
        up, down = name.endswith("mlp.up_proj"), name.endswith("mlp.down_proj")
        if (up or down) and spelling in ("block_linear", "sharded", "bin"):
            tensor = tensor.flatten(0, 1) if up else tensor.permute(1, 0, 2).flatten(1)
        elif (up or down) and spelling == "fastmoe":
            name = name.replace("mlp.", "mlp.experts.") + ".weight"
        elif (up or down) and spelling == "megablocks":
            name = name.replace("mlp.", "mlp.mlp.")
            tensor = (tensor if up else tensor.transpose(1, 2)).flatten(0, 1)
        out[name] = tensor.contiguous()
    config["ffn_type"] = "block_linear" if spelling in ("block_linear", "sharded", "bin") else "block"
    if spelling in ("fastmoe", "megablocks"):
        config |= {"block_implementation": spelling}
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    if spelling == "bin":
        torch.save(out, directory / "pytorch_model.bin")
    elif spelling == "sharded":
        names = sorted(out)
        files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
        for file in set(files.values()):
            save_file({name: out[name] for name in names if files[name] == file}, directory / file)
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    else:
        save_file(out, directory / "model.safetensors")
    for extra in source.glob("*tokenizer*"):
        shutil.copy(extra, directory)
    return directory


def test_every_spelling_gives_the_same_bytes(tiny_checkpoint, tmp_path):
    block = tiny_checkpoint(ffn_type="block")
    digests = {}
    for spelling in ("block", "block_linear", "fastmoe", "megablocks", "bin", "sharded"):
        source = block if spelling == "block" else spelled(block, tmp_path / spelling, spelling)
        output = tmp_path / f"{spelling}.pte"
        assert export(source, output, "--check", "none") == 0
        digests[spelling] = hashlib.sha256(output.read_bytes()).hexdigest()
    assert len(set(digests.values())) == 1, digests


def test_metadata(exported):
    checkpoint, output = exported("mla", "fp32")
    session, opened = Session(output), open_checkpoint(checkpoint)
    assert FORMAT_VERSION == runtime.FORMAT_VERSION
    assert (session.max_chunk, session.max_context, session.vocab_size) == (64, CONTEXT, 320)
    assert (session.bos_id, session.eos_ids) == (1, [2])
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(output)
    values = {name: program.load_method(name).execute([])[0] for name in program.method_names if name != "forward"}
    assert values == {
        "get_max_seq_len": 64, "get_max_context_len": CONTEXT, "get_vocab_size": 320, "get_bos_id": 1,
        "get_eos_ids": 2, "use_kv_cache": True, "enable_dynamic_shape": True, "use_sdpa_with_kv_cache": False,
        "get_blockffn_format_version": FORMAT_VERSION,
        "get_model_fingerprint": fingerprint(opened.tensors, opened.config),
        "get_tokenizer_fingerprint": int(hashlib.sha256((checkpoint / "tokenizer.json").read_bytes()).hexdigest(), 16) >> 193,
    }


def test_end_tokens_come_from_generation_config(tiny_checkpoint, tmp_path):
    checkpoint = shutil.copytree(tiny_checkpoint(), tmp_path / "chat")
    (checkpoint / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": [2, 7]}')
    assert export(checkpoint, tmp_path / "model.pte", "--check", "none") == 0
    assert Session(tmp_path / "model.pte").eos_ids == [2, 7]


def test_checked_export_reports_what_it_found(tiny_checkpoint, backend, tmp_path, capsys):
    output = tmp_path / "new" / "folder" / "model.pte"
    assert export(tiny_checkpoint(), output, "--heldout-tokens", "600") == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result["delegates"] == {"BlockFFNBackend": 1} and result["pte_bytes"] == output.stat().st_size
    # Two layers: per layer 2 norms, q_a norm, 4 linears, attention, FFN, 2 additions; embedding, last norm, logits.
    assert result["nodes"] == {"embedding": 1, "logits": 1, "rms_norm": 7, "linear": 8, "mla_attention": 2, "add": 4,
                               "chunk_sparse_ffn": 2}
    perplexity = result["perplexity"]
    assert perplexity["tokens"] == 600 and abs(perplexity["increase"]) < 0.01
    assert perplexity["increase"] == pytest.approx(perplexity["program"] / perplexity["float32"] - 1)
    assert result["parity"]["eager_vs_reference"] < 1e-4
    assert result["peak_anonymous_bytes"] > 0 and set(result["seconds"]) == {"open", "lower", "parity", "perplexity"}
    assert "chunk_sparse_ffn" in out and "perplexity" in out
    names = {path.name for path in output.parent.iterdir()}
    assert names == {"model.pte", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    from training.tokenizer import load_tokenizer

    assert load_tokenizer(output.parent).encode("chunk") == load_tokenizer(tiny_checkpoint()).encode("chunk")


@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_a_missed_perplexity_limit_leaves_nothing(tiny_checkpoint, backend, tmp_path, capsys, quant):
    options = ("--quant", quant, "--heldout-tokens", "300", "--max-perplexity-increase", "-1")
    assert export(tiny_checkpoint(), tmp_path / "new" / "model.pte", *options) == 1
    assert "perplexity" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    kept = tmp_path / "model.pte"
    kept.write_bytes(b"older program")
    assert export(tiny_checkpoint(), kept, *options) == 1
    assert kept.read_bytes() == b"older program" and list(tmp_path.iterdir()) == [kept]


def test_without_a_tokenizer_it_warns(tiny_checkpoint, backend, tmp_path, capsys):
    assert export(tiny_checkpoint(tokenizer=False), tmp_path / "model.pte") == 0
    captured = capsys.readouterr()
    assert "no tokenizer" in captured.err
    result = json.loads(captured.out.splitlines()[-1])
    assert result["perplexity"] is None and result["parity"] is not None
    assert [path.name for path in tmp_path.iterdir()] == ["model.pte"]


def test_a_context_beyond_the_trained_positions_is_told(tiny_checkpoint, backend, tmp_path, capsys):
    command = [str(tiny_checkpoint()), "--check", "none", "--max-context", "1000", "-o", str(tmp_path / "model.pte")]
    assert to_executorch.main(command) == 0
    assert "exceeds the 256 positions" in capsys.readouterr().err
    assert Session(tmp_path / "model.pte").max_context == 1000


def test_the_shipped_checkpoint_passes_its_checks(backend, tmp_path, capsys):
    shipped = to_executorch.ROOT / "checkpoints" / "blockffn-22m-docs"
    command = [str(shipped), "-o", str(tmp_path / "model.pte"), "--heldout-tokens", "1500"]
    assert to_executorch.main(command) == 0
    result = result_of(capsys)
    assert result["quant"] == "int8" and result["perplexity"]["increase"] < 0.01
    assert result["perplexity"]["float32"] < 30  # it has learnt something; untrained it would be about 8192


def test_all_wrong_tensors_are_listed(tiny_checkpoint, tmp_path, capsys):
    source = shutil.copytree(tiny_checkpoint(), tmp_path / "ckpt")
    tensors = load_file(source / "model.safetensors")
    del tensors["model.norm.weight"], tensors["model.layers.1.self_attn.o_proj.weight"]
    tensors["model.layers.0.input_layernorm.weight"] = torch.ones(3)
    tensors["surprise"] = torch.ones(1)
    save_file(tensors, source / "model.safetensors")
    assert export(source, tmp_path / "out" / "model.pte") == 1
    error = capsys.readouterr().err
    for name in ("model.norm.weight", "model.layers.1.self_attn.o_proj.weight", "input_layernorm", "surprise"):
        assert name in error
    assert not (tmp_path / "out").exists()


def test_missing_library_is_found_before_the_work(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BLOCKFFN_LIB", str(tmp_path / "none.so"))
    monkeypatch.setattr("export.lower.lower", None)  # must not be reached
    assert export(tiny_checkpoint(), tmp_path / "model.pte") == 1
    assert "make build" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_damaged_weights_fail_with_a_sentence(tiny_checkpoint, tmp_path, capsys):
    source = shutil.copytree(tiny_checkpoint(), tmp_path / "ckpt")
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj"][0, 0] = float("nan")
    save_file(tensors, source / "model.safetensors")
    assert export(source, tmp_path / "model.pte", "--check", "none") == 1
    assert "damaged" in capsys.readouterr().err and {p.name for p in tmp_path.iterdir()} == {"ckpt"}


def test_another_models_tokenizer_is_not_overwritten(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "tokenizer.json").write_text("{}")
    assert export(tiny_checkpoint(), tmp_path / "model.pte", "--check", "none") == 1
    assert "another model" in capsys.readouterr().err
    assert (tmp_path / "tokenizer.json").read_text() == "{}" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's memory accounting")
def test_weights_never_add_up_in_memory(tmp_path):
    """A 200 MB checkpoint, 400 MB when packed, is exported with a fraction of that in anonymous memory."""
    from export.resources import Costs, anonymous_bytes
    from tests.export.make_synthetic import RandomTensors
    from training.checkpoint import save_checkpoint
    from training.config import ModelConfig

    config = ModelConfig.from_dict(dict(hidden_size=768, num_experts=64, expert_size=400, num_hidden_layers=2,
                                        vocab_size=32000, num_attention_heads=6, tie_word_embeddings=True))
    save_checkpoint(tmp_path / "ckpt", config, RandomTensors(config))
    size = (tmp_path / "ckpt" / "model.safetensors").stat().st_size
    assert size > 200e6
    before = anonymous_bytes()
    with Costs() as costs:
        lower(Decoder(open_checkpoint(tmp_path / "ckpt"), "fp32", 4096), str(tmp_path / "model.pte"))
    assert (tmp_path / "model.pte").stat().st_size > 2 * size * 0.99
    assert costs.peak_anonymous_bytes - before < 0.4 * size
