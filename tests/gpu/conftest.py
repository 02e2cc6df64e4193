"""Fixtures of the GPU's tests: lavapipe, Mesa's software Vulkan driver, and the program that runs steps on it."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.delegate.conftest import lowered  # noqa: F401  a fixture

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build-gpu"
HEADER = Path("/usr/include/vulkan/vulkan_core.h")


def lavapipe():
    """The driver's description; a skip, or in CI a failure, without it."""
    found = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    if found and HEADER.is_file():
        return found[0]
    need = "apt install mesa-vulkan-drivers vulkan-validationlayers libvulkan1 libvulkan-dev glslc spirv-tools spirv-cross"
    if os.environ.get("CI"):
        pytest.fail(f"the GPU's tests need {need}")
    pytest.skip(f"NOT TESTED: the GPU. Needed: {need}")


def environment(**more):
    """Only lavapipe, one thread, its compiled shaders kept in the build folder."""
    return os.environ | {
        "VK_ICD_FILENAMES": str(lavapipe()),
        "LP_NUM_THREADS": "1",
        "MESA_SHADER_CACHE_DIR": str(BUILD / "mesa"),
        "BLOCKFFN_CACHE_DIR": str(BUILD),
    } | more


@pytest.fixture(scope="session")
def run_step():
    """run_step(device, program, weights, steps, *options, **environment) -> (outputs per step or sentence, JSON, text)."""
    from filelock import FileLock

    lavapipe()
    tools = Path(sys.executable).parent
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    cmake, ninja = shutil.which("cmake", path=path), shutil.which("ninja", path=path)
    BUILD.mkdir(exist_ok=True)
    with FileLock(BUILD / ".lock"):
        subprocess.run([cmake, "-S", ROOT / "runtime_delegates", "-B", BUILD, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}",
                        "-DBLOCKFFN_EXECUTORCH=OFF", "-DBLOCKFFN_ONNXRUNTIME=OFF"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([cmake, "--build", BUILD, "--target", "blockffn_run_step"], check=True, stdout=subprocess.DEVNULL)

    def run(device, files, steps, *options, check=True, **more):
        out = Path(f"{steps}.out")
        done = subprocess.run([BUILD / "blockffn_run_step", device, f"{files}.program", f"{files}.weights", steps, out, *options],
                              env=environment(**more), capture_output=True, text=True, timeout=300)
        if not check:
            return done
        assert done.returncode == 0, done.stderr
        return read_outputs(out), json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr

    run.program = BUILD / "blockffn_run_step"
    return run


def read_outputs(path):
    """Every output of every step in order; a refused step is its sentence."""
    data, at, out = Path(path).read_bytes(), 0, []
    while at < len(data):
        (n,) = struct.unpack_from("<I", data, at)
        at += 4
        if n == 0xFFFFFFFF:
            (n,) = struct.unpack_from("<I", data, at)
            out.append(data[at + 4 : at + 4 + n].decode())
            at += 4 + n
        else:
            out.append(np.frombuffer(data, "<f4", n, at))
            at += 4 * n
    return out


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """files(name, module, example) -> path prefix of the module's .program and .weights."""
    from tests.delegate.programs import lower_to_blobs

    made = {}

    def make(name, module, example):
        if name not in made:
            prefix = tmp_path_factory.mktemp("gpu") / name
            program, weights = lower_to_blobs(module, example)
            Path(f"{prefix}.program").write_bytes(program)
            Path(f"{prefix}.weights").write_bytes(weights)
            made[name] = prefix
        return made[name]

    return make


def write_steps(path, steps):
    """Steps of (tokens, inputs), as run_step.cc reads them."""
    out = struct.pack("<I", len(steps))
    for tokens, inputs in steps:
        out += struct.pack("<2I", tokens, len(inputs))
        for x in inputs:
            data = x.contiguous().numpy().tobytes()
            out += struct.pack("<I", len(data)) + data
    Path(path).write_bytes(out)
    return path
