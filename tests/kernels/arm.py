"""Builds for 64-bit ARM with Debian's cross compiler and runs them under qemu. Linked statically: no ARM libraries are needed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
KERNELS = ROOT / "runtime_delegates" / "kernels"
COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64-static"
OPERATORS = {"attention.cc", "chunk_sparse_ffn.cc", "linear.cc"}  # which need more than a micro-kernel's test links
FLAGS = ["-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno"]  # as CMakeLists.txt


def require_tools() -> None:
    """Skips the test where the tools are missing; fails it there if the environment says CI."""
    missing = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
    if missing:
        reason = f"{', '.join(missing)} missing: apt install g++-aarch64-linux-gnu qemu-user-static"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def emulator(cpu: str) -> list[str]:
    return [EMULATOR, "-cpu", cpu]


def build(output: Path, compiler: str, sources: list[Path], *flags: str) -> Path:
    static = ["-static"] if compiler == COMPILER else []
    subprocess.run([compiler, *FLAGS, *flags, *static, *map(str, sources), "-o", str(output)], check=True)
    return output


def kernel_sources() -> list[Path]:
    return [path for path in sorted(KERNELS.rglob("*.cc")) if path.name not in OPERATORS]


def build_kernels_test(folder: Path, compiler: str) -> Path:
    test = ROOT / "tests" / "kernels" / "kernels_test.cc"
    return build(folder / "kernels_test", compiler, [test, *kernel_sources()])
