"""The C++ runner from Python: speculative decoding over one exported program, in tokens or in text.

A program is a .pte, which the runner itself runs, or a StepModel, which another runtime runs chunk by chunk.

    with Runner("out/model.pte") as runner:
        result = runner.generate(prompt_ids, max_tokens=100, mode="auto", on_token=print)
        runner.load_tokenizer("out")
        result = runner.generate_text("Once upon a time", on_text=print)

Needs neither torch nor ExecuTorch's Python package.

Errors  ValueError for arguments, ContextFull (a ValueError) when the prompt does not fit, RuntimeError
        for a program that cannot be loaded and for a step or a drafter that failed.
Units   *_ms, tokens per second, shares in [0, 1].
Source  runtime_delegates/runner/blockffn_runner.h, the C interface mirrored here.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from runtime_delegates.stats import Stats
from runtime_delegates.text import ContextFull

LIBRARY_VARIABLE = "BLOCKFFN_RUNNER_LIB"
DEFAULT_LIBRARY = Path(__file__).resolve().parent.parent / "build" / "libblockffn_runner.so"
MODES = ("plain", "spec", "auto")
DRAFTERS = ("best", "ngram", "head")
EXPERTS = ("active", "all")
STOPS = ("", "end of text", "max tokens", "callback", "cancelled", "context full", "stop string")
MAX_ROWS = 64  # of a chunk

TokenCallback = ctypes.CFUNCTYPE(c_int, c_void_p, c_int32)
TextCallback = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(c_char), c_size_t)
DraftCallback = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(c_int32), c_int64, c_int32, c_int32, POINTER(c_int32),
                                 POINTER(c_int32), POINTER(c_float), POINTER(POINTER(c_double)))

CycleCallback = ctypes.CFUNCTYPE(None, c_void_p, c_int32, POINTER(c_int32), POINTER(c_int32), POINTER(c_float), POINTER(c_uint8))
StepCallback = ctypes.CFUNCTYPE(c_int, c_void_p, c_int32, POINTER(c_int64), POINTER(c_int64), c_int64, POINTER(c_int64),
                                POINTER(c_int64), c_int64, c_int32, POINTER(c_void_p), POINTER(c_void_p), POINTER(c_int64))


class StepModel(Protocol):
    """A decoder in any runtime, as onnx_model.OnnxModel. bos_id: None without; fingerprints: of the checkpoint and of its
    tokenizer, 0: unknown. A model that counts has `last_call` too, Stats of the last
    chunk; one that can compute all experts has `experts`, "active" or "all"."""

    path: Path
    max_context: int
    vocab_size: int
    hidden_size: int
    fingerprint: int
    tokenizer_fingerprint: int
    bos_id: int | None
    eos_ids: list[int]

    def run_chunk(self, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inputs of `forward` (export/README.md), int64 -> (logits [1, T, V], hidden [1, T, D]), float32."""


class Steps(ctypes.Structure):
    _fields_ = [("step", StepCallback), ("user", c_void_p), ("max_context", c_int64), ("vocab_size", c_int64),
                ("hidden_size", c_int64), ("fingerprint", c_int64), ("tokenizer_fingerprint", c_int64), ("bos_id", c_int32),
                ("eos_ids", c_int32 * 8)]


class File(ctypes.Structure):
    """A file by `path`, or `bytes` from `offset` on of the open descriptor `fd`; 0 bytes: to the end."""

    _fields_ = [("path", c_char_p), ("fd", c_int), ("offset", c_int64), ("bytes", c_int64)]

    @classmethod
    def of(cls, source: str | os.PathLike | File) -> File:
        return source if isinstance(source, File) else cls(path=os.fsencode(source), fd=-1)


class Message(ctypes.Structure):
    _fields_ = [("role", c_char_p), ("content", c_char_p)]


