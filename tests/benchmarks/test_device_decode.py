"""The part of the decoding bundle that runs on another machine, with a stand-in for the runner."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "benchmarks" / "device_decode_run.py"
STAND_IN = """#!/bin/sh
text=hello; rate=100; a_cycle=1.0
case "$*" in *"--experts all"*) rate=50;; *"--drafter ngram"*) rate=300; a_cycle=2.5;; *"--drafter head"*) text=$HEAD_TEXT;; esac
echo "$text"
echo "{\\"generated_tokens\\": 11, \\"decode_tokens_per_s\\": $rate, \\"tokens_per_cycle\\": $a_cycle, \\"kernels\\": \\"none\\"}"
"""


@pytest.fixture
def bundle(tmp_path):
    shutil.copy(RUN, tmp_path / "run.py")
    (tmp_path / "prompts.json").write_text(json.dumps([["prose", "Once"], ["code", "def"]]))
    (tmp_path / "blockffn-run").write_text(STAND_IN)
    (tmp_path / "blockffn-run").chmod(0o755)
    return tmp_path


def run(bundle, head_text):
    command = [sys.executable, bundle / "run.py", "--out", bundle / "out", "--rounds", "2", "--precisions", "int8"]
    return subprocess.run(command, capture_output=True, text=True, env={"HEAD_TEXT": head_text, "PATH": "/usr/bin:/bin"})


def test_rates_are_compared(bundle):
    done = run(bundle, "hello")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("| int8")]
    assert rows == [["int8", "all", "50", "1.00", "1.00x", "0.50x"], ["int8", "sparse", "100", "1.00", "2.00x", "1.00x"],
                    ["int8", "ngrams", "300", "2.50", "6.00x", "3.00x"], ["int8", "best", "100", "1.00", "2.00x", "1.00x"],
                    ["int8", "head", "100", "1.00", "2.00x", "1.00x"]]
    assert len(json.loads((bundle / "out" / "decode.json").read_text())["samples"]) == 2 * 2 * 5


def test_another_text_fails(bundle):
    done = run(bundle, "goodbye")
    assert done.returncode == 1 and "differs" in done.stderr and not (bundle / "out").exists()
