"""Timing: the machine, keys of built files, its read bandwidth, and interleaved passes over cold weights.

Units  CPU and wall times in ns, of the whole process (all of its threads); bandwidth in bytes per ns, that is GB/s.
Errors RuntimeError when the bandwidth helper cannot be compiled.
"""

import ctypes
import hashlib
import mmap
import os
import platform
import shutil
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Callable, Iterable

import numpy as np

SOURCE = Path(__file__).with_name("bandwidth.c")
PACKAGES = ("torch", "executorch", "torchao", "onnxruntime", "onnx", "numpy")
FALLBACK_CACHE = 32 << 20


def build_key(settings: str, sources: Iterable[Path]) -> str:
    """Names what is built with `settings` from `sources`: another key whenever the built files would differ."""
    digest = hashlib.sha256(settings.encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def last_level_cache() -> int:
    """Bytes of the largest cache, as Linux reports it; 32 MiB where it does not."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}[text[-1]] if text[-1] in "KM" else int(text))
    return max(sizes, default=FALLBACK_CACHE)


class Memory:
    """Reads a buffer of 4 times the last-level cache to push everything else out, and to measure others of twice that
    cache: one of anonymous memory, where Linux may use huge pages, and one of a mapped file, as weights are."""

    def __init__(self, directory: Path) -> None:
        library = directory / "bandwidth.so"
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("c++")
        if compiler is None:
            raise RuntimeError("a C compiler is missing: apt install gcc, or name one in $CC")
        native = ["-march=native"] if platform.machine() == "x86_64" else ["-mcpu=native"]
        command = [compiler, "-O3", "-funroll-loops", *native, "-shared", "-fPIC", "-pthread", "-x", "c", str(SOURCE)]
        done = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{compiler} cannot compile {SOURCE}: {done.stderr.strip()}")
        self._read = ctypes.CDLL(str(library)).read_memory
        self._read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
        self._read.restype = ctypes.c_uint64
        self.sample_bytes = 2 * last_level_cache()
        # Ones, since pages of zeros may all be the same page.
        self._flush, self._anonymous = (np.ones(n * self.sample_bytes + 64, dtype=np.uint8) for n in (2, 1))
        file = directory / "bandwidth.bin"
        if not file.exists() or file.stat().st_size != self.sample_bytes:
            self._anonymous[: self.sample_bytes].tofile(f"{file}.part")
            os.replace(f"{file}.part", file)
        with file.open("rb") as opened:
            self._file = np.frombuffer(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)

    def evict(self) -> None:
        """Pushes all that was read before out of the caches."""
        self._read_all(self._flush, 2 * self.sample_bytes, 8, 1)

    def sample(self, streams: int, threads: int, mapped: bool) -> None:
        """Reads sample_bytes that `evict` does not touch."""
        self._read_all(self._file if mapped else self._anonymous, self.sample_bytes, streams, threads)

    def _read_all(self, buffer: np.ndarray, size: int, streams: int, threads: int) -> None:
        at = buffer.ctypes.data
        self._read(at + -at % 64, size, streams, threads)


def steal_and_total() -> tuple[int, int]:
    """Jiffies of CPU time that the hypervisor took away, and all jiffies, since boot; zeros if unknown."""
    try:
        fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return fields[7], sum(fields)


def machine() -> dict:
    """What the figures depend on, without the host's name."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {"cpu": model, "cores": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release(),
            "python": platform.python_version(), "last_level_cache_bytes": last_level_cache(), "packages": versions}


def timed(run: Callable[[], object], prepare: Callable[[], None]) -> tuple[int, int]:
    """(process CPU ns, wall ns) of one pass over weights that `prepare` pushed out of the caches."""
    prepare()
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    run()
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    return cpu, wall


def interleave(passes: dict[str, tuple[Callable[[], None], Callable[[int], object]]], rounds: int, seconds: float,
               minimum: int):
    """Times every pass once a round, in an order that rotates, until `rounds` or, after `minimum`, `seconds`.

    A pass is (what prepares it, what is timed: called with the round's number). Yields (round, name, cpu_ns, wall_ns).
    """
    names, started = list(passes), time.monotonic()
    for r in range(rounds):
        if r >= minimum and time.monotonic() - started > seconds:
            return
        for i in range(len(names)):
            name = names[(r + i) % len(names)]
            prepare, run = passes[name]
            yield (r, name, *timed(lambda: run(r), prepare))
