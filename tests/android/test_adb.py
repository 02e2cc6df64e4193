"""adb_bench.py with a stand-in for adb: a shell script whose "phone" is a folder, and whose programs run under the shim."""

import json
import os
import subprocess
import sys

import pytest
from shipped import CHECKPOINT

from tests.conftest import ROOT

ADB = """#!/bin/sh
# adb: push copies into $PHONE, shell runs there; every call is noted.
echo "$@" >> "$PHONE/calls"
[ "$1" = -s ] && shift 2
case "$1" in
  push) mkdir -p "$PHONE$(dirname "$3")" && cp "$2" "$PHONE$3" ;;
  shell)
    case "$2" in
      "getprop ro.product.cpu.abi") echo x86_64 ;;
      getprop*) echo stand-in ;;
      mkdir*) mkdir -p "$PHONE/data/local/tmp/blockffn" ;;
      *) settings=${2#*LD_LIBRARY_PATH=. }
         cd "$PHONE/data/local/tmp/blockffn" && [ -f model.pte ] && [ -f libexecutorch_jni.so ] &&
           eval "exec env ${settings%%./blockffn-run*} $EMULATOR ./blockffn-run ${2#*./blockffn-run }" ;;
    esac ;;
esac
"""


@pytest.fixture
def phone(tmp_path, emulators):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adb").write_text(ADB)
    (tmp_path / "bin" / "adb").chmod(0o755)
    (tmp_path / "phone").mkdir()
    emulator = emulators["x86_64"]
    command = emulator.command(tmp_path / "none", libraries=tmp_path / "phone/data/local/tmp/blockffn")
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PHONE": str(tmp_path / "phone"), "EMULATOR": " ".join(command[:-1]), "SHIM_NPROC": "2"}


def bench(environment, *words):
    return subprocess.run([sys.executable, ROOT / "android_demo" / "adb_bench.py", *map(str, words)], capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=300)


def test_brings_the_benchmark_back(phone, shipped_program, tmp_path):
    done = bench(phone, shipped_program, "--tokenizer", CHECKPOINT / "tokenizer.json", "-o", tmp_path / "bench.json", "--", "--max-tokens", "16")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["abi"] == "x86_64" and result["device"] == "stand-in" and result["bench"]
    assert json.loads((tmp_path / "bench.json").read_text()) == result


def test_all_experts(phone, shipped_program, tmp_path):
    """Passed to the runner, which then reads every expert; without it, fewer. The JSON says which it was."""
    shares = {}
    for words in ([], ["--experts", "active"], ["--experts", "all"]):
        done = bench(phone, shipped_program, "--tokenizer", CHECKPOINT / "tokenizer.json", *words, "--", "--reps", "1", "--pp", "16", "--tg", "8")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        asked = words[-1] if words else "active"
        assert result["experts"] == asked
        assert f"--experts {asked} --bench" in (tmp_path / "phone/calls").read_text().splitlines()[-4]
        shares[len(words), asked] = [row["union_share"] for row in result["bench"]["rows"]]
    assert all(share == 1 for share in shares[2, "all"])
    assert shares[0, "active"][1] == shares[2, "active"][1] < 0.9  # a token a step
    refused = bench(phone, shipped_program, "--experts", "some")
    assert refused.returncode == 2 and "--experts" in refused.stderr


def test_the_gpu(phone, shipped_program):
    """Asked for on a phone without one: the run is the CPU's, and the JSON says so."""
    devices = []
    for words in ([], ["--device", "gpu"]):
        done = bench(phone, shipped_program, "--tokenizer", CHECKPOINT / "tokenizer.json", *words, "--", "--reps", "1", "--pp", "16", "--tg", "8")
        assert done.returncode == 0, done.stderr
        devices.append(json.loads(done.stdout.splitlines()[-1])["bench"]["device"])
    assert devices == ["cpu", "cpu: there is no Vulkan loader (libvulkan.so.1) on this system"]
    refused = bench(phone, shipped_program, "--device", "gpu", "--experts", "all")
    assert refused.returncode == 2 and "on the CPU alone" in refused.stderr


def test_help_says_what_dense_is():
    done = bench({}, "--help")
    assert done.returncode == 0 and "--experts" in done.stdout and "not another model" in done.stdout


def test_pushes_a_model_for_the_app(phone, shipped_program, tmp_path):
    done = bench(phone, shipped_program, "--tokenizer", CHECKPOINT / "tokenizer.json", "--app", "--serial", "abc")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "phone/sdcard/Android/data/org.blockffn.demo/files/models" / shipped_program.stem
    assert (folder / "model.pte").read_bytes() == shipped_program.read_bytes() and (folder / "tokenizer.json").exists()
    assert all(line.startswith("-s abc ") for line in (tmp_path / "phone/calls").read_text().splitlines())


def test_sentences(phone, shipped_program, tmp_path):
    assert "adb is missing" in bench({**phone, "PATH": str(tmp_path)}, shipped_program, "--tokenizer", CHECKPOINT / "tokenizer.json").stderr
    assert "does not exist" in bench(phone, tmp_path / "none.pte").stderr
    done = bench(phone, shipped_program, "--tokenizer", CHECKPOINT / "tokenizer.json", "--native", tmp_path)
    assert done.returncode == 1 and "native.py" in done.stderr
