"""The runner's C interface with arguments that no wrapper passes: NULL, negative and huge ones; pipes, and forked processes."""

import ctypes
import json
import os
import subprocess
import sys
import threading
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_void_p

import numpy as np
import pytest

from runtime_delegates.runner import File, Info, Message, Options, RawStats, Runner, TextCallback, TokenCallback, load_library
from tests.conftest import ROOT

OK, BAD_ARGUMENT, BUSY = 0, 1, 5
NOTHING = TokenCallback(0), None


@pytest.fixture(scope="module")
def lib(backend):
    return load_library()


@pytest.fixture(scope="module")
def runner(tiny_pte, tiny_tokenizer):
    runner = Runner(tiny_pte("int8"))
    runner.load_tokenizer(tiny_tokenizer / "tokenizer.json")
    return runner


def options(lib, **values):
    raw = Options()
    lib.blockffn_runner_default_options(byref(raw))
    raw.max_tokens = 3
    for name, value in values.items():
        setattr(raw, name, value)
    return raw


def test_no_runner_is_a_bad_argument(lib):
    file, raw, count, stats, info = File(path=b"x"), options(lib), c_int64(), RawStats(cycles=9), Info(vocab_size=9)
    for code in (
        lib.blockffn_runner_generate(None, (c_int32 * 1)(1), 1, byref(raw), *NOTHING),
        lib.blockffn_runner_generate_text(None, b"a", 1, byref(raw), None, 0, TextCallback(0), None),
        lib.blockffn_runner_generate_chat(None, None, 0, byref(raw), None, 0, TextCallback(0), None),
        lib.blockffn_runner_encode(None, b"a", 1, 0, None, 0, byref(count)),
        lib.blockffn_runner_load_draft(None, byref(file)), lib.blockffn_runner_load_tokenizer(None, byref(file), None),
        lib.blockffn_runner_reset(None),
    ):
        assert code == BAD_ARGUMENT and lib.blockffn_runner_last_error(None) == b"no runner was given"
    lib.blockffn_runner_get_info(None, byref(info))
    lib.blockffn_runner_get_stats(None, byref(stats))
    assert info.vocab_size == 0 and stats.cycles == 0
    lib.blockffn_runner_cancel(None)
    lib.blockffn_runner_free(None)


def test_a_closed_runner_is_an_error(tiny_pte):
    runner = Runner(tiny_pte("int8"))
    runner.close()
    with pytest.raises(ValueError, match="no runner was given"):
        runner.generate([1, 2], 3)
    runner.cancel()
    runner.close()


def test_null_where_something_must_be(lib, runner):
    handle, raw, count, ids = runner._handle, options(lib), c_int64(), (c_int32 * 1)(1)
    no_role = (Message * 1)(Message(None, b"x"))
    for code, sentence in (
        (lambda: lib.blockffn_runner_generate(handle, None, 3, byref(raw), *NOTHING), b"no tokens"),
        (lambda: lib.blockffn_runner_generate(handle, ids, -5, byref(raw), *NOTHING), b"no tokens"),
        (lambda: lib.blockffn_runner_generate(handle, ids, 1, None, *NOTHING), b"no options"),
        (lambda: lib.blockffn_runner_generate_text(handle, None, 3, byref(raw), None, 0, TextCallback(0), None), b"prompt is NULL"),
        (lambda: lib.blockffn_runner_generate_text(handle, b"a", 1, byref(raw), None, 2, TextCallback(0), None), b"stop strings"),
        (lambda: lib.blockffn_runner_generate_text(handle, b"a", 1, None, None, 0, TextCallback(0), None), b"no options"),
        (lambda: lib.blockffn_runner_generate_chat(handle, no_role, 1, byref(raw), None, 0, TextCallback(0), None), b"no role"),
        (lambda: lib.blockffn_runner_encode(handle, None, 3, 0, None, 0, byref(count)), b"NULL"),
        (lambda: lib.blockffn_runner_encode(handle, b"a", 1, 0, None, 0, None), b"NULL"),
        (lambda: lib.blockffn_runner_encode(handle, b"a", 1, 0, None, 5, byref(count)), b"NULL"),
        (lambda: lib.blockffn_runner_load_tokenizer(handle, None, None), b"no tokenizer"),
    ):
        assert code() == BAD_ARGUMENT
        assert sentence in lib.blockffn_runner_last_error(handle)
    # Lists that are empty however they say so, and no callback at all.
    stops = (c_char_p * 2)(None, b"")
    for strings, n in ((stops, 2), (None, -1), (None, 0)):
        assert lib.blockffn_runner_generate_text(handle, b"a", 1, byref(raw), strings, n, TextCallback(0), None) == OK
    assert lib.blockffn_runner_encode(handle, b"abc", 3, 0, None, -7, byref(count)) == OK and count.value > 0
    for load in (lib.blockffn_runner_load, lib.blockffn_runner_load_steps):
        assert load(None, None, 0, None) is None
    assert lib.blockffn_runner_load(byref(File(path=b"/nowhere")), None, 0, None) is None
    lib.blockffn_runner_get_info(handle, None)
    lib.blockffn_runner_get_stats(handle, None)
    lib.blockffn_runner_default_options(None)


