"""Build the native part: for Android without an NDK, and for this machine's JVM.

    .venv/bin/python android_demo/tools/native.py [--abi arm64-v8a] [--abi x86_64] [--desktop] [-o build/android]

writes OUT/jniLibs/ABI/{libblockffn_jni.so, libexecutorch_jni.so, libfbjni.so}, OUT/bin/ABI/{blockffn-run,
libblockffn_onnxruntime.so} and OUT/desktop/libblockffn_jni.so, all from the sources of runtime_delegates/. The last line is
a JSON object with the sizes in bytes. Downloads: see downloads.py.

Errors  ValueError with what the compiler said. Exit status 1.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import downloads
import elf

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent
ABIS = ("arm64-v8a", "x86_64")
LINKED = ("libc.so", "libm.so", "libdl.so", "liblog.so")


def unpacked(wheel: str, program: str) -> Path:
    """A program inside a wheel of downloads.lock, ready to run."""
    path = downloads.package(wheel).path
    folder = downloads.cache() / "unpacked" / path.stem
    if not folder.exists():
        part = Path(tempfile.mkdtemp(dir=downloads.cache()))
        with zipfile.ZipFile(path) as archive:
            archive.extractall(part)
        (part / program).chmod(0o755)
        folder.parent.mkdir(exist_ok=True)
        part.replace(folder)
    return folder / program


def zig() -> Path:
    return unpacked("ziglang", "ziglang/zig")


def vulkan_headers() -> Path:
    """Debian's copy of what the NDK holds as well: headers alone, the same for every processor."""
    path = downloads.package("libvulkan-dev").path
    folder = downloads.cache() / "unpacked" / path.stem
    if not folder.exists():
        part = Path(tempfile.mkdtemp(dir=downloads.cache()))
        run(["dpkg", "-x", path, part], "unpacking Vulkan's headers")
        folder.parent.mkdir(exist_ok=True)
        part.replace(folder)
    return folder / "usr" / "include"


def executorch_wheel() -> Path:
    found = importlib.util.find_spec("executorch")
    if found is None:
        raise ValueError("The Python package executorch is missing: run this with .venv/bin/python, which `make setup` makes")
    return Path(found.submodule_search_locations[0])


def run(command: list, what: str, **more) -> str:
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        raise ValueError(f"{what} failed:\n{done.stdout[-20000:]}")
    return done.stdout


def unpack_executorch(out: Path) -> Path:
    """Headers and, per ABI, ExecuTorch's library under the name that it gives itself."""
    if (out / "done").exists():
        return out
    with tarfile.open(downloads.package("react-native-executorch").path) as archive:
        wanted = {"package/third-party/include/executorch/": "include/executorch/",
                  "package/third-party/include/c10/": "include/c10/", "package/third-party/include/torch/": "include/torch/"}
        for member in archive:
            for prefix, folder in wanted.items():
                if member.isfile() and member.name.startswith(prefix):
                    target = out / folder / member.name[len(prefix):]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())
            for abi in ABIS:
                if member.name == f"package/third-party/android/libs/executorch/{abi}/libexecutorch.so":
                    target = out / abi / "lib" / "libexecutorch_jni.so"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())
    # A header-only allocator that the npm package leaves out, from the wheel that the desktop build uses.
    name = "executorch/extension/memory_allocator"
    shutil.copytree(executorch_wheel() / "include" / name, out / "include" / name)
    (out / "done").touch()
    return out


