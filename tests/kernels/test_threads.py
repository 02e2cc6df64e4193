"""The operators on 1 to 8 threads, with the sanitizers that the compiler has: threads_test.cc. Nothing else is linked, so
that ThreadSanitizer knows every lock."""

import json
import os
import shutil
import subprocess

import pytest

from tests.kernels import arm

SANITIZERS = {"thread": "thread", "address": "address,undefined,float-cast-overflow"}


@pytest.fixture(scope="module", params=SANITIZERS)
def program(request, tmp_path_factory):
    """(sanitizer, threads_test built with it)"""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    sources = [arm.ROOT / "tests" / "kernels" / "threads_test.cc", *sorted(arm.KERNELS.rglob("*.cc"))]
    flags = [f"-fsanitize={SANITIZERS[request.param]}", "-fno-sanitize-recover=all", "-g", "-pthread", "-O1"]
    flags += ["-Wno-tsan"] if request.param == "thread" else []
    output = tmp_path_factory.mktemp(request.param) / "threads_test"
    return request.param, arm.build(output, compiler, sources, *flags)


def run(program, *arguments):
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run([str(program), *arguments], env=environment, capture_output=True, text=True, timeout=300)


def test_threads_do_not_change_a_bit(program):
    done = run(program[1])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["variants"][-1] == "portable"
    # 2 precisions; 8 pools and 2 callers; 3 chunk lengths; with and without a pool; 3 operators, two of them twice
    assert result["checks"] == len(result["variants"]) * 2 * 10 * 3 * 2 * 5


def test_planted_faults_are_found(program):
    sanitizer, path = program
    assert "depend on the threads" in run(path, "--plant", "cut").stderr
    assert "wrote outside" in run(path, "--plant", "outside").stderr
    if sanitizer == "thread":
        assert "data race" in run(path, "--plant", "race").stderr