class Info(ctypes.Structure):
    _fields_ = [("max_context", c_int64), ("vocab_size", c_int64), ("hidden_size", c_int64), ("bos_id", c_int32),
                ("eos_ids", c_int32 * 8), ("kernels", c_char * 32), ("has_tokenizer", c_int32),
                ("has_draft_head", c_int32), ("chat_template", c_char * 16)]


class Options(ctypes.Structure):
    _fields_ = [("max_tokens", c_int32), ("mode", c_int32), ("drafter", c_int32), ("draft_tokens", c_int32),
                ("draft_width", c_int32), ("draft_depth", c_int32), ("experts", c_int32), ("temperature", c_double),
                ("top_k", c_int32), ("top_p", c_double), ("repetition_penalty", c_double), ("seed", c_uint64)]


class RawStats(ctypes.Structure):
    _fields_ = (
        [("stopped_by", c_int32)]
        + [(n, c_int64) for n in ("prompt_tokens", "reused_tokens", "generated_tokens", "cycles", "drafted_tokens",
                                  "accepted_tokens")]
        + [(n, c_double) for n in ("ttft_ms", "prefill_ms", "decode_ms", "draft_ms", "verify_ms", "other_ms", "calibrate_ms")]
        + [(n, c_int64 * (MAX_ROWS + 1)) for n in ("emitted_histogram", "chunks", "experts_read", "experts_total")]
        + [("prefill_experts_read", c_int64), ("prefill_experts_total", c_int64),
           ("chunk_ms", c_double * (MAX_ROWS + 1)), ("peak_rss_bytes", c_int64)]
    )


@dataclass
class Result:
    """What one generation did.

    ids               the new tokens, without the one that ended the text; of generate() alone
    text              the new text, up to a stop string; of generate_text() and generate_chat()
    tokens_per_cycle  decoding alone: the first token comes from the prefill
    emitted           {k: cycles that yielded k tokens}
    chunks            {T: cycles that verified a chunk of T tokens}
    union_share       {T: share of the experts that chunks of T tokens read}; empty without experts
    chunk_ms          {T: what mode auto expects a chunk of T tokens to take}; empty before it has measured
    """

    ids: list[int]
    text: str
    stopped_by: str
    prompt_tokens: int
    generated_tokens: int
    reused_tokens: int
    cycles: int
    drafted_tokens: int
    accepted_tokens: int
    ttft_ms: float
    prefill_ms: float
    decode_ms: float
    draft_ms: float
    verify_ms: float
    other_ms: float
    calibrate_ms: float
    emitted: dict[int, int]
    chunks: dict[int, int]
    union_share: dict[int, float]
    prefill_union_share: float | None
    chunk_ms: dict[int, float]
    peak_rss_bytes: int
    kernels: str

    @property
    def prefill_tokens_per_s(self) -> float | None:
        return _rate(self.prompt_tokens - self.reused_tokens, self.prefill_ms)

    @property
    def decode_tokens_per_s(self) -> float | None:
        return _rate(self.generated_tokens - 1, self.decode_ms)

    @property
    def tokens_per_cycle(self) -> float | None:
        emitted = sum(k * cycles for k, cycles in self.emitted.items())
        return emitted / self.cycles if self.cycles else None

    def to_dict(self) -> dict:
        return vars(self) | {name: getattr(self, name) for name in
                             ("prefill_tokens_per_s", "decode_tokens_per_s", "tokens_per_cycle")}


def _rate(count: int, ms: float) -> float | None:
    return round(count / ms * 1e3, 2) if count > 0 and ms > 0 else None