def bionic_symbols() -> dict[str, set[str]]:
    """library -> functions that native/bionic_symbols.txt names."""
    symbols: dict[str, set[str]] = {}
    for line in (HERE / "native" / "bionic_symbols.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            library, *names = line.split()
            symbols.setdefault(library, set()).update(names)
    return symbols


def make_sysroot(abi: str, out: Path, executorch: Path) -> None:
    """Everything to link with that the NDK would hold: stub libraries, start files, libunwind."""
    sources = [Path(__file__), *(p for p in (HERE / "native").rglob("*") if p.is_file())]
    if (out / "done").exists() and (out / "done").stat().st_mtime > max(p.stat().st_mtime for p in sources):
        return
    shutil.rmtree(out, ignore_errors=True)
    lib = out / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    toolchain = (HERE / "native" / "toolchain.cmake").read_text()
    assert "set(CMAKE_C_FLAGS_INIT" in toolchain
    flags = c_flags(abi)
    unwind = zig().parent / "lib" / "libunwind"
    unwind_flags = [*flags, "-O2", f"-I{unwind}/include", "-D_LIBUNWIND_IS_NATIVE_ONLY", "-D_LIBUNWIND_HIDE_SYMBOLS", "-DNDEBUG",
                    "-D_LIBUNWIND_USE_DLADDR=0", "-funwind-tables", "-fvisibility=hidden", "-w"]
    objects = []
    for name, language, more in [
            ("libunwind.cpp", "c++", ["-std=c++17", "-nostdlib", "-fno-exceptions", "-fno-rtti"]),
            ("UnwindLevel1.c", "c", ["-fexceptions"]), ("UnwindLevel1-gcc-ext.c", "c", ["-fexceptions"]),
            ("UnwindRegistersSave.S", "assembler-with-cpp", []), ("UnwindRegistersRestore.S", "assembler-with-cpp", [])]:
        objects.append(out / (name + ".o"))
        includes = cxx_flags() if language == "c++" else []
        run([zig(), "clang", "-x", language, *includes, *unwind_flags, *more, "-c", unwind / "src" / name, "-o", objects[-1]],
            f"compiling {name}")
    for name in ("crtbegin_so", "crtbegin_dynamic", "emutls"):
        target = out / "emutls.o" if name == "emutls" else lib / f"{name}.o"
        run([zig(), "clang", *flags, "-O2", "-std=c11", "-Wall", "-Wextra", "-c", HERE / "native" / "src" / f"{name}.c", "-o", target],
            f"compiling {name}.c")
    run([zig(), "ar", "qc", lib / "libruntime.a", *objects, out / "emutls.o"], "archiving libunwind")
    # libc++abi and some of libc++, for the library that is not linked with ExecuTorch's.
    abi_sources = zig().parent / "lib" / "libcxxabi"
    objects = []
    parts = ("error_category", "memory", "mutex", "mutex_destructor", "new_helpers", "stdexcept", "string", "system_error", "verbose_abort")
    for source in [*sorted((abi_sources / "src").glob("*.cpp")), *(abi_sources.parent / "libcxx" / "src" / f"{part}.cpp" for part in parts)]:
        if source.stem not in ("cxa_noexception", "cxa_demangle"):
            objects.append(out / f"{source.parent.parent.name}-{source.stem}.o")
            run([zig(), "clang", "-x", "c++", *cxx_flags(), *c_flags(abi), "-std=c++23", "-O2", "-fvisibility=hidden", "-w",
                 "-D_LIBCXXABI_BUILDING_LIBRARY", "-D_LIBCPP_BUILDING_LIBRARY", "-DLIBCXX_BUILDING_LIBCXXABI", "-DLIBCXXABI_NON_DEMANGLING_TERMINATE",
                 "-DHAVE___CXA_THREAD_ATEXIT_IMPL", f"-I{abi_sources}/include", f"-I{zig().parent}/lib/libcxx/src", f"-I{zig().parent}/lib/libcxx/libc",
                 "-c", source, "-o", objects[-1]], f"compiling {source.name}")
    run([zig(), "ar", "qc", lib / "libc++_static.a", *objects], "archiving libc++")

    # A stub has what the NDK-built ExecuTorch imports of it, and what our list adds.
    symbols = {library: set() for library in LINKED} | bionic_symbols()
    for symbol, library in elf.read(executorch / abi / "lib" / "libexecutorch_jni.so").imports.items():
        if library in LINKED:
            symbols[library].add(symbol)
    for library in LINKED:
        stub(abi, lib / library, sorted(symbols[library]), version="LIBLOG" if library == "liblog.so" else "LIBC")
    # fbjni serves ExecuTorch's own Java classes, which we do not ship.
    imports = elf.read(executorch / abi / "lib" / "libexecutorch_jni.so").imports
    stub(abi, lib / "libfbjni.so", sorted(s for s, library in imports.items() if "8facebook3jni" in s), version=None)
    (out / "done").touch()


def stub(abi: str, path: Path, symbols: list[str], version: str | None) -> None:
    """A library that has these symbols; whoever calls one of them is stopped."""
    data = {"stderr", "stdout", "stdin", "__sF", "environ", "optarg", "optind"}
    source = ["__attribute__((noreturn)) static void stop(void) { __builtin_trap(); }"]
    for i, symbol in enumerate(symbols):
        kind = f"char s{i}[8]" if symbol in data else f"void s{i}(void)"
        source.append(f'extern {kind} __asm__("{symbol}");\n{kind}' + (";" if symbol in data else " { stop(); }"))
    part = path.with_suffix(".c")
    part.write_text("\n".join(source) + "\n")
    run([zig(), "clang", *c_flags(abi), "-O1", "-fno-builtin", "-ffreestanding", "-fno-stack-protector", "-w", "-c", part,
         "-o", path.with_suffix(".o")], f"compiling {path.name}")
    link = [zig(), "ld.lld", "-shared", "-soname", path.name, "-z", "max-page-size=16384", "-z", "noexecstack", "-z", "relro",
            "-z", "now", "--gc-sections", "--build-id=sha1", "-o", path, path.with_suffix(".o")]
    if version:
        path.with_suffix(".map").write_text(f"{version} {{ global: *; }};\n")
        link += ["--version-script", path.with_suffix(".map")]
    run(link, f"linking {path.name}")


def c_flags(abi: str) -> list[str]:
    """The toolchain file's C flags for what is built before CMake runs."""
    lib = zig().parent / "lib"
    arch, machine = {"arm64-v8a": ("aarch64", ["-march=armv8-a", "-mno-outline-atomics"]),
                     "x86_64": ("x86_64", ["-march=x86-64-v2"])}[abi]
    folders = [HERE / "native" / "include", lib / "include",
               *(lib / "libc" / "include" / f for f in (f"{arch}-linux-musl", "generic-musl", f"{arch}-linux-any", "any-linux-any"))]
    return [f"--target={arch}-linux-android26", *machine, "-nostdinc", "-g0", "-fPIC", "-ffunction-sections", "-fdata-sections",
            "-Wno-unused-command-line-argument", *(f for folder in folders for f in ("-isystem", str(folder)))]


def cxx_flags() -> list[str]:
    lib = zig().parent / "lib"
    return ["-include", str(HERE / "native" / "include" / "__config_site"), "-isystem", str(lib / "libcxx" / "include"),
            "-isystem", str(lib / "libcxxabi" / "include")]


def cmake() -> list[str]:
    beside = Path(sys.executable).parent / "cmake"
    return [str(beside) if beside.exists() else "cmake"]


def ninja() -> str:
    beside = Path(sys.executable).parent / "ninja"
    return str(beside) if beside.exists() else "ninja"


def java_home() -> Path:
    home = os.environ.get("JAVA_HOME") or (javac := shutil.which("javac")) and Path(javac).resolve().parent.parent
    if not home or not (Path(home) / "include" / "jni.h").exists():
        raise ValueError("A JDK 17 is missing: apt install openjdk-17-jdk-headless, or set JAVA_HOME")
    return Path(home)


def build_cmake(folder: Path, targets: list[str], *options: str) -> None:
    command = [*cmake(), "--fresh", "-S", HERE / "native", "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
               f"-DCMAKE_MAKE_PROGRAM={ninja()}", f"-DJAVA_HOME={java_home()}", *options]
    done = folder / "configured"
    said = "\n".join(map(str, command))
    if not done.exists() or done.read_text() != said:
        run(command, "configuring the native build")
        done.write_text(said)
    run([*cmake(), "--build", folder, "--target", *targets], "the native build")


def build_android(abi: str, out: Path) -> dict[str, int]:
    """Build one ABI; returns the size of each file in bytes."""
    downloads.fetch(downloads.packages("native"))
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:  # two builds of one folder take turns
        fcntl.flock(lock, fcntl.LOCK_EX)
        executorch = unpack_executorch(work / "executorch")
        sysroot = work / abi / "sysroot"
        make_sysroot(abi, sysroot, executorch)
        view = work / abi / "executorch"
        view.mkdir(parents=True, exist_ok=True)
        for name, target in (("include", executorch / "include"), ("lib", executorch / abi / "lib")):
            if not (view / name).exists():
                (view / name).symlink_to(target)
        folder = work / abi / "cmake"
        build_cmake(folder, ["blockffn_jni", "blockffn_onnxruntime", "blockffn-run"], f"-DCMAKE_TOOLCHAIN_FILE={HERE}/native/toolchain.cmake",
                    f"-DANDROID_ABI={abi}", f"-DBLOCKFFN_ZIG={zig()}", f"-DBLOCKFFN_SYSROOT={sysroot}",
                    f"-DBLOCKFFN_EXECUTORCH_ANDROID={view}", f"-Dexecutorch_DIR={HERE}/native/cmake", "-DBLOCKFFN_GPU=ON",
                    f"-DBLOCKFFN_VULKAN_HEADERS={vulkan_headers()}")
        libs, programs = out / "jniLibs" / abi, out / "bin" / abi
        for target, files in ((libs, [folder / "libblockffn_jni.so", view / "lib" / "libexecutorch_jni.so", sysroot / "lib" / "libfbjni.so"]),
                              (programs, [folder / "runtime" / "libblockffn_onnxruntime.so", folder / "blockffn-run"])):
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copyfile(file, target / (file.name + ".part"))
                shutil.copymode(file, target / (file.name + ".part"))
                (target / (file.name + ".part")).rename(target / file.name)
    return {str(f.relative_to(out)): f.stat().st_size for folder in (libs, programs) for f in sorted(folder.iterdir())}


def build_desktop(out: Path) -> Path:
    """The same JNI library for this machine's JVM, over the ExecuTorch wheel."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build_cmake(out / "work" / "desktop", ["blockffn_jni"], f"-DCMAKE_PREFIX_PATH={executorch_wheel()}/share/cmake")
    target = out / "desktop"
    target.mkdir(exist_ok=True)
    shutil.copyfile(out / "work" / "desktop" / "libblockffn_jni.so", target / "libblockffn_jni.so.part")
    (target / "libblockffn_jni.so.part").rename(target / "libblockffn_jni.so")
    return target / "libblockffn_jni.so"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--abi", action="append", choices=ABIS, help="default: both")
    parser.add_argument("--desktop", action="store_true", help="the library for this machine's JVM instead")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build" / "android")
    args = parser.parse_args()
    try:
        if args.desktop:
            path = build_desktop(args.out.resolve())
            sizes = {str(path.relative_to(args.out.resolve())): path.stat().st_size}
        else:
            sizes = {}
            for abi in args.abi or ABIS:
                sizes |= build_android(abi, args.out.resolve())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for name, size in sizes.items():
        print(f"{size:>12,}  {name}")
    print(json.dumps(sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
