"""Runs libraries and programs that were built for Android, without a phone: on musl's loader with a shim for what only
Android's C library has; arm64 under qemu, x86_64 natively.

What this leaves untested: Android's own linker and C library, ART, SELinux.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "android_demo" / "tools"))
import downloads
import native

HERE = Path(__file__).resolve().parent
ARCH = {"arm64-v8a": ("aarch64", "arm64"), "x86_64": ("x86_64", "amd64")}


class Emulator:
    """One ABI's loader, shim and host program, built below `out`; `libraries` is a folder as in the APK."""

    def __init__(self, abi: str, out: Path, libraries: Path):
        self.abi, self.libraries = abi, libraries
        arch, debian = ARCH[abi]
        self.folder = out / abi
        self.loader = self.folder / f"ld-musl-{arch}.so.1"
        newest = max(path.stat().st_mtime for path in HERE.glob("*.c"))
        if (self.folder / "done").exists() and (self.folder / "done").stat().st_mtime > newest:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as unpacked:
            native.run(["dpkg", "-x", downloads.package(f"musl=1.2.3-1:{debian}").path, unpacked], "unpacking musl")
            (libc,) = Path(unpacked).rglob("lib/*-linux-musl/libc.so")
            shutil.copy(libc, self.loader)
        self.loader.chmod(0o755)
        jni = native.java_home() / "include"
        cc = [native.zig(), "cc", "-target", f"{arch}-linux-musl", "-O1", "-g0", "-fno-sanitize=all", "-fno-stack-protector", "-w"]
        native.run([*cc, "-fno-builtin", "-fPIC", "-shared", "-Wl,-soname,libbionicshim.so", "-o", self.folder / "libbionicshim.so",
                    HERE / "shim.c"], "building the shim")
        native.run([*cc, "-fPIC", "-shared", "-Wl,-soname,liblog.so", "-o", self.folder / "liblog.so", HERE / "liblog.c"], "building liblog")
        native.run([*cc, "-dynamic", f"-I{jni}", f"-I{jni}/linux", "-o", self.folder / "host", HERE / "host.c"], "building the host")
        (self.folder / "done").touch()

    def command(self, program: Path, *arguments: str, cpu: str = "", libraries: Path | None = None) -> list[str]:
        emulator = ["qemu-aarch64-static", *(["-cpu", cpu] if cpu else [])] if self.abi == "arm64-v8a" else []
        return [*emulator, str(self.loader), "--library-path", f"{libraries or self.libraries}:{self.folder}",
                "--preload", str(self.folder / "libbionicshim.so"), str(program), *map(str, arguments)]

    def host(self, *arguments: str, cpu: str = "", libraries: Path | None = None, environment=None) -> list[dict]:
        """The lines of JSON that the host prints."""
        done = subprocess.run(self.command(self.folder / "host", *arguments, cpu=cpu, libraries=libraries), capture_output=True,
                              text=True, timeout=600, env={"SHIM_NPROC": "2", "PATH": "/usr/bin:/bin", **(environment or {})})
        assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-3000:]}"
        return [json.loads(line) for line in done.stdout.splitlines()]
