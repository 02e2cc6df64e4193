"""An exported .onnx in ONNX Runtime, chunk by chunk: numpy in, numpy out; needs neither torch nor ExecuTorch.

    with Runner(OnnxModel("out/onnx/model.onnx")) as runner:      # speculative decoding, as over a .pte
        runner.generate([1, 42, 7], max_tokens=100)

Our operator library does the work, or, with plain=True, the stock operators that the file holds too: slow, and with
unpacked float32 weights in memory, but possible where no library can be loaded. The caches are tensors of this
process, bound as input and as output, so that they are updated in place.

Errors  RuntimeError for a file that cannot be loaded says what is wrong with it, and one for a step that failed.
Source  export/onnx_graph.py (inputs and outputs), runtime_delegates/onnxruntime (operators).
"""

from __future__ import annotations

import ctypes
import functools
import json
import math
import mmap
import os
import re
from pathlib import Path

import numpy as np

from runtime_delegates import FORMAT_VERSION
from runtime_delegates.stats import Stats

LIBRARY_VARIABLE = "BLOCKFFN_ORT_LIB"
DEFAULT_LIBRARY = Path(__file__).resolve().parent.parent / "build" / "libblockffn_onnxruntime.so"
COUNTS = ctypes.c_int64 * 5
INPUT_NAMES = ("token_ids", "positions", "n_past", "tree_mask", "kv_src", "logits_start")


def operator_library(lib: str | os.PathLike | None = None) -> Path:
    """The library of `lib`, else of $BLOCKFFN_ORT_LIB, else of build/; RuntimeError if there is none."""
    path = Path(lib or os.environ.get(LIBRARY_VARIABLE) or DEFAULT_LIBRARY).resolve()
    if not path.is_file():
        raise RuntimeError(f"the operator library is missing: no file {path}; run `make build`, or name the library "
                           f"in ${LIBRARY_VARIABLE}")
    return path


@functools.lru_cache(maxsize=None)
def _functions(path: Path):
    """The library's functions that fill five counts, and that switch between active (0) and all (1) experts."""
    try:
        library = ctypes.CDLL(str(path))
        found = library.blockffn_ort_last_call, library.blockffn_ort_all_experts
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"{path} is not a usable operator library ({error}); run `make build`") from None
    for function in found:
        function.restype = None
    return found


def last_call(library: Path) -> Stats:
    """Of this thread's last run of a model with the operators of `library`; asked again, of none."""
    counts = COUNTS()
    _functions(library)[0](counts)
    return Stats(*counts)


