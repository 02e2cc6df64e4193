"""The AVX-512 kernels on an x86 processor without AVX-512: compiled with SIMDe's intrinsics (Debian: libsimde-dev) instead
of the compiler's, and checked against the same golden cases as all others. Results only; nothing here is fast."""

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


def rewritten(source: Path, target: Path, *changes: tuple[str, str]) -> Path:
    """Copies a source file; every change must apply."""
    text = source.read_text()
    for pattern, replacement in ((r'"(?:\.\./)?(\w+\.h)"', rf'"{source.parent}/\1"'), *changes):
        text, count = re.subn(pattern, lambda m, r=replacement: m.expand(r), text, flags=re.M)
        assert count, f"{source.name} has no {pattern}"
    target.write_text(text)
    return target


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if platform.machine() != "x86_64":
        pytest.skip("x86 only")
    if not Path("/usr/include/simde/x86/avx512.h").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("SIMDe is missing: apt install libsimde-dev")
    folder = tmp_path_factory.mktemp("avx512")
    compiler = os.environ.get("CXX") or shutil.which("c++")
    kernels = rewritten(arm.KERNELS / "x86" / "avx512_vnni.cc", folder / "avx512_vnni.cc",
                        ("#include <immintrin.h>", f'#include "{HEADER}"'), ("^#define KERNEL .*", "#define KERNEL"),
                        ("^#define INLINE .*", "#define INLINE inline __attribute__((always_inline))"))
    select = rewritten(arm.KERNELS / "select.cc", folder / "select.cc",
                       ("{&kAvx512VnniKernels, has_avx512_vnni}", "{&kAvx512VnniKernels, [] { return true; }}"))
    flags = ["-std=c++17", "-O1", "-mavx2", "-mfma", "-mf16c", "-ffp-contract=off", "-w"]
    subprocess.run([compiler, *flags, "-c", kernels, "-o", folder / "avx512.o"], check=True, stderr=subprocess.DEVNULL)
    test = Path(__file__).with_name("kernels_test.cc")
    others = [p for p in arm.kernel_sources() if p.name not in ("avx512_vnni.cc", "select.cc") and p.parent.name != "arm"]
    subprocess.run([compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-w", test, select, *others, folder / "avx512.o",
                    "-o", folder / "kernels_test"], check=True)
    return folder / "kernels_test"


def test_avx512_kernels(program, tmp_path):
    cases = write_cases(tmp_path)
    done = subprocess.run([program, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["variants"][0] == "avx512_vnni"
    assert result["cases"] == cases * len(result["variants"])
