"""Wheels of ONNX Runtime beside the installed one, fetched once into a cache folder and checked by hash.

The folder is $BLOCKFFN_CACHE or ~/.cache/blockffn. Where CI=true, a wheel that cannot be fetched is a failure,
otherwise the test is skipped.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("BLOCKFFN_CACHE", Path.home() / ".cache/blockffn")) / "onnxruntime"
PINS = (Path(__file__).with_name("releases.txt"), ROOT / "constraints.txt")


def pinned() -> dict[str, str]:
    """Version -> the requirement with its hashes."""
    found = {}
    for path in PINS:
        text = path.read_text().replace(" \\\n", " ")
        for line in text.splitlines():
            if line.startswith("onnxruntime=="):
                found.setdefault(line.removeprefix("onnxruntime==").split()[0], line)
    return found


def fetch(version: str, *options: str) -> Path:
    """A folder that holds the package `onnxruntime` of this release; options of `uv pip install` choose a platform."""
    from uv import find_uv_bin

    name = "-".join([version, *(option.lstrip("-") for option in options), f"py{sys.version_info[0]}{sys.version_info[1]}"])
    folder = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f"{name}.lock"):
        if folder.is_dir():
            return folder
        part, pins = CACHE / f"{name}.part", CACHE / f"{name}.txt"
        shutil.rmtree(part, ignore_errors=True)
        pins.write_text(pinned()[version] + "\n")
        made = subprocess.run(
            [find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--link-mode",
             "copy", "--python", sys.executable, "--target", part, *options, "--requirements", pins], text=True, capture_output=True)
        if made.returncode != 0:
            shutil.rmtree(part, ignore_errors=True)
            reason = f"onnxruntime {version} cannot be fetched: {made.stderr.strip()}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        part.rename(folder)
    return folder