class OnnxModel:
    """One loaded model and its caches; threads=None leaves their number to the runtime.

    max_chunk, max_context, vocab_size, hidden_size, bos_id (None without), eos_ids
    fingerprint            of the checkpoint's weights, which a draft head for it names too; 0: unknown
    tokenizer_fingerprint  of its tokenizer, which a language model that drafts has too; 0: unknown
    experts                "active": a chunk reads the experts that it uses; "all": every one, as a dense model does, with
                           the same output. May be changed between chunks, not without our library.
    last_call              Stats of the last chunk; nothing is counted without our library
    """

    last_call, experts = Stats(), "active"

    def __init__(self, path: str | os.PathLike, threads: int | None = None, lib: str | os.PathLike | None = None,
                 plain: bool = False) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise RuntimeError(f"onnxruntime cannot be imported ({error}); pip install onnxruntime") from None
        self.path = Path(path)
        if not self.path.is_file():
            raise RuntimeError(f"{self.path}: no such file; name a .onnx file written by export/to_onnx.py")
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what it logs is in the exceptions too
        if threads is not None:
            if threads < 1:
                raise ValueError(f"threads={threads}: use at least 1")
            options.intra_op_num_threads = threads
        self._library, self._stats = None if plain else operator_library(lib), Stats()
        if self._library is not None:
            _functions(self._library)  # fails here if it is another library
            options.register_custom_ops_library(str(self._library))
        try:
            self._session = ort.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the binding's exceptions share no other base
            raise RuntimeError(f"{self.path}: ONNX Runtime cannot load this model ({_sentence(error)}); copy it again "
                               "with its .data file, or export it again") from None
        self._read_metadata(self._session.get_modelmeta().custom_metadata_map)
        self.hidden_size = self._session.get_outputs()[1].shape[2]
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        self._moves_rows = "kv_src" in shapes
        self._inputs = {name: np.empty([self.max_chunk if isinstance(d, str) else d for d in shapes[name]], np.int64)
                        for name in INPUT_NAMES if name in shapes}
        self._outputs = {name: np.empty((self.max_chunk, size), np.float32)
                         for name, size in (("logits", self.vocab_size), ("hidden", self.hidden_size))}
        self._tokens = 0  # that inputs and outputs are bound for
        self._caches = _zeros({name: shape for name, shape in shapes.items() if name.startswith("past_")})
        self._binding = self._session.io_binding()
        for name, cache in self._caches.items():
            place = ("cpu", 0, np.float32, cache.shape, cache.ctypes.data)
            self._binding.bind_input(name, *place)
            self._binding.bind_output(name.replace("past_", "present_"), *place)

    def _read_metadata(self, texts: dict[str, str]) -> None:
        version = texts.get("get_blockffn_format_version")
        if version is None:
            raise RuntimeError(f"{self.path}: not exported by export/to_onnx.py (it lacks our metadata); "
                               "export the checkpoint with that command")
        if json.loads(version) != FORMAT_VERSION:
            raise RuntimeError(f"{self.path}: format version {version}, this runtime runs version {FORMAT_VERSION}; "
                               "export the checkpoint again")
        values = {name: json.loads(text) for name, text in texts.items()}
        self.max_chunk = values["get_max_seq_len"]
        self.max_context = values["get_max_context_len"]
        self.vocab_size = values["get_vocab_size"]
        self.bos_id = values["get_bos_id"] if values["get_bos_id"] >= 0 else None
        self.eos_ids = [i for i in values["get_eos_ids"] if i >= 0]
        self.fingerprint = values.get("get_model_fingerprint", 0)
        self.tokenizer_fingerprint = values.get("get_tokenizer_fingerprint", 0)

    def run_chunk(self, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inputs of INPUT_NAMES, int64 -> (logits [1, T, V], hidden [1, T, D]), float32, valid until the next call."""
        named = dict(zip(INPUT_NAMES, inputs, strict=True))
        tokens = named["positions"].size
        if not 1 <= tokens <= self.max_chunk:
            raise ValueError(f"a chunk has 1 to {self.max_chunk} tokens, not {tokens}")
        if not self._moves_rows:
            self._compact(int(named["n_past"][0]), named["kv_src"])
        for name, buffer in self._inputs.items():
            values = named[name].ravel()
            buffer.ravel()[: values.size] = values
        if tokens != self._tokens:
            self._bind(tokens)
        self.last_call = Stats()
        self._choose_experts(self.experts)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise RuntimeError(f"the program failed: {_sentence(error)}") from None
        finally:
            self._choose_experts("active")  # of this thread, which may run other sessions
        if self._library is not None:
            self.last_call = last_call(self._library)
            self._stats += self.last_call
        logits, hidden = (buffer[None, :tokens] for buffer in self._outputs.values())
        return logits, hidden

    def _choose_experts(self, which: str) -> None:
        if which not in ("active", "all"):
            raise ValueError(f"experts {which!r}: choose active or all")
        if self._library is not None:
            _functions(self._library)[1](which == "all")
        elif which == "all":
            raise ValueError("experts 'all' is a switch of our operator library; stock operators compute what they always do")

    def take_stats(self) -> Stats:
        """Counts of this model since the last call; they start again at zero."""
        stats, self._stats = self._stats, Stats()
        return stats

    def _bind(self, tokens: int) -> None:
        """The beginnings of the buffers as tensors of so many tokens: binding anew for each token would take a tenth of it."""
        for name, buffer in self._inputs.items():
            shape = [tokens if d == self.max_chunk and name != "kv_src" else d for d in buffer.shape]
            self._binding.bind_input(name, "cpu", 0, np.int64, shape, buffer.ctypes.data)
        for name, buffer in self._outputs.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, (1, tokens, buffer.shape[1]), buffer.ctypes.data)
        self._tokens = tokens

    def _compact(self, n_past: int, kv_src: np.ndarray) -> None:
        """Keeps the accepted rows of the previous chunk, for a model that does not do it itself."""
        kept = kv_src[kv_src >= 0]
        base = n_past - len(kept)
        if not np.array_equal(kept, np.arange(len(kept))):
            for cache in self._caches.values():  # [1, heads, rows, head size]
                cache[:, :, base:n_past] = cache[:, :, base + kept]


def _zeros(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Float32 tensors of zeros in pages that cost nothing until they are written; np.zeros may write them all."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # not on Windows
    pages, tensors, at = mmap.mmap(-1, 4 * sum(sizes.values()) + 1, **private), {}, 0
    for name, size in sizes.items():
        tensors[name] = np.frombuffer(pages, np.float32, size, at).reshape(shapes[name])
        at += 4 * size
    return tensors


def _sentence(error: BaseException) -> str:
    """What the runtime or an operator said, without codes and source positions."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"^.*(Status Message:|\.cc:\d+ \S+) *", "", text)
