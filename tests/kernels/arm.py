"""Builds for 64-bit ARM with Debian's cross compiler and runs them under qemu. Linked statically: no ARM libraries are needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

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


def cross_build(tmp_path_factory) -> Path:
    """A folder with the libraries that need no ExecuTorch, cross-compiled with CMake once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "aarch64"
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return folder
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        cmake, ninja = (shutil.which(tool, path=tools) for tool in ("cmake", "ninja"))
        options = {
            "CMAKE_MAKE_PROGRAM": ninja,
            "CMAKE_SYSTEM_NAME": "Linux",
            "CMAKE_SYSTEM_PROCESSOR": "aarch64",
            "CMAKE_CXX_COMPILER": COMPILER,
            "CMAKE_CXX_FLAGS": "-Werror",
            "BLOCKFFN_EXECUTORCH": "OFF",
        }
        part = folder.with_name("aarch64.part")
        configure = [cmake, "-S", ROOT / "runtime_delegates", "-B", part, "-G", "Ninja"]
        subprocess.run(configure + [f"-D{k}={v}" for k, v in options.items()], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([cmake, "--build", part], check=True, stdout=subprocess.DEVNULL)
        part.rename(folder)
    return folder


def kernel_sources() -> list[Path]:
    return [path for path in sorted(KERNELS.rglob("*.cc")) if path.name not in OPERATORS]


def build_kernels_test(folder: Path, compiler: str) -> Path:
    test = ROOT / "tests" / "kernels" / "kernels_test.cc"
    return build(folder / "kernels_test", compiler, [test, *kernel_sources()])