@pytest.mark.parametrize("values", [
    dict(draft_width=2**31 - 1, draft_depth=2**31 - 1), dict(max_tokens=2**31 - 1), dict(top_k=2**31 - 1, temperature=5e-324),
    dict(temperature=1.7e308), dict(repetition_penalty=1e-300), dict(repetition_penalty=1e300, temperature=1e-300), dict(seed=2**64 - 1),
    dict(top_p=5e-324, temperature=1.0),
], ids=str)
def test_extreme_options_run(lib, runner, values):
    found = []
    on_token = TokenCallback(lambda _, token: found.append(token) or len(found) == 20)
    raw = options(lib, mode=1, **values)
    assert lib.blockffn_runner_generate(runner._handle, (c_int32 * 4)(5, 9, 5, 9), 4, byref(raw), on_token, None) == OK
    assert found and all(0 <= token < runner.vocab_size for token in found)


@pytest.mark.parametrize("name", ["mode", "drafter", "experts", "draft_tokens", "draft_width", "draft_depth", "max_tokens", "top_k"])
def test_options_below_their_range(lib, runner, name):
    raw = options(lib, **{name: -(2**31)})
    assert lib.blockffn_runner_generate(runner._handle, (c_int32 * 1)(1), 1, byref(raw), *NOTHING) == BAD_ARGUMENT
    assert name.encode() in lib.blockffn_runner_last_error(runner._handle)


def test_a_normalizer_that_grows_texts_without_end_is_a_sentence(tiny_pte, tmp_path):
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({
        "normalizer": {"type": "Sequence", "normalizers": [double] * 40}, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}))
    runner = Runner(tiny_pte("int8"))
    runner.load_tokenizer(tmp_path)
    assert len(runner.encode("b" * 10**6, add_bos=False)) == 0
    with pytest.raises(RuntimeError, match="more than 16 times as long"):
        runner.encode("a")


@pytest.mark.parametrize("values", [dict(max_tokens=2**32 + 5), dict(draft_tokens=2**32 + 1), dict(top_k=-(2**32))], ids=str)
def test_python_refuses_what_c_would_cut_off(runner, values):
    with pytest.raises(ValueError, match="out of range"):
        runner.generate([1, 2], **{"max_tokens": 3} | values)


def test_python_refuses_texts_that_c_would_cut_off(runner):
    with pytest.raises(ValueError, match="a message holds a character of code 0"):
        runner.generate_chat([("user", "a\0b")])
    with pytest.raises(ValueError, match="a stop string"):
        runner.generate_text("a", stop=["\0"])


