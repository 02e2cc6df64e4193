"""The training command end to end on tiny shards: resuming, processes, failures, outputs."""

import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from training import state
from training.benchmark import RandomTokens
from training.checkpoint import open_checkpoint
from training.train_config import TrainConfig
from training.curves import read_metrics
from training.data import prepare
from training.dataset import TokenDataset
from training.model import CausalLM
from training.step import BatchCounts, TrainStep
from training.train import main

ROOT = Path(__file__).resolve().parents[2]
SEQ = 32
VOLATILE = {"tokens_per_s"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shards of documents of few words, some shorter than a chunk; a held-out split."""
    folder, rng = tmp_path_factory.mktemp("text"), random.Random(0)
    words = ["river", "stone", "bird", "light", "seven", "under", "north", "quiet"]
    for name, count in (("train", 150), ("heldout", 25)):
        rows = [{"text": " ".join(rng.choice(words) for _ in range(rng.randint(3, 60)))} for _ in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare([str(folder / "train.jsonl")], str(folder / "shards"), heldout=[str(folder / "heldout.jsonl")],
            vocab_size=280, workers=1)
    return folder / "shards"


@pytest.fixture
def write_config(data, tmp_path):
    def write(**changes) -> Path:
        values = {"data": str(data), "out_dir": str(tmp_path / "run"), "seq_len": SEQ, "global_batch_tokens": SEQ * 4,
                  "micro_batch_size": 2, "steps": 12, "lr": 1e-2, "precision": "fp32", "device": "cpu",
                  "cs_chunk_len": 8, "cs_adapt_after": 3, "cs_adapt_every": 3, "lambda_cs": 0.1, "log_every": 1,
                  "checkpoint_every": 5, "ce_chunk_tokens": 40, "final_dtype": "fp32",
                  "model": {"vocab_size": 280, "hidden_size": 16, "dim_model_base": 16, "num_hidden_layers": 2,
                            "num_attention_heads": 2, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 4,
                            "qk_rope_head_dim": 4, "num_experts": 6, "expert_size": 8,
                            "max_position_embeddings": 64}} | changes
        path = tmp_path / f"config{len(list(tmp_path.glob('config*')))}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path
    return write


def run(config: Path, capsys, *overrides) -> dict:
    arguments = [item for override in overrides for item in ("--set", override)]
    assert main([str(config), *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def rows_of(out_dir) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in VOLATILE}
            for row in read_metrics(Path(out_dir) / "metrics.jsonl")]


def command(config: Path, *overrides, processes: int = 1) -> list[str]:
    launch = [sys.executable, "-m", "training.train"]
    if processes > 1:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
                  "-m", "training.train"]
    return launch + [str(config)] + [item for override in overrides for item in ("--set", override)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in open_checkpoint(folder).tensors.items()}


# ---- a whole run ----

def test_run_writes_everything_and_learns(write_config, data, tmp_path, capsys):
    summary = run(write_config(), capsys, "steps=60")
    out = tmp_path / "run"
    rows = rows_of(out)
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert rows[-1]["ce"] < 2.5 < rows[0]["ce"], "words of a small vocabulary are learnt quickly"
    assert all(0 <= row["tls"] <= 1 and 0 <= row["cls8"] <= row["tls"] + 0.2 for row in rows)
    assert (out / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list((out / "tensorboard").iterdir()) and not list(out.rglob("*.part"))
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [path.name for path in state.find_checkpoints(out)] == ["step_00000055", "step_00000060"]

    # The final checkpoint is what was trained: its held-out loss, recomputed in float64 from its logits.
    checkpoint = open_checkpoint(out / "final")
    assert (out / "final" / "tokenizer.json").exists()
    model, dataset = CausalLM.from_checkpoint(checkpoint), TokenDataset(data, "heldout", SEQ)
    total, count = 0.0, 0
    for window in range(len(dataset)):
        ids, docs = dataset.batch([window])
        log_p = model.logits(model(ids[:, :-1]).hidden)[0].double().log_softmax(dim=-1)
        for t in range(SEQ):
            if docs[0, t] == docs[0, t + 1] and docs[0, t] >= 0:
                total, count = total - float(log_p[t, ids[0, t + 1]]), count + 1
    assert count == summary["heldout_tokens"]
    assert abs(total / count - summary["heldout_loss"]) <= 1e-5
    assert abs(math.exp(total / count) - summary["heldout_perplexity"]) <= 1e-3


@pytest.mark.parametrize("ffn_type", ["block_linear", "block"])
def test_a_run_starts_from_the_weights_of_a_checkpoint(write_config, capsys, tmp_path, ffn_type):
    first = run(write_config(steps=30), capsys, f"model.ffn_type={ffn_type}")
    values = yaml.safe_load(write_config().read_text())
    del values["model"]
    config = tmp_path / "further.yaml"
    config.write_text(yaml.safe_dump(values | {"init_from": first["checkpoint"], "out_dir": str(tmp_path / "further"), "lr": 1e-9,
                                               "steps": 7, "weight_decay": 0.0}))
    again = run(config, capsys)  # with no learning rate worth the name: the same model
    assert again["parameters"] == first["parameters"] and abs(again["heldout_loss"] - first["heldout_loss"]) < 1e-4
    assert open_checkpoint(tmp_path / "further/final").config.ffn_type == ffn_type
    before, after = weights(tmp_path / "run/final"), weights(tmp_path / "further/final")
    assert all((before[name] - after[name]).abs().max() < 1e-6 for name in before)
    (tmp_path / "run/final").rename(tmp_path / "moved")
    assert main([str(config), "--set", "model.num_experts=6"]) == 1  # resumed with a model section: not this run's configuration
    assert "model." in capsys.readouterr().err


def test_a_checkpoint_to_start_from_must_exist_and_fit(write_config, capsys, tmp_path):
    first = run(write_config(steps=1), capsys)
    for overrides, message in (([f"init_from={first['checkpoint']}", "model.num_experts=5"], "does not fit"),
                               ([f"init_from={first['checkpoint']}", "model.ffn_type=vanilla", "model.intermediate_size=8"], "leave that section"),
                               ([f"init_from={tmp_path}/none"], "not a directory")):
        arguments = [item for override in [*overrides, f"out_dir={tmp_path}/other"] for item in ("--set", override)]
        assert main([str(write_config()), *arguments]) == 1
        message_shown = capsys.readouterr().err
        assert message in message_shown and "Traceback" not in message_shown


def test_the_two_losses_raise_sparsity(write_config, capsys, tmp_path):
    config = write_config(steps=40)
    base = run(config, capsys, "lambda_al=0", "lambda_cs=0", f"out_dir={tmp_path}/a")
    both = run(config, capsys, "lambda_al=0.01", "lambda_cs=1", f"out_dir={tmp_path}/b")
    assert both["heldout_cls8"] > base["heldout_cls8"] + 0.1
    assert both["heldout_tls"] > base["heldout_tls"]


def test_dense_twin_trains(write_config, capsys, tmp_path):
    summary = run(write_config(), capsys, "model.ffn_type=vanilla", "model.intermediate_size=32",
                  "model.attention_type=vanilla", "model.num_key_value_heads=1", "model.tie_word_embeddings=false")
    assert "heldout_tls" not in summary and summary["heldout_loss"] < 6
    assert rows_of(tmp_path / "run")[-1]["al"] == 0.0


# ---- one loss, however it is computed ----

@pytest.mark.parametrize("change", ["micro_batch_size=4", "micro_batch_size=1", "activation_checkpointing=true",
                                    "ce_chunk_tokens=7"])
def test_execution_choices_do_not_change_the_losses(write_config, capsys, tmp_path, change):
    config = write_config(steps=6)
    run(config, capsys, f"out_dir={tmp_path}/one")
    run(config, capsys, f"out_dir={tmp_path}/two", change)
    compare_rows(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), 1e-4)


def compare_rows(one: list[dict], two: list[dict], relative: float) -> None:
    assert len(one) == len(two) > 0
    for a, b in zip(one, two):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert abs(value - b[key]) <= relative * max(abs(value), 0.01), f"step {a['step']}, {key}"


@pytest.mark.parametrize("per_layer", [False, True])
def test_the_step_is_captured_as_whole_graphs(write_config, monkeypatch, per_layer):
    """torch.compile without a break and with equal gradients (traced only: no C++ compiler needed)."""
    config = TrainConfig.from_yaml(write_config())
    model = CausalLM(config.model)
    model.init_weights(0)
    step = TrainStep(model, config, torch.device("cpu"))
    ids, docs = RandomTokens(280, SEQ).batch([20, 21, 22])  # a border of its documents of 700 is inside
    counts = torch.tensor(BatchCounts.of(docs, config.cs_chunk_len), dtype=torch.float32)
    assert counts[0] < 3 * SEQ

    def gradients():
        model.zero_grad()
        loss, stats = step(ids, docs, counts, torch.tensor(0.1))
        loss.backward()
        return [stats, *(parameter.grad.clone() for parameter in model.parameters())]

    want = gradients()
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode=None, **options: real(f, backend="aot_eager", **options))
    for layer in model.model.layers:
        monkeypatch.setattr(layer, "compile", lambda mode=None, layer=layer, **options: layer.__setattr__(
            "forward", real(layer.forward, backend="aot_eager", **options)))
    step.compile("default", per_layer)
    for got, expected in zip(gradients(), want):
        assert bool(((got - expected).abs() <= 1e-6 + 1e-4 * expected.abs()).all())


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes_follow_the_losses_of_one(write_config, capsys, tmp_path, engine):
    """Also: a checkpoint of two processes resumes in one."""
    config = write_config(steps=6, checkpoint_every=3)
    run(config, capsys, f"out_dir={tmp_path}/one")
    both = subprocess.run(command(config, f"out_dir={tmp_path}/two", f"parallel={engine}", processes=2), cwd=ROOT,
                          capture_output=True, text=True, timeout=200)
    assert both.returncode == 0, both.stderr[-3000:]
    summaries = [json.loads(line) for line in both.stdout.splitlines() if line.startswith("{")]
    assert len(summaries) == 1, "only one process reports"
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    compare_rows(one, two, 1e-4)
    final, want = weights(tmp_path / "two/final"), weights(tmp_path / "one/final")
    assert all(bool(((final[name] - want[name]).abs() <= 2e-3).all()) for name in want) and final.keys() == want.keys()

    newest = state.find_checkpoints(tmp_path / "two")[-1]
    newest.rename(newest.with_name("dropped"))
    run(config, capsys, f"out_dir={tmp_path}/two")
    compare_rows(one, rows_of(tmp_path / "two"), 1e-4)


# ---- interrupted and resumed ----

def start_and_signal(config: Path, out_dir: Path, rows: int, number: int, *overrides) -> subprocess.Popen:
    """Start the command and send a signal once it has written so many rows."""
    process = subprocess.Popen(command(config, f"out_dir={out_dir}", *overrides), cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while len(read_metrics(out_dir / "metrics.jsonl")) < rows:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    process.output = process.communicate(timeout=120)
    return process


def test_killed_then_terminated_it_resumes_to_exactly_the_same_losses(write_config, capsys, tmp_path):
    config = write_config(steps=80, checkpoint_every=4, cs_adapt_every=10)
    out = tmp_path / "killed"
    assert start_and_signal(config, out, 18, signal.SIGKILL).returncode == -signal.SIGKILL
    assert not (out / "final").exists()
    killed_at = int(state.find_checkpoints(out)[-1].name[len(state.PREFIX):])
    assert killed_at % 4 == 0 and 12 <= killed_at < 80

    terminated = start_and_signal(config, out, 31, signal.SIGTERM, "checkpoint_every=1000")
    assert terminated.returncode == 0 and f"resuming after step {killed_at} " in terminated.output[1]
    report = json.loads(terminated.output[0].splitlines()[-1])
    assert report["status"] == "interrupted" and report["signal"] == "SIGTERM" and 31 <= report["step"] < 80
    assert len(rows_of(out)) == report["step"] and not (out / "final").exists()

    run(config, capsys, f"out_dir={out}")
    run(config, capsys, f"out_dir={tmp_path}/whole", "checkpoint_every=80")
    assert rows_of(out) == rows_of(tmp_path / "whole")
    resumed, whole = weights(out / "final"), weights(tmp_path / "whole/final")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_crash_while_saving_leaves_the_checkpoint_before(write_config, capsys, tmp_path, monkeypatch):
    config, out = write_config(), tmp_path / "run"

    def disk_full(tensors, path):  # as the library itself meets it
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            real(tensors, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    real = state.save_tensors
    monkeypatch.setattr(state, "save_tensors", lambda t, p: (real if "step_00000005" in str(p) else disk_full)(t, p))
    assert main([str(config)]) == 1
    assert "state.safetensors: not written" in (message := capsys.readouterr().err) and "Traceback" not in message
    assert [path.name for path in state.find_checkpoints(out)] == ["step_00000005"] and not (out / "final").exists()
    assert not list(out.rglob("*.part"))
    monkeypatch.undo()
    run(config, capsys)
    run(config, capsys, f"out_dir={tmp_path}/whole")
    assert rows_of(out) == rows_of(tmp_path / "whole") and not list(out.rglob("*.part"))


def test_a_finished_run_can_be_repeated(write_config, capsys):
    config = write_config()
    first, again = run(config, capsys), run(config, capsys)
    assert again["heldout_loss"] == first["heldout_loss"] and again["step"] == 12


@pytest.mark.parametrize("change, named", [("lr=0.02", "lr (was 0.01, now 0.02)"), ("seed=7", "seed"),
                                           ("model.expert_size=4", "model.expert_size")])
def test_a_changed_configuration_is_refused_by_name(write_config, capsys, tmp_path, change, named):
    config = write_config(steps=6)
    run(config, capsys)
    before = (tmp_path / "run/metrics.jsonl").read_text()
    assert main([str(config), "--set", change]) == 1
    assert named in capsys.readouterr().err
    assert (tmp_path / "run/metrics.jsonl").read_text() == before


def test_display_keys_may_change_on_resume(write_config, capsys):
    config = write_config(steps=6)
    run(config, capsys)
    run(config, capsys, "log_every=3", "keep_checkpoints=1")


def test_a_damaged_checkpoint_is_named(write_config, capsys, tmp_path):
    config = write_config(steps=6)
    run(config, capsys)
    newest = state.find_checkpoints(tmp_path / "run")[-1]
    for name in ("state.safetensors", "state.json"):  # cut short
        whole = (newest / name).read_bytes()
        (newest / name).write_bytes(whole[:len(whole) // 2])
        assert main([str(config)]) == 1
        assert f"{newest} is damaged" in capsys.readouterr().err
        (newest / name).write_bytes(whole)
    run(config, capsys)


# ---- failures ----

def test_a_loss_that_is_not_finite_stops_the_run(write_config, capsys, tmp_path, monkeypatch):
    from training.trainer import Trainer
    real, calls = Trainer.train_step, []

    def poisoned(self, *arguments):
        calls.append(1)
        if len(calls) == 8:
            with torch.no_grad():
                self.model.model.norm.weight.fill_(float("nan"))
        return real(self, *arguments)

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    assert main([str(write_config(log_every=100, steps=50, cs_adapt_every=100))]) == 1
    message = capsys.readouterr().err
    assert "error: step 8: loss is nan" in message and "lower lr" in message and "Traceback" not in message
    assert [path.name for path in state.find_checkpoints(tmp_path / "run")] == ["step_00000005"]
    assert len(rows_of(tmp_path / "run")) == 7 and not (tmp_path / "run/final").exists()


def test_divergence_stops_the_run(write_config, capsys):
    assert main([str(write_config(lr=100.0, steps=200, warmup_fraction=0.2, divergence_steps=5))]) == 1
    assert "above its minimum" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["--set", "learning_rate=1"], "did you mean"), (["--set", "data=nowhere"], "training.data prepare"),
    (["--set", "cs_chunk_len=7"], "divisor of seq_len"), (["--benchmark", "0"], "at least 1")])
def test_bad_arguments_exit_with_2(write_config, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main([str(write_config()), *arguments])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_small_vocabulary_is_refused(write_config, capsys):
    assert main([str(write_config()), "--set", "model.vocab_size=100"]) == 1
    assert "set model.vocab_size=280" in capsys.readouterr().err


# ---- benchmark, configurations ----

def test_benchmark_counts_the_flops_of_the_configuration(write_config, capsys):
    assert main([str(write_config()), "--benchmark", "2"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    attention = 8 * 16 + 2 * (4 + 4) * 8 + (8 + 4) * 16 + 2 * (4 + 8) * 8 + 16 * 16  # q_a, q_b, kv_a, kv_b, o
    matrices = 2 * (attention + 6 * 16 + 2 * 6 * 8 * 16) + 280 * 16
    scores = 2 * 2 * (4 + 4 + 8) * SEQ / 2 * 2  # layers, heads, widths, causal half, multiply-add; once forward
    assert abs(result["gflop_per_token"] * 1e9 - (6 * matrices + 3 * scores)) < 1
    assert abs(result["mfu"] - result["tflops_per_device"] / result["matmul_peak_tflops"]) < 1e-9
    assert result["tokens_per_s"] > 0


def test_shipped_configurations_load_and_the_twin_has_equal_size():
    sizes = {}
    for path in sorted((ROOT / "training/configs").glob("*.yaml")):
        if path.stem.endswith("_draft"):  # tests/draft reads those
            continue
        config = TrainConfig.from_yaml(path)
        with torch.device("meta"):
            model = CausalLM(config.model)
        sizes[path.stem] = sum(parameter.numel() for parameter in model.parameters())
    assert 20e6 <= sizes["shipped"] <= 25e6
    assert abs(sizes["shipped_dense"] / sizes["shipped"] - 1) <= 1e-3
    assert 1.0e8 <= sizes["blockffn_0.1b"] <= 1.5e8