@functools.lru_cache(maxsize=None)
def load_library(path: Path | None = None) -> ctypes.CDLL:
    """The runner's library: `path`, else $BLOCKFFN_RUNNER_LIB, else build/. RuntimeError if it is not there."""
    path = Path(path or os.environ.get(LIBRARY_VARIABLE) or DEFAULT_LIBRARY).resolve()
    if not path.is_file():
        raise RuntimeError(f"the runner's library is missing: no file {path}; run `make build`, or name the library "
                           f"in ${LIBRARY_VARIABLE}")
    try:
        lib = ctypes.CDLL(str(path))
        for name, result, arguments in (
            ("load", c_void_p, [POINTER(File), c_char_p, c_size_t, POINTER(c_int)]),
            ("load_steps", c_void_p, [POINTER(Steps), c_char_p, c_size_t, POINTER(c_int)]),
            ("free", None, [c_void_p]),
            ("last_error", c_char_p, [c_void_p]),
            ("get_info", None, [c_void_p, POINTER(Info)]),
            ("default_options", None, [POINTER(Options)]),
            ("set_drafter", c_int, [c_void_p, DraftCallback, c_void_p]),
            ("set_observer", c_int, [c_void_p, CycleCallback, c_void_p]),
            ("generate", c_int, [c_void_p, POINTER(c_int32), c_int64, POINTER(Options), TokenCallback, c_void_p]),
            ("cancel", None, [c_void_p]),
            ("reset", c_int, [c_void_p]),
            ("get_stats", None, [c_void_p, POINTER(RawStats)]),
            ("load_draft", c_int, [c_void_p, POINTER(File)]),
            ("load_tokenizer", c_int, [c_void_p, POINTER(File), POINTER(File)]),
            ("encode", c_int, [c_void_p, c_char_p, c_size_t, c_int, POINTER(c_int32), c_int64, POINTER(c_int64)]),
            ("generate_text", c_int, [c_void_p, c_char_p, c_size_t, POINTER(Options), POINTER(c_char_p), c_int32,
                                      TextCallback, c_void_p]),
            ("generate_chat", c_int, [c_void_p, POINTER(Message), c_int32, POINTER(Options), POINTER(c_char_p), c_int32,
                                      TextCallback, c_void_p]),
        ):
            function = getattr(lib, f"blockffn_runner_{name}")
            function.restype, function.argtypes = result, arguments
        lib.blockffn_set_threads.argtypes = [c_int]
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"{path} is not a usable runner library ({error}); run `make build`") from None
    return lib


def c_string(text: str, what: str) -> bytes:
    """ValueError for what C would cut off."""
    if "\0" in text:
        raise ValueError(f"{what} holds a character of code 0; leave it out")
    return text.encode()


def set_threads(n: int) -> None:
    """Size of ExecuTorch's thread pool, shared by all runners of this process; not while one runs."""
    if n < 1:
        raise ValueError(f"threads={n}: use at least 1")
    if load_library().blockffn_set_threads(n) != 0:
        raise RuntimeError(f"ExecuTorch refused a pool of {n} threads; leave out --threads")


