"""Fixtures of the Android tests: what they need is checked first, then built once below build/android."""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

sys.path[:0] = [str(ROOT / "android_demo" / "tools"), str(Path(__file__).parent / "bionic")]
import downloads
import native
from run import Emulator

CHECKPOINT = ROOT / "checkpoints" / "blockffn-22m-docs"
TOOLS = {"javac": "openjdk-17-jdk-headless", "qemu-aarch64-static": "qemu-user-static", "apksigner": "apksigner", "dexdump": "dexdump",
         "enjarify": "enjarify", "strace": "strace", "mvn": "maven", "npm": "npm", "dpkg": "dpkg"}


def unless_ci(reason: str) -> None:
    """Skips the test, or fails it where the environment says CI, where everything must be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session", autouse=True)
def needed_tools():
    missing = [f"{tool} (apt install {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        unless_ci("missing: " + ", ".join(missing))
    try:
        downloads.fetch(downloads.packages())
    except ValueError as error:
        unless_ci(f"a download is missing: {error}")


@pytest.fixture(scope="session")
def android(needed_tools) -> Path:
    """build/android with the libraries of both ABIs."""
    out = ROOT / "build" / "android"
    for abi in native.ABIS:
        native.build_android(abi, out)
    return out


@pytest.fixture(scope="session")
def emulators(android) -> dict[str, Emulator]:
    with (android / "emulators.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {abi: Emulator(abi, android / "bionic", android / "jniLibs" / abi) for abi in native.ABIS}


@pytest.fixture(scope="session")
def shipped_program(needed_tools) -> Path:
    """The shipped checkpoint in int8, as `make demo` exports it."""
    program = ROOT / "out" / CHECKPOINT.name / "model-int8.pte"
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / "export.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            subprocess.run([sys.executable, "export/to_executorch.py", str(CHECKPOINT), "-o", str(program), "--quant", "int8", "--check", "parity"],
                           cwd=ROOT, check=True)
    return program


@pytest.fixture(scope="session")
def apk(android, shipped_program) -> dict:
    """The APK of this tree, built as `make apk` does: the summary that the command prints, and the folder of its class files."""
    import apk as builder

    out = android / "test" / "blockffn-demo.apk"
    out.parent.mkdir(parents=True, exist_ok=True)
    sources = [p for folder in ("android_demo", "runtime_delegates") for p in (ROOT / folder).rglob("*") if p.is_file() and "dist" not in p.parts]
    newest = max(p.stat().st_mtime for p in [*sources, shipped_program])
    with (out.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists() or out.stat().st_mtime < newest:
            builder.build(argparse.Namespace(
                program=shipped_program, checkpoint=CHECKPOINT, title="BlockFFN 22M, manuals (int8)", dense_program=None, key=builder.HERE / "debug.p12",
                key_password="android", native=android, classes=out.parent / "classes", assets=None, out=out))
    return builder.report(out) | {"classes": out.parent / "classes"}
