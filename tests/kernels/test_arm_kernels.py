"""Every micro-kernel variant against the float64 oracle: natively, and ARM's under qemu.

The cases are written once (cases.py) and read by kernels_test.cc, which is built for this machine and, with Debian's
g++-aarch64-linux-gnu and qemu-user-static, for ARM. Where CI is set, missing tools are a failure.
"""

import json
import os
import platform
import shutil
import subprocess

import pytest

from tests.kernels import arm
from tests.kernels.cases import write_cases

FAULTS = ("after", "before", "nan", "value", "chunk", "quantize", "silu", "dots", "dots together", "axpy", "softmax", "weighted_sum")
CPUS = {  # qemu's model: the variants that it must run, best first
    "cortex-a72": ["neon", "portable"],
    "cortex-a76": ["dotprod", "neon", "portable"],
    "max,sve=off": ["i8mm", "dotprod", "neon", "portable"],
    "max,sme=off": ["i8mm", "dotprod", "neon", "portable"],
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    path = tmp_path_factory.mktemp("cases")
    assert write_cases(path) == 19
    return path


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    return [arm.build_kernels_test(tmp_path_factory.mktemp("native"), compiler)]


@pytest.fixture(scope="module")
def cross_built(tmp_path_factory):
    arm.require_tools()
    return arm.build_kernels_test(tmp_path_factory.mktemp("arm"), arm.COMPILER)


def run(command, *arguments):
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def check(command, cases):
    done = run(command, cases)
    assert done.returncode == 0, done.stderr or f"signal {-done.returncode}"
    result = json.loads(done.stdout)
    assert result["cases"] == 19 * len(result["variants"])
    return result["variants"]


def test_variants_of_this_machine(native, cases):
    variants = check(native, cases)
    assert variants[-1] == "portable"
    if platform.machine() == "x86_64":
        assert not {"neon", "dotprod", "i8mm"} & set(variants)


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(native, cases, fault):
    done = run(native, cases, "--plant", fault)
    # A write behind the last row of a buffer that ends at its page is a fault of the processor.
    assert done.returncode == 1 and done.stderr or fault == "after" and done.returncode < 0, done


@pytest.mark.parametrize("cpu", CPUS)
def test_arm_variants(cross_built, cases, cpu):
    assert check(arm.emulator(cpu) + [cross_built], cases) == CPUS[cpu]


@pytest.mark.parametrize("fault", ["variant", "chunk"])
def test_planted_faults_are_found_on_arm(cross_built, cases, fault):
    done = run(arm.emulator("max,sve=off") + [cross_built], cases, "--plant", fault)
    assert done.returncode == 1 and done.stderr, done