class Runner:
    """One loaded program with its context; generate() continues texts, and reuses a common beginning.

    path (None for a descriptor), max_context, vocab_size, hidden_size, bos_id (None without), eos_ids
    kernels        "" where another runtime runs the program
    chat_template  "chatml", "minicpm", "llama3"; "": none
    """

    def __init__(self, program: str | os.PathLike | File | StepModel) -> None:
        self._handle = None
        self._raised: BaseException | None = None  # in a callback
        self._lib = load_library()
        error = ctypes.create_string_buffer(1024)
        if hasattr(program, "run_chunk"):
            self.path, load, self._source = program.path, self._lib.blockffn_runner_load_steps, self._steps(program)
        else:
            self.path = None if isinstance(program, File) else Path(program)
            load, self._source = self._lib.blockffn_runner_load, File.of(program)
        self._handle = load(ctypes.byref(self._source), error, len(error), None)
        if not self._handle:
            raise RuntimeError(error.value.decode(errors="replace"))
        info = self._info()
        self.max_context, self.vocab_size, self.hidden_size = info.max_context, info.vocab_size, info.hidden_size
        self.bos_id = info.bos_id if info.bos_id >= 0 else None
        self.eos_ids = [i for i in info.eos_ids if i >= 0]
        self.kernels = info.kernels.decode()
        self._observer = CycleCallback()
        self._draft = DraftCallback()  # NULL; kept alive for as long as the library may call it, as self._source is

    def _steps(self, model: StepModel) -> Steps:
        """The model as the C interface has it; lives as long as the runner, for the library calls it."""
        outputs = []  # of the last step, which the library reads

        def call(_, tokens, ids, positions, n_past, tree_mask, kv_src, logits_start, all_experts, logits, hidden, experts):
            try:
                if hasattr(model, "experts"):
                    model.experts = EXPERTS[all_experts]
                elif all_experts:
                    raise ValueError("experts 'all': this model has no such switch, it computes what it was built to")
                chunk = (np.ctypeslib.as_array(ids, (1, tokens)), np.ctypeslib.as_array(positions, (tokens,)),
                         np.array([n_past]), np.ctypeslib.as_array(tree_mask, (tokens,)),
                         np.ctypeslib.as_array(kv_src, (MAX_ROWS,)), np.array([logits_start]))
                outputs[:] = (np.ascontiguousarray(array, np.float32) for array in model.run_chunk(*chunk))
                for array, size, place in zip(outputs, (model.vocab_size, model.hidden_size), (logits, hidden), strict=True):
                    if array.shape != (1, tokens, size):
                        raise RuntimeError(f"the model gave outputs of shape {array.shape} for {(1, tokens, size)}; "
                                           "export it again")
                    place[0] = array.ctypes.data
                stats = getattr(model, "last_call", Stats())
                experts[0], experts[1] = stats.experts_read, stats.experts_total
                return 0
            except BaseException as error:  # it cannot pass through C
                self._raised = error
                return 1

        eos_ids = (c_int32 * 8)(*(model.eos_ids[:8] + [-1] * 8)[:8])
        return Steps(StepCallback(call), None, model.max_context, model.vocab_size, model.hidden_size, model.fingerprint,
                     model.tokenizer_fingerprint, -1 if model.bos_id is None else model.bos_id, eos_ids)

    def close(self) -> None:
        """Frees the program; the runner cannot be used any more."""
        if self._handle:
            self._lib.blockffn_runner_free(self._handle)
            self._handle = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def set_drafter(self, draft: Callable[..., Sequence] | None) -> None:
        """Replaces the built-in drafters; None brings them back.

        draft(context, max_tokens, max_depth) -> proposals (token, parent) or (token, parent, confidence) or
        (token, parent, confidence, probs): rows 1, 2, ... of the chunk, see blockffn_draft_fn. `context` is
        a list of ids; probs a float64 array over the vocabulary, if the token was drawn from it.
        """
        keep = []

        def call(_, context, n, max_tokens, max_depth, tokens, parents, confidence, probs):
            try:
                keep.clear()
                proposals = list(draft(context[:n], max_tokens, max_depth))
                if len(proposals) > max_tokens:
                    raise ValueError(f"the drafter proposed {len(proposals)} tokens, more than {max_tokens}")
                for i, proposal in enumerate(proposals):
                    tokens[i], parents[i] = proposal[:2]
                    if len(proposal) > 2:
                        confidence[i] = proposal[2]
                    if len(proposal) > 3 and proposal[3] is not None:
                        table = (c_double * self.vocab_size).from_buffer_copy(memoryview(proposal[3]).cast("B"))
                        keep.append(table)
                        probs[i] = ctypes.cast(table, POINTER(c_double))
                return len(proposals)
            except BaseException as error:  # it cannot pass through C
                self._raised = error
                return -1

        callback = DraftCallback() if draft is None else DraftCallback(call)
        self._check(self._lib.blockffn_runner_set_drafter(self._handle, callback, None))
        self._draft = callback

    def set_observer(self, on_cycle: Callable[[list[tuple[int, int, float, bool, bool]]], object] | None) -> None:
        """on_cycle(rows) hears of every cycle: (token, parent, confidence, verified, accepted) of each row of the drafted
        tree, row 0 (the last token, parent -1) first. None: nobody watches. It must not call the runner."""

        def call(_, rows, tokens, parents, confidence, flags):
            try:
                on_cycle([(tokens[i], parents[i], confidence[i], bool(flags[i] & 1), bool(flags[i] & 2)) for i in range(rows)])
            except BaseException as error:  # it cannot pass through C
                self._raised = error
                self.cancel()

        callback = CycleCallback() if on_cycle is None else CycleCallback(call)
        self._check(self._lib.blockffn_runner_set_observer(self._handle, callback, None))
        self._observer = callback

    def load_tokenizer(self, tokenizer_json: str | os.PathLike | File,
                       config: str | os.PathLike | File | None = None) -> None:
        """tokenizer.json and tokenizer_config.json. A directory stands for both; the latter may be missing there."""
        if not isinstance(tokenizer_json, File) and Path(tokenizer_json).is_dir():
            folder = Path(tokenizer_json)
            tokenizer_json = folder / "tokenizer.json"
            config = folder / "tokenizer_config.json" if (folder / "tokenizer_config.json").is_file() else None
        self._check(self._lib.blockffn_runner_load_tokenizer(
            self._handle, ctypes.byref(File.of(tokenizer_json)), None if config is None else ctypes.byref(File.of(config))))

    def load_draft(self, head: str | os.PathLike | File | None) -> None:
        """A draft head made for this program, or a small language model with its tokenizer; None removes it."""
        self._check(self._lib.blockffn_runner_load_draft(self._handle, None if head is None else ctypes.byref(File.of(head))))

    @property
    def chat_template(self) -> str:
        return self._info().chat_template.decode()

    def encode(self, text: str, add_bos: bool = True) -> list[int]:
        """Ids of a text by the loaded tokenizer, after the model's bos; special tokens in it are plain text."""
        data, count = text.encode(), c_int64()
        ids = (c_int32 * (len(data) + 8))()
        while True:
            self._check(self._lib.blockffn_runner_encode(self._handle, data, len(data), add_bos, ids, len(ids),
                                                         ctypes.byref(count)))
            if count.value <= len(ids):
                return ids[: count.value]
            ids = (c_int32 * count.value)()

    def generate(self, prompt_ids: Sequence[int], max_tokens: int = 256, mode: str = "auto",
                 on_token: Callable[[int], object] | None = None, **options) -> Result:
        """Continues the prompt. on_token(id) is called for every new token; if it returns true, the text ends there.

        options: drafter (of DRAFTERS), draft_tokens, draft_width, draft_depth, temperature, top_k, top_p,
        repetition_penalty, seed, experts ("all" computes every expert, as a dense model does; the ids are the same).
        """
        raw = self._options(max_tokens, mode, options)
        ids: list[int] = []

        def call(_, token):
            return self._guarded(lambda: ids.append(token) or bool(on_token is not None and on_token(token)))

        if any(not -2**31 <= i < 2**31 for i in prompt_ids):
            raise ValueError(f"token ids must be 0 to {self.vocab_size - 1}")
        prompt = (c_int32 * len(prompt_ids))(*prompt_ids)
        self._run(self._lib.blockffn_runner_generate, prompt, len(prompt), ctypes.byref(raw), TokenCallback(call), None)
        return self._result(ids, "")

    def generate_text(self, prompt: str, max_tokens: int = 256, mode: str = "auto", stop: Sequence[str] = (),
                      on_text: Callable[[str], object] | None = None, **options) -> Result:
        """Continues a text; on_text(piece) as generate's on_token. Ends before the first of the stop strings."""
        data = prompt.encode()
        return self._generate_text(self._lib.blockffn_runner_generate_text, data, len(data), max_tokens, mode, stop, on_text, options)

    def generate_chat(self, messages: Sequence[tuple[str, str]], max_tokens: int = 256, mode: str = "auto",
                      stop: Sequence[str] = (), on_text: Callable[[str], object] | None = None, **options) -> Result:
        """Answers a conversation of (role, text), by the model's chat template."""
        raw = (Message * len(messages))(*(Message(c_string(role, "a role"), c_string(text, "a message")) for role, text in messages))
        return self._generate_text(self._lib.blockffn_runner_generate_chat, raw, len(raw), max_tokens, mode, stop, on_text, options)

    def _generate_text(self, function, prompt, length, max_tokens, mode, stop, on_text, options) -> Result:
        raw, pieces = self._options(max_tokens, mode, options), []

        def call(_, text, size):
            piece = ctypes.string_at(text, size).decode()
            return self._guarded(lambda: pieces.append(piece) or bool(on_text is not None and on_text(piece)))

        stops = (c_char_p * len(stop))(*(c_string(text, "a stop string") for text in stop))
        self._run(function, prompt, length, ctypes.byref(raw), stops, len(stops), TextCallback(call), None)
        return self._result([], "".join(pieces))

    def _options(self, max_tokens: int, mode: str, options: dict) -> Options:
        if mode not in MODES:
            raise ValueError(f"mode {mode!r}: choose {', '.join(MODES)}")
        raw = Options()
        self._lib.blockffn_runner_default_options(ctypes.byref(raw))
        for name, values in (("drafter", DRAFTERS), ("experts", EXPERTS)):
            if options.get(name, values[0]) not in values:
                raise ValueError(f"{name} {options[name]!r}: choose {', '.join(values)}")
            options = options | {name: values.index(options.get(name, values[0]))}
        for name, value in ({"max_tokens": max_tokens, "mode": MODES.index(mode)} | options).items():
            if name not in (field for field, _ in Options._fields_):
                raise ValueError(f"there is no option {name}")
            if name == "seed" and not 0 <= value < 2**64:
                raise ValueError(f"seed={value}: use 0 to 2^64 - 1")
            setattr(raw, name, value)
            if isinstance(value, int) and getattr(raw, name) != value:  # C has cut it off
                raise ValueError(f"{name}={value} is out of range")
        return raw

    def _guarded(self, body: Callable[[], bool]) -> int:
        """For callbacks: an exception cannot pass through C, so it ends the run and is raised behind it."""
        try:
            return body()
        except BaseException as error:
            self._raised = error
            return 1

    def _run(self, function, *arguments) -> None:
        self._raised = None
        code = function(self._handle, *arguments)
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        self._check(code)

    def cancel(self) -> None:
        """Ends the running generation within one cycle; from any thread."""
        self._lib.blockffn_runner_cancel(self._handle)

    def reset(self) -> None:
        """Forgets the context, and what mode auto has measured."""
        self._check(self._lib.blockffn_runner_reset(self._handle))

    def _check(self, code: int) -> None:
        if code == 0:
            return
        message = (self._lib.blockffn_runner_last_error(self._handle) or b"").decode(errors="replace")
        raise {1: ValueError, 3: ContextFull}.get(code, RuntimeError)(message)

    def _info(self) -> Info:
        info = Info()
        self._lib.blockffn_runner_get_info(self._handle, ctypes.byref(info))
        return info

    def _result(self, ids: list[int], text: str) -> Result:
        def by_size(values) -> dict:
            return {i: v for i, v in enumerate(values) if v}

        stats = RawStats()
        self._lib.blockffn_runner_get_stats(self._handle, ctypes.byref(stats))
        same = {name: getattr(stats, name) for name in Result.__dataclass_fields__ if hasattr(stats, name)}
        return Result(**same | dict(
            ids=ids, text=text, stopped_by=STOPS[stats.stopped_by], kernels=self.kernels,
            emitted=by_size(stats.emitted_histogram), chunks=by_size(stats.chunks),
            union_share={t: stats.experts_read[t] / total for t, total in by_size(stats.experts_total).items()},
            prefill_union_share=(stats.prefill_experts_read / stats.prefill_experts_total
                                 if stats.prefill_experts_total else None),
            chunk_ms=by_size(stats.chunk_ms)))
