"""The export command as a user starts it: its flags, exit statuses, signals and a full disk."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export import to_executorch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "export" / "to_executorch.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_flags_are_frozen():
    """Scripts depend on them: add, but do not rename or change a default."""
    actions = {action.option_strings[-1] if action.option_strings else action.metavar: action.default
               for action in to_executorch.build_parser()._actions}
    heldout = actions.pop("--heldout")
    assert actions == {
        "--help": "==SUPPRESS==", "CKPT": None, "--output": None, "--quant": "int8", "--max-context": None,
        "--check": "full", "--heldout-tokens": 4096, "--max-perplexity-increase": None, "--target": None, "--attention-quant": None,
        "--kv": "fp32",
    }
    assert [path.is_file() for path in heldout] == [True]
    assert to_executorch.MAX_INCREASE == {"fp32": 0.001, "int8": 0.01, "int4": 0.05}


@pytest.mark.parametrize("command", [[str(SCRIPT)], ["-m", "export.to_executorch"]])
def test_help_shows_an_example_from_any_directory(command, tmp_path):
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)} if command[0] == "-m" else ENVIRONMENT
    command = [sys.executable, *command, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0
    assert "python export/to_executorch.py checkpoints/" in done.stdout and "Exit status" in done.stdout


@pytest.mark.parametrize("options, message", [
    (["no/such/checkpoint"], "no/such/checkpoint"),
    ([".", "--quant", "int3"], "int3"),
    ([".", "--max-context", "63"], "at least 64"),
    ([".", "--heldout-tokens", "1"], "at least 2"),
    ([".", "--max-perplexity-increase", "nan"], "nan"),
    ([], "CKPT"),
])
def test_bad_arguments_exit_with_2(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        to_executorch.main(options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_an_empty_directory_is_an_error_that_says_what_belongs_there(tmp_path, capsys):
    (tmp_path / "ckpt").mkdir()
    assert to_executorch.main([str(tmp_path / "ckpt"), "-o", str(tmp_path / "out" / "model.pte")]) == 1
    assert "config.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_output_directory_is_refused(tiny_checkpoint, tmp_path, capsys):
    assert to_executorch.main([str(tiny_checkpoint()), "-o", str(tmp_path)]) == 1
    assert "is a directory" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_default_output_is_named_after_the_checkpoint(tiny_checkpoint, tmp_path, monkeypatch):
    checkpoint = tiny_checkpoint()
    monkeypatch.chdir(tmp_path)
    assert to_executorch.main([str(checkpoint), "--quant", "int4", "--check", "none"]) == 0
    assert (tmp_path / "out" / checkpoint.name / "model-int4.pte").is_file()


@pytest.fixture(scope="module")
def large_checkpoint(tmp_path_factory):
    """Large enough that packing takes a while: 60 MB, several seconds as int4."""
    from tests.export.make_synthetic import RandomTensors
    from training.checkpoint import save_checkpoint
    from training.config import ModelConfig

    config = ModelConfig.from_dict(dict(hidden_size=512, num_attention_heads=4, num_experts=40, expert_size=128,
                                        num_hidden_layers=4, vocab_size=16000))
    path = tmp_path_factory.mktemp("large") / "ckpt"
    save_checkpoint(path, config, RandomTensors(config))
    return path


def test_a_terminated_export_leaves_nothing(large_checkpoint, tmp_path):
    """As a script from another directory; the signal comes while weights are being packed."""
    output = tmp_path / "new" / "model.pte"
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(large_checkpoint), "-o", str(output), "--quant", "int4", "--check", "none"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=ENVIRONMENT,
    )
    deadline = time.monotonic() + 240
    while not any(file.stat().st_size > 1e6 for file in tmp_path.rglob("blockffn-weights-*")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.01)
    process.terminate()
    out, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    assert "interrupted; nothing was written" in error and out == ""
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    from export import program

    write = program.WeightsFile._write

    def write_and_interrupt(self, data):
        write(self, data)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(program.WeightsFile, "_write", write_and_interrupt)
    assert to_executorch.main([str(tiny_checkpoint()), "-o", str(tmp_path / "new" / "model.pte")]) == 1
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(large_checkpoint, tmp_path, capsys):
    """A limit on the size of files stands in for the disk; the system reports it at the same call."""
    before, limit = resource.getrlimit(resource.RLIMIT_FSIZE), 5_000_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        assert to_executorch.main([str(large_checkpoint), "-o", str(tmp_path / "model.pte"), "--check", "none"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("export failed") and "free space there" in last
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_told_before_the_work(tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    monkeypatch.setattr("export.lower.lower", None)  # must not be reached
    assert to_executorch.main([str(tiny_checkpoint()), "-o", str(tmp_path / "model.pte"), "--check", "none"]) == 1
    assert "1.0 kB free" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