def test_the_sentence_of_a_busy_runner_is_the_caller_s_own(lib, tiny_pte):
    """The other thread's sentence may change at any moment, and says something else."""
    runner, entered, release = Runner(tiny_pte("int8")), threading.Event(), threading.Event()
    thread = threading.Thread(target=runner.generate, args=([5, 9, 5, 9, 5, 9, 42], 3, "plain"),
                              kwargs=dict(on_token=lambda t: entered.set() or release.wait() and False))
    thread.start()
    assert entered.wait(30)
    assert lib.blockffn_runner_reset(runner._handle) == BUSY
    assert b"running already" in lib.blockffn_runner_last_error(runner._handle)
    release.set()
    thread.join(30)
    assert lib.blockffn_runner_reset(runner._handle) == OK and lib.blockffn_runner_last_error(runner._handle) == b""


class Steps:
    """A step function whose logits are what the test says."""

    path, max_context, vocab_size, hidden_size, bos_id, eos_ids = ROOT, 128, 8, 2, None, []
    fingerprint = tokenizer_fingerprint = 0
    bad = np.float32(0)

    def run_chunk(self, ids, positions, n_past, tree_mask, kv_src, logits_start):
        logits = np.zeros((1, ids.shape[1], self.vocab_size), np.float32)
        logits[0, :logits_start[0]] = np.nan  # never asked for
        logits[0, -1, 3] = self.bad
        return logits, np.zeros((1, ids.shape[1], self.hidden_size), np.float32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_of_another_runtime_that_are_not_finite(bad):
    model = Steps()
    runner = Runner(model)
    assert len(runner.generate([1, 2, 3], 4, "spec").ids) == 4
    model.bad = np.float32(bad)
    with pytest.raises(RuntimeError, match="not finite"):
        runner.generate([1, 2, 3, 4, 5], 4)
    model.bad = np.float32(0)
    assert len(runner.generate([1, 2, 3], 4).ids) == 4


def test_a_pipe_is_refused_and_not_waited_for(lib, runner, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for load in (Runner, runner.load_tokenizer, runner.load_draft):
        with pytest.raises(RuntimeError, match="not a regular file"):
            load(pipe)
    script = "from pathlib import Path; import sys; from runtime_delegates.session import check_pte; check_pte(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, pipe], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "RuntimeError" in done.stderr and "not a regular file" in done.stderr


def test_programs_that_are_neither_models_nor_heads(runner, tmp_path):
    """They run in ExecuTorch, with our delegate, and say nothing about themselves."""
    from tests.delegate.programs import Dense, lower

    path, module = tmp_path / "dense.pte", Dense("int8", "odd")
    lower(module, module.inputs(7), path)
    with pytest.raises(RuntimeError, match="lacks our metadata"):
        Runner(path)
    with pytest.raises(RuntimeError, match="neither a draft head nor a language model"):
        runner.load_draft(path)


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**31 - 1])
def test_threads_that_no_machine_has(lib, threads):
    assert lib.blockffn_set_threads(threads) == -1


FORK = """
import os, signal, sys
from runtime_delegates.runner import Runner, set_threads
set_threads(2)
runner = Runner(sys.argv[1])
want = runner.generate([5, 9, 5, 9], 20, "spec").ids
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that waits for threads of its parent would do so for ever
    same = runner.generate([7], 5) and runner.generate([5, 9, 5, 9], 20, "spec").ids == want
    fresh = Runner(sys.argv[1]).generate([5, 9, 5, 9], 20, "spec").ids == want
    os._exit(0 if same and fresh else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(status, runner.generate([5, 9, 5, 9], 20, "spec").ids == want)
"""


def test_a_forked_process_goes_on_alone(tiny_pte):
    done = subprocess.run([sys.executable, "-c", FORK, tiny_pte("int8")], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["0", "True"], done.stderr[-2000:]


def test_getters_of_the_backend_take_null(backend):
    lib = ctypes.CDLL(backend.path)
    lib.blockffn_variant.argtypes, lib.blockffn_variant.restype = [c_int, POINTER(c_char_p)], c_int
    for name in ("blockffn_take_stats", "blockffn_last_call"):
        getattr(lib, name).argtypes, getattr(lib, name).restype = [c_void_p], None
        getattr(lib, name)(None)
    assert lib.blockffn_variant(0, None) in (0, 1) and lib.blockffn_variant(-1, None) == -1 == lib.blockffn_variant(99, None)
