"""Loads the C++ backend library into this process, which registers it with ExecuTorch.

Errors  RuntimeError says what is missing and the command that mends it.
Source  runtime_delegates/executorch/blockffn.h, the C interface mirrored here.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator
from pathlib import Path

# executorch.runtime would import the whole exporter first, three times as long as everything else
# that generation imports; the extension module beneath it holds all that running a program needs.
import torch  # noqa: F401  the extension links against torch's libraries
from executorch.extension.pybindings import _C as executorch_runtime

from runtime_delegates.stats import Stats

BACKEND_NAME = "BlockFFNBackend"
LIBRARY_VARIABLE = "BLOCKFFN_LIB"
DEFAULT_LIBRARY = Path(__file__).resolve().parent.parent / "build" / "libblockffn_executorch.so"


class _CStats(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in Stats.__dataclass_fields__]


class Backend:
    """The loaded library; `path` is its file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._lib = ctypes.CDLL(str(path))
            self._lib.blockffn_kernels.restype = ctypes.c_char_p
            self._lib.blockffn_variant.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
            self._lib.blockffn_last_error.restype = ctypes.c_char_p
            self._lib.blockffn_device.restype = ctypes.c_char_p
            self._lib.blockffn_gpu.restype = ctypes.c_char_p
            self._lib.blockffn_all_experts.argtypes = [ctypes.c_int]
            self._lib.blockffn_set_threads.argtypes = [ctypes.c_int]
            self._lib.blockffn_take_stats.argtypes = [ctypes.POINTER(_CStats)]
            code = self._lib.blockffn_register_backend()
        except (OSError, AttributeError) as error:
            raise RuntimeError(f"{path} is not a usable backend library ({error}); run `make build`") from None
        if code != 0 or self.name not in executorch_runtime._get_registered_backend_names():
            raise RuntimeError(f"ExecuTorch did not register {self.name} (error {code:#x}); was {path} built "
                               "against the installed executorch? Run `make clean build`")
        self.kernels  # fails here rather than when a program loads

    @property
    def name(self) -> str:
        """The name under which ExecuTorch's registry lists the backend."""
        return BACKEND_NAME

    @property
    def kernels(self) -> str:
        """The kernels that the next loaded program uses: $BLOCKFFN_KERNELS, or the best that this processor runs."""
        name = self._lib.blockffn_kernels()
        if name is None:
            known = ", ".join(k for k, supported in self.variants.items() if supported)
            raise RuntimeError(f"{self.last_error()}; this processor runs: {known}")
        return name.decode()

    @property
    def variants(self) -> dict[str, bool]:
        """Kernels in the library, best first -> whether this processor runs them."""
        out, name = {}, ctypes.c_char_p()
        while (supported := self._lib.blockffn_variant(len(out), ctypes.byref(name))) >= 0:
            out[name.value.decode()] = bool(supported)
        return out

    @property
    def device(self) -> str:
        """Where the program that this thread loaded last runs: "cpu", "gpu NAME", or "cpu: " and why not on the GPU."""
        return self._lib.blockffn_device().decode(errors="replace")

    @property
    def gpu(self) -> str:
        """The GPU that a program would run on, or "none: " and why."""
        return self._lib.blockffn_gpu().decode(errors="replace")

    @contextlib.contextmanager
    def experts(self, which: str) -> Iterator[None]:
        """Within it this thread's calls read and compute the experts that are "active", or "all" as a dense model does."""
        if which not in ("active", "all"):
            raise ValueError(f"experts {which!r}: choose active or all")
        self._lib.blockffn_all_experts(which == "all")
        try:
            yield
        finally:
            self._lib.blockffn_all_experts(0)

    @property
    def threads(self) -> int:
        """Threads of ExecuTorch's pool, the caller's included."""
        return executorch_runtime._threadpool_get_thread_count()

    @property
    def default_threads(self) -> int:
        """Threads that pay on this machine: its fast cores, as far as this process may use them."""
        return self._lib.blockffn_default_threads()

    def set_threads(self, n: int) -> None:
        """Size of ExecuTorch's thread pool, shared by all programs of this process; not while one runs."""
        if n < 1:
            raise ValueError(f"threads={n}: use at least 1")
        if self._lib.blockffn_set_threads(n) != 0:
            raise RuntimeError(f"ExecuTorch refused a pool of {n} threads; leave out --threads")

    def take_stats(self) -> Stats:
        """Counters since the last call, for the whole process; they start again at zero."""
        raw = _CStats()
        self._lib.blockffn_take_stats(ctypes.byref(raw))
        return Stats(*(getattr(raw, name) for name, _ in _CStats._fields_))

    def last_error(self) -> str:
        """Sentence for the delegate's last error on this thread, or ""."""
        return (self._lib.blockffn_last_error() or b"").decode(errors="replace")


@functools.lru_cache(maxsize=None)
def _load(path: Path) -> Backend:
    return Backend(path)


def load_backend(lib: str | os.PathLike | None = None) -> Backend:
    """The backend of `lib`, else of $BLOCKFFN_LIB, else of build/; loaded once per process.

    Raises RuntimeError if there is no library there or ExecuTorch does not accept it.
    """
    path = Path(lib or os.environ.get(LIBRARY_VARIABLE) or DEFAULT_LIBRARY).resolve()
    if not path.is_file():
        raise RuntimeError(f"the backend library is missing: no file {path}; run `make build`, or name the library "
                           f"in ${LIBRARY_VARIABLE}")
    return _load(path)
