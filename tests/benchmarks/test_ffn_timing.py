"""ffn_timing.cc: a small layer, checked and timed with every variant of this processor."""

import json
import os
import shutil
import subprocess

import pytest

from tests.kernels import arm


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    sources = [arm.ROOT / "benchmarks" / "ffn_timing.cc", *sorted(arm.KERNELS.rglob("*.cc"))]
    return arm.build(tmp_path_factory.mktemp("timing") / "ffn_timing", compiler, sources, "-O1", "-pthread")


def run(program, *arguments):
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=120)


def test_times_what_it_has_checked(program):
    small = ["--size", "128,32,4", "--layers", "2", "--rounds", "1", "--tokens", "1,8", "--kernels", "portable"]
    for threads in ("1", "2"):
        done = run(program, *small, "--threads", threads, "--json")
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["rows"]
        assert [(r["weights"], r["tokens"]) for r in rows] == [(w, t) for w in ("int8", "int4") for t in (1, 8)]
        assert all(0 < r["error"] < 0.03 and r["least_us"] > 0 for r in rows)


@pytest.mark.parametrize("bad", [["--tokens", "65"], ["--size", "100,32,4"], ["--weights", "int2"], ["--rounds"], ["--x", "1"]])
def test_bad_arguments(program, bad):
    done = run(program, *bad)
    assert done.returncode == 2 and "usage" in done.stderr
