"""Fixtures of the Android tests: what they need is checked first, then built once below build/android."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

sys.path[:0] = [str(ROOT / "android_demo" / "tools"), str(Path(__file__).parent / "bionic")]
import apk as builder
import downloads
import native
import torch
from run import Emulator
from shipped import CHECKPOINT, unless_ci

from training.checkpoint import open_checkpoint
from training.draft import DraftConfig, DraftHead
from training.draft_files import save_draft

TOOLS = {"javac": "openjdk-17-jdk-headless", "qemu-aarch64-static": "qemu-user-static", "apksigner": "apksigner", "dexdump": "dexdump",
         "enjarify": "enjarify", "strace": "strace", "mvn": "maven", "npm": "npm", "dpkg": "dpkg"}


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


def newest(*paths: Path) -> float:
    return max(p.stat().st_mtime for path in paths for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def export(arguments: list, program: Path, *sources: Path) -> Path:
    """What export/to_executorch.py writes to `program`, unless that is newer than its sources."""
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / "export.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists() or program.stat().st_mtime < newest(*sources):
            subprocess.run([sys.executable, "export/to_executorch.py", *map(str, arguments), "-o", str(program), "--quant", "int8", "--check", "parity"],
                           cwd=ROOT, check=True)
    return program


@pytest.fixture(scope="session")
def shipped_program(needed_tools) -> Path:
    """The shipped checkpoint in int8, as `make demo` exports it."""
    return export([CHECKPOINT], ROOT / "out" / CHECKPOINT.name / "model-int8.pte", CHECKPOINT / "model.safetensors", CHECKPOINT / "config.json")


@pytest.fixture(scope="session")
def shipped_head(android, shipped_program) -> Path:
    """The checkpoint's draft head in int8, as `make apk` exports it; a random one where it has none."""
    head = CHECKPOINT / "draft"
    program = shipped_program.with_name("draft-int8.pte")
    if not head.exists():
        head, program = android / "test" / "head", android / "test" / "draft-int8.pte"
        if not head.exists():
            target = open_checkpoint(CHECKPOINT)
            module = DraftHead(DraftConfig(target.config, 512, 4, 2, 32), torch.arange(1024))
            module.init_weights(0)
            save_draft(head, module, target)
    return export([head, "--target", CHECKPOINT], program, head, shipped_program)


@pytest.fixture(scope="session")
def apk(android, shipped_program, shipped_head) -> dict:
    """The APK of this tree, built as `make apk` does: the summary that the command prints, and the folder of its class files."""
    out = android / "test" / "blockffn-demo.apk"
    out.parent.mkdir(parents=True, exist_ok=True)
    sources = [p for folder in ("android_demo", "runtime_delegates") for p in (ROOT / folder).rglob("*") if p.is_file() and "dist" not in p.parts]
    with (out.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists() or out.stat().st_mtime < newest(*sources, shipped_program, shipped_head):
            builder.build(builder.parse(["--program", shipped_program, "--draft", shipped_head, "--checkpoint", CHECKPOINT, "--native", android,
                                         "-o", out, "--classes", out.parent / "classes"]))
    return builder.report(out) | {"classes": out.parent / "classes"}
