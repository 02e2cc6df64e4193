"""The AVX-512 VNNI and AVX-VNNI kernels on an x86 processor with neither: compiled with SIMDe's intrinsics (Debian:
libsimde-dev) instead of the compiler's, and checked against the same golden cases as all others; AVX-VNNI must give the
bits of AVX2. Results only; nothing here is fast."""

import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels import arm
from tests.kernels.cases import write_cases

HEADER = Path(__file__).with_name("avx512_emulated.h")


def change(source: Path, *changes: tuple[str, str]) -> None:
    """Rewrites a source file; every change must apply."""
    text = source.read_text()
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text, flags=re.M)
        assert count, f"{source.name} has no {pattern}"
    source.write_text(text)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if platform.machine() != "x86_64":
        pytest.skip("x86 only")
    if not Path("/usr/include/simde/x86/avx512.h").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("SIMDe is missing: apt install libsimde-dev")
    folder = tmp_path_factory.mktemp("emulated")
    compiler = os.environ.get("CXX") or shutil.which("c++")
    kernels = shutil.copytree(arm.KERNELS, folder / "kernels")
    change(kernels / "x86" / "avx512_vnni.cc", ("#include <immintrin.h>", f'#include "{HEADER}"'),
           ("^#define KERNEL .*", "#define KERNEL"),
           ("^#define INLINE .*", "#define INLINE inline __attribute__((always_inline))"))
    change(kernels / "x86" / "avx_vnni.cc", ('(#include "avx2.cc")', rf'#include "{HEADER}"\n\1'))
    change(kernels / "x86" / "dot_step.h", (",avxvnni", ""))
    change(kernels / "select.cc", ("has_avx(512)?_vnni}", "[] { return true; }}"))
    emulated = ("avx512_vnni.cc", "avx_vnni.cc")
    flags = ["-std=c++17", "-ffp-contract=off", "-w"]
    for name in emulated:
        subprocess.run([compiler, *flags, "-O1", "-mavx2", "-mfma", "-mf16c", "-c", kernels / "x86" / name,
                        "-o", folder / f"{name}.o"], check=True, stderr=subprocess.DEVNULL)
    others = [kernels / p.relative_to(arm.KERNELS) for p in arm.kernel_sources()
              if p.name not in emulated and p.parent.name != "arm"]
    test = Path(__file__).with_name("kernels_test.cc")
    subprocess.run([compiler, *flags, "-O2", test, *others, *(folder / f"{name}.o" for name in emulated),
                    "-o", folder / "kernels_test"], check=True)
    return folder / "kernels_test"


def test_emulated_kernels(program, tmp_path):
    cases = write_cases(tmp_path)
    done = subprocess.run([program, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["variants"][:3] == ["avx512_vnni", "avx_vnni", "avx2"]
    assert result["cases"] == cases * len(result["variants"])


def test_avx_vnni_has_no_instruction_of_avx512(tmp_path):
    """Processors with AVX-VNNI mostly lack AVX-512, which has the same instruction in another encoding."""
    if platform.machine() != "x86_64":
        pytest.skip("x86 only")
    compiler = os.environ.get("CXX") or shutil.which("c++")
    subprocess.run([compiler, *arm.FLAGS, "-c", arm.KERNELS / "x86" / "avx_vnni.cc", "-o", tmp_path / "o"], check=True)
    listing = subprocess.run(["objdump", "-d", tmp_path / "o"], check=True, capture_output=True, text=True).stdout
    code = re.findall(r"^\s*[0-9a-f]+:\t((?:[0-9a-f]{2} )+)\s*\t(.*)", listing, flags=re.M)
    dots = [text for _, text in code if "vpdpbusd" in text]
    assert len(dots) > 200 and all(text.startswith("{vex}") for text in dots)
    assert not [text for bytes_, text in code if bytes_.startswith("62 ") and text != "(bad)"]  # EVEX: nothing else in 64-bit code
