"""A C++ host of ONNX Runtime: the operators as a library and linked in, on this machine and on emulated 64-bit ARM.

The ARM runtime is the aarch64 wheel's; the library and the host are cross-compiled (Debian's g++-aarch64-linux-gnu).
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.decoder import Decoder
from export.onnx_graph import write_onnx
from runtime_delegates.onnx_model import OnnxModel, operator_library
from tests.kernels import arm
from tests.onnx.releases import ROOT, fetch
from training.checkpoint import open_checkpoint

SOURCES = [ROOT / "tests/onnx/host.cc", ROOT / "runtime_delegates/onnxruntime/decoder.cc"]
# As ARM calls its processor in /proc/cpuinfo; the runtime asks there, and would find this machine's.
CPUINFO = "".join(f"""processor\t: {i}
BogoMIPS\t: 48.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd0b
CPU revision\t: 0

""" for i in range(4))
QUANTS = ("fp32", "int8", "int4")


def steps():
    """A chunk, a tree, a step that keeps one of its branches, and one more: the inputs of each."""
    def row(*values):
        return np.array(values, dtype=np.int64)

    def keep(*rows):
        return row(*rows, *[-1] * (64 - len(rows)))

    yield (row(*range(5, 45))[None], row(*range(40)), row(0), row(*((2 << i) - 1 for i in range(40))), keep(), row(0))
    yield (row(7, 8, 9, 10, 11)[None], row(40, 41, 41, 42, 42), row(40), row(1, 3, 5, 11, 21), keep(), row(0))
    yield row(12)[None], row(43), row(43), row(1), keep(0, 2, 4), row(0)
    yield row(13, 14)[None], row(44, 45), row(44), row(1, 3), keep(), row(0)


@pytest.fixture(scope="module")
def models(tiny_checkpoint, backend, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for quant in QUANTS:
        (folder / quant).mkdir()
        write_onnx(Decoder(open_checkpoint(tiny_checkpoint()), quant, 96), folder / quant / "model.onnx")
    return folder


def expected(path):
    """What the Python binding gives, flattened as the host writes it."""
    model = OnnxModel(path, threads=1)
    return np.concatenate([array.flatten() for step in steps() for array in model.run_chunk(*step)])


def run(command, model, how, output, **environment):
    text = "\n".join(" ".join(str(v) for array in step for v in array.ravel()) for step in
                     ((np.array([len(step[1])]), *step) for step in steps()))
    done = subprocess.run([*map(str, command), model, how, output], input=text, text=True, capture_output=True,
                          env=os.environ | environment)
    return done, np.fromfile(output, np.float32) if done.returncode == 0 else None


def capi(folder):
    return next((Path(folder) / "capi").glob("libonnxruntime.so.*"))


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """(host without operators, host with the operators linked in), each before its runtime."""
    folder, build = tmp_path_factory.mktemp("host"), operator_library().parent
    include = f"-I{ROOT / 'runtime_delegates/onnxruntime'}"
    plain, linked = (arm.build(folder / name, os.environ.get("CXX", "c++"), sources, include, *flags) for name, sources, flags in (
        ("plain", SOURCES[:1], ["-ldl"]),
        ("linked", [*SOURCES, build / "libblockffn_core.a"], ["-DLINKED_IN", "-rdynamic", "-ldl", "-pthread"])))
    runtime = capi(Path(onnxruntime.__file__).parent)
    return [plain, runtime], [linked, runtime]


@pytest.mark.parametrize("quant", QUANTS)
def test_library_and_linked_in_operators_give_the_same_bits(native, models, tmp_path, quant):
    plain, linked = native
    model = models / quant / "model.onnx"
    want = expected(model)
    for command, how in ((plain, operator_library()), (linked, "call"), (linked, "name")):
        done, got = run(command, model, how, tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert np.array_equal(got, want), how


def test_without_registration_the_name_is_not_found(native, models, tmp_path):
    done, _ = run(native[0], models / "int8" / "model.onnx", "name", tmp_path / "out")
    assert done.returncode == 1 and "RegisterCustomOps" in done.stderr


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """(host and library for ARM under qemu)."""
    arm.require_tools()
    sysroot = Path("/usr/aarch64-linux-gnu")
    core = arm.cross_build(tmp_path_factory)
    folder = tmp_path_factory.mktemp("arm")
    host = folder / "host"
    subprocess.run([arm.COMPILER, *arm.FLAGS, "-DLINKED_IN", "-rdynamic", f"-I{ROOT / 'runtime_delegates/onnxruntime'}",
                    *map(str, SOURCES), str(core / "libblockffn_core.a"), "-ldl", "-pthread", "-o", str(host)], check=True)
    prefix = folder / "prefix"
    for name, text in (("proc/cpuinfo", CPUINFO), ("sys/devices/system/cpu/possible", "0-3\n"),
                       ("sys/devices/system/cpu/present", "0-3\n"), ("sys/devices/system/cpu/kernel_max", "3\n")):
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text(text)
    (prefix / "lib").symlink_to(sysroot / "lib")
    runtime = capi(fetch(onnxruntime.__version__, "--python-platform", "aarch64-manylinux_2_28") / "onnxruntime")
    return [arm.EMULATOR, "-cpu", "cortex-a76", "-L", prefix, host, runtime], core / "libblockffn_onnxruntime.so"


@pytest.mark.parametrize("quant", QUANTS)
def test_arm_gives_the_same_outputs(emulated, models, tmp_path, quant):
    """Integer sums are exact; float32 ones are ordered by the kernels, and differ by rounding."""
    command, library = emulated
    model = models / quant / "model.onnx"
    want = expected(model)
    bound = 1e-4 * np.abs(want).max() + 1e-5
    results = {}
    for how in (library, "call", "name"):
        done, results[how] = run(command, model, how, tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == onnxruntime.__version__
        assert results[how].shape == want.shape and (np.abs(results[how] - want) <= bound).all()
    assert np.array_equal(results[library], results["call"]) and np.array_equal(results["name"], results["call"])
