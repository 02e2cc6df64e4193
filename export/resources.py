"""What a run costs: peak memory and the time of its phases.

Units  bytes and seconds. Resident memory counts pages of mapped files, which the system takes back
       when it needs them; anonymous memory is what the process really holds (Linux only).
"""

import ctypes
import mmap
import resource
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


def anonymous_bytes() -> int | None:
    """Anonymous resident memory of this process, None where /proc does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def peak_rss_bytes() -> int:
    """Largest resident set of this process so far, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_pages(*paths: Path) -> None:
    """Takes the pages of mapped files (or of all files in a directory) out of this process's resident memory.

    They stay in the system's cache and come back when touched. ExecuTorch locks a program's pages where
    the system lets it, which loads them all: that is undone. For read-only data: a change made to a private
    mapping would be lost. Does nothing where it is not Linux.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    libc.munlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    names = {str(file.resolve()) for path in paths for file in (path.iterdir() if path.is_dir() else [path])}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps.readlines():
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and fields[5] in names:
                start, end = (int(address, 16) for address in fields[0].split("-"))
                libc.munlock(start, end - start)
                libc.madvise(start, end - start, mmap.MADV_DONTNEED)


class Costs:
    """Times phases and samples memory in a thread while it is entered as a context."""

    INTERVAL_S = 0.05

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_anonymous_bytes = anonymous_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Costs":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def totals(self) -> dict:
        return {
            "peak_rss_bytes": peak_rss_bytes(),
            "peak_anonymous_bytes": self.peak_anonymous_bytes,
            "seconds": {name: round(seconds, 3) for name, seconds in self.seconds.items()},
        }

    def _sample(self) -> None:
        while not self._stop.wait(self.INTERVAL_S):
            now = anonymous_bytes()
            if now is None:
                return
            self.peak_anonymous_bytes = max(self.peak_anonymous_bytes, now)
