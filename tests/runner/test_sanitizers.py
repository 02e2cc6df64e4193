"""Two runners at once, with a draft head, text and cancels, under AddressSanitizer and ThreadSanitizer."""

import os
import subprocess
import sys

import pytest

from runtime_delegates.runner import Runner
from tests.conftest import ROOT
from tests.runner.heads import Reference

PROMPT = [5, 9, 5, 9, 5, 9, 42]  # of two_runners.cc


@pytest.fixture(scope="module", params=["address", "thread"])
def driver(request, tmp_path_factory):
    build = tmp_path_factory.mktemp("build")
    tools = f"{sys.prefix}/bin"
    subprocess.run([f"{tools}/cmake", "-S", ROOT / "runtime_delegates", "-B", build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools}/ninja",
                    f"-DBLOCKFFN_SANITIZE={request.param}", "-DBLOCKFFN_RUNNER_DRIVER=ON", "-DBLOCKFFN_ONNXRUNTIME=OFF",
                    "-DCMAKE_BUILD_TYPE=", "-DCMAKE_CXX_FLAGS=-O1"], check=True, capture_output=True)
    done = subprocess.run([f"{tools}/cmake", "--build", build, "--target", "blockffn_two_runners", "-j2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    symbols = subprocess.run(["nm", "-D", build / "libblockffn_runner.so"], capture_output=True, text=True, check=True).stdout
    assert ("__tsan_" if request.param == "thread" else "__asan_") in symbols
    return build / "blockffn_two_runners"


def test_nothing_is_reported(driver, tiny_pte, tiny_checkpoint, tiny_tokenizer, tmp_path):
    pte = tiny_pte(quant="int8")
    head = Reference(tiny_checkpoint()).export(tmp_path / "head.pte", "int8")
    # A pool of one thread: ThreadSanitizer does not see how ExecuTorch's pool, which it has not built, synchronizes.
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=1"}
    done = subprocess.run([driver, pte, "1", head, tiny_tokenizer / "tokenizer.json"], env=environment, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Sanitizer" not in done.stderr
    assert [int(i) for i in done.stdout.split()] == Runner(pte).generate(PROMPT, 60, "plain").ids
