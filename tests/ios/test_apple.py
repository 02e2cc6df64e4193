"""The C++ sources of the iOS package, compiled to arm64 iOS objects with Darwin's C headers (from the ziglang package).

No Apple SDK is used: libc++ is LLVM's own, ExecuTorch's headers and exported functions are those of the Linux wheel.
"""

import os
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.ios.conftest import ROOT

RUNTIME = ROOT / "runtime_delegates"
SOURCES = sorted(path for folder in ("executorch", "gpu", "kernels", "program", "runner") for path in (RUNTIME / folder).rglob("*.cc")
                 if path.name != "main.cc" and not path.name.startswith("vulkan"))  # the desktop's command and GPU
STACK_BYTES = 96 * 1024  # of one function: the engine's thread on iOS has 512 KiB; attention takes 81 KiB for int8 caches


@pytest.fixture(scope="module")
def zig():
    sys.path.insert(0, str(ROOT / "android_demo" / "tools"))
    import downloads
    import native

    ci = os.environ.get("CI") == "true"
    wheel = downloads.package("ziglang")
    if not ci and not wheel.path.exists():
        pytest.skip("NOT RUN: the C++ sources are compiled for iOS by the ziglang package, which the Android tests fetch")
    try:
        downloads.fetch([wheel])
    except ValueError as error:
        (pytest.fail if ci else pytest.skip)(f"the ziglang package cannot be fetched: {error}")
    return native.zig()


def compile_(zig, source: Path, target: str, *flags) -> subprocess.CompletedProcess:
    import executorch

    lib, wheel = zig.parent / "lib", Path(list(executorch.__path__)[0]) / "include"
    includes = [lib / "libcxx" / "include", lib / "libcxxabi" / "include", lib / "include",
                lib / "libc" / "include" / "any-darwin-any", wheel, wheel / "executorch/runtime/core/portable_type/c10"]
    return subprocess.run(
        [zig, "clang", f"--target={target}", "-nostdinc", "-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra",
         "-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_USE_THREADPOOL", "-DBLOCKFFN_GPU", "-include", Path(__file__).parent / "apple_headers.h",
         *(part for folder in includes for part in ("-isystem", folder)), *flags, source],
        capture_output=True, text=True, timeout=300)


def macho_symbols(data: bytes) -> tuple[dict[str, bool], set[str]]:
    """{name: whether another object may define it too} of what a 64-bit Mach-O object shares; names that it needs."""
    magic, cpu, _, kind, commands = struct.unpack_from("<5I", data)
    assert (magic, cpu, kind) == (0xFEEDFACF, 0x0100000C, 1), "not an arm64 object"
    at, defined, needed = 32, {}, set()
    for _ in range(commands):
        command, size = struct.unpack_from("<2I", data, at)
        if command == 2:  # LC_SYMTAB
            symbols, count, strings, _ = struct.unpack_from("<4I", data, at + 8)
            for i in range(count):
                name_at, type_, _, description, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * i)
                start = strings + name_at
                name = data[start:data.index(b"\0", start)].decode()
                if type_ & 0x01 and not type_ & 0xE0:  # external, no debugging entry
                    if type_ & 0x0E:
                        defined[name] = bool(description & 0x80)
                    else:
                        needed.add(name)
        at += size
    return defined, needed - set(defined)


@pytest.fixture(scope="module")
def objects(zig, tmp_path_factory):
    """{source: object} for arm64-apple-ios17, compiled without a warning."""
    folder = tmp_path_factory.mktemp("objects")

    def one(i_source):
        i, source = i_source
        out = folder / f"{i}.o"
        return source, out, compile_(zig, source, "arm64-apple-ios17.0", "-c", f"-Wframe-larger-than={STACK_BYTES}", "-o", out)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(one, enumerate(SOURCES)))
    wrong = [result.stderr for _, _, result in done if result.returncode != 0 or "warning:" in result.stderr]
    assert not wrong, "\n".join(wrong)[:6000]
    return {source: out for source, out, _ in done}


def test_sources_compile_for_ios(objects):
    assert len(objects) > 30


def test_what_the_objects_need_is_theirs_or_executorchs(objects):
    import executorch

    defined: set[str] = set()
    needed: set[str] = set()
    for out in objects.values():
        mine, other = macho_symbols(out.read_bytes())
        assert not {name for name in defined & set(mine) if not mine[name]}, "defined twice"
        defined |= set(mine)
        needed |= other
    needed -= defined
    header = "".join((RUNTIME / name).read_text()
                     for name in ("runner/blockffn_runner.h", "executorch/blockffn.h", "gpu/blockffn_metal.h"))
    interface = {f"_{name}" for name in re.findall(r"\b(blockffn_\w+)\(", header)}
    assert interface <= defined and "_blockffn_register_backend" in interface
    assert "_main" not in defined
    assert [name for name in needed if "blockffn" in name] == []
    wheel = Path(list(executorch.__path__)[0]) / "lib"
    libraries = [wheel / "libexecutorch.so", wheel / "libexecutorch_threadpool.so"]
    listed = subprocess.run(["nm", "-D", "--defined-only", *libraries], capture_output=True, text=True, check=True).stdout
    exported = functions(line.split()[-1].split("@")[0] for line in listed.splitlines() if " " in line)
    ours = functions(name[1:] for name in needed if "executorch" in name)
    assert len(ours) > 10 and ours <= exported, ours - exported


def functions(mangled) -> set[str]:
    """Readable names without parameters: int64_t has another name in the C++ of Darwin."""
    names = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    return {name.split("(")[0] for name in names.splitlines()}


def test_the_simulators_of_intel_macs(zig):
    for source in SOURCES:
        if "x86" in source.parts or source.name == "select.cc":
            done = compile_(zig, source, "x86_64-apple-ios17.0-simulator", "-fsyntax-only")
            assert done.returncode == 0 and "warning:" not in done.stderr, done.stderr


def test_the_checker_sees_wrong_sources(zig, tmp_path):
    source = tmp_path / "wrong.cc"
    source.write_text("#include <sys/sysinfo.h>\n")  # Linux only
    assert compile_(zig, source, "arm64-apple-ios17.0", "-fsyntax-only").returncode != 0
    source.write_text("int f(char*);\nint g() { char big[100000]; return f(big); }\n")
    done = compile_(zig, source, "arm64-apple-ios17.0", "-c", f"-Wframe-larger-than={STACK_BYTES}", "-o", tmp_path / "a.o")
    assert done.returncode == 0 and "frame" in done.stderr
    defined, needed = macho_symbols((tmp_path / "a.o").read_bytes())
    assert "__Z1gv" in defined and "__Z1fPc" in needed
