"""The runner for 64-bit ARM Linux, over ExecuTorch's own wheel for it, gives the desktop's tokens under qemu."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from runtime_delegates.runner import DEFAULT_LIBRARY, Runner
from tests.conftest import ROOT
from tests.kernels import arm
from tests.runner.heads import Reference
from tests.runner.test_sanitizers import PROMPT

BEST = {"cortex-a72": "neon", "cortex-a76": "dotprod", "max,sve=off": "i8mm"}
SYSROOT = Path("/usr/aarch64-linux-gnu")  # of Debian's cross compiler
BUILD = ROOT / "build" / "arm64"


@pytest.fixture(scope="session")
def executorch_arm64() -> Path:
    """The unpacked wheel, kept in the user's cache."""
    arm.require_tools()
    version = importlib.metadata.version("executorch")
    folder = Path(os.environ.get("BLOCKFFN_CACHE") or Path.home() / ".cache" / "blockffn") / f"executorch-{version}-aarch64"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            part = folder.with_name(folder.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            done = subprocess.run([f"{sys.prefix}/bin/uv", "pip", "install", "--quiet", "--target", part, "--python-platform", "aarch64-manylinux_2_28",
                                   "--python-version", "3.11", "--no-deps", "--only-binary", ":all:", f"executorch=={version}"],
                                  capture_output=True, text=True)
            if done.returncode:
                (pytest.fail if os.environ.get("CI") else pytest.skip)(f"executorch's wheel for aarch64 is missing: {done.stderr.strip()}")
            part.rename(folder)
    return folder / "executorch"


@pytest.fixture(scope="session")
def built(executorch_arm64) -> Path:
    """build/arm64 with the libraries, blockffn-run and the driver of two runners; kept between runs."""
    tools = f"{sys.prefix}/bin"
    options = {"CMAKE_MAKE_PROGRAM": f"{tools}/ninja", "CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": "aarch64",
               "CMAKE_CXX_COMPILER": arm.COMPILER, "CMAKE_CXX_FLAGS": "-Werror", "CMAKE_BUILD_TYPE": "Release", "BLOCKFFN_GPU": "OFF",
               "BLOCKFFN_ONNXRUNTIME": "OFF", "BLOCKFFN_RUNNER_DRIVER": "ON", "executorch_DIR": executorch_arm64 / "share" / "cmake",
               "CMAKE_FIND_ROOT_PATH_MODE_PACKAGE": "BOTH"}
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "lock"):
        for command in ([f"{tools}/cmake", "-S", ROOT / "runtime_delegates", "-B", BUILD, "-G", "Ninja", *(f"-D{k}={v}" for k, v in options.items())],
                        [f"{tools}/cmake", "--build", BUILD, "--target", "blockffn-run", "blockffn_two_runners"]):
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return BUILD


@pytest.fixture(scope="module")
def files(tiny_pte, tiny_checkpoint, tiny_tokenizer, tmp_path_factory) -> dict[str, tuple]:
    """{precision: (program, head)} beside the tokenizer's files."""
    made = {}
    for quant in ("int8", "int4"):
        folder = tmp_path_factory.mktemp(quant)
        for file in tiny_tokenizer.iterdir():
            shutil.copy(file, folder)
        shutil.copy(tiny_pte(quant=quant), folder / "model.pte")
        made[quant] = folder / "model.pte", Reference(tiny_checkpoint(), steps=30).export(folder / "head.pte", quant)
    return made


def emulated(cpu, executorch, *command) -> str:
    libraries = f"{executorch / 'lib'}:{BUILD}"
    done = subprocess.run([*arm.emulator(cpu), "-L", SYSROOT, "-E", f"LD_LIBRARY_PATH={libraries}", *command], capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("cpu", BEST)
def test_tokens_of_all_modes_and_drafters(built, executorch_arm64, files, tiny_tokenizer, cpu):
    """The driver runs two runners in two threads: plain, spec and auto; n-grams, a head and both; chains and trees; wrong
    trees; cancels. It prints the tokens that all runs agree on."""
    for quant in files if cpu == "cortex-a76" else ["int8"]:
        program, head = files[quant]
        printed = emulated(cpu, executorch_arm64, built / "blockffn_two_runners", program, "2", head, tiny_tokenizer / "tokenizer.json")
        assert [int(i) for i in printed.split()] == Runner(program).generate(PROMPT, 60, "plain").ids


def test_the_command_writes_the_desktops_text(built, executorch_arm64, files):
    program, head = files["int8"]
    command = [program, "--draft", head, "-p", "The runtime reads", "-n", "24"]
    for mode in ("plain", "spec"):
        want = subprocess.run([DEFAULT_LIBRARY.parent / "blockffn-run", *command, "--mode", mode], capture_output=True, text=True, check=True).stdout
        assert want.strip() and emulated("cortex-a76", executorch_arm64, built / "blockffn-run", *command, "--mode", mode) == want


def test_the_kernels_are_the_processors(built, executorch_arm64, files):
    for cpu, name in BEST.items():
        printed = emulated(cpu, executorch_arm64, built / "blockffn-run", files["int8"][0], "-p", "a", "-n", "1", "--json")
        assert json.loads(printed.splitlines()[-1])["kernels"] == name
