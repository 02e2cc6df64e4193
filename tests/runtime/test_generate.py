"""Generation: streaming of broken-up characters, stop strings, seeds, limits, the report and the command line."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from runtime_delegates.generate import Report, StopFilter, encode_prompt, generate, main
from runtime_delegates.loader import Stats
from runtime_delegates.sampling import Sampler
from runtime_delegates.session import ContextFull, Session
from training.tokenizer import load_tokenizer


class Scripted:
    """Stands in for a Session whose greedy choice is a given list of tokens, then end of text."""

    def __init__(self, tokens, max_context=1000, missed_calls=0):
        self.script, self.max_context, self.eos_ids, self.bos_id = [*tokens, 2], max_context, [2], 1
        self.steps = self.n_past = self.calls = 0
        self.missed_calls = missed_calls
        self.backend = SimpleNamespace(take_stats=self._take)

    def _take(self):
        calls, self.calls = self.calls, 0
        return Stats(calls=calls)

    def _logits(self):
        return torch.eye(400)[self.script.pop(0)]

    def prefill(self, ids, on_chunk=None):
        self.n_past += len(ids)
        self.steps, self.calls = self.steps + 1, self.calls + 1 - self.missed_calls
        return self._logits()

    def step(self, ids):
        self.n_past += 1
        self.steps, self.calls = self.steps + 1, self.calls + 1
        return self._logits()[None], None


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer):
    return load_tokenizer(tiny_tokenizer)


def pieces(session, tokenizer, max_tokens=100, stop=(), report=None, prompt=(1,)):
    report = Report() if report is None else report
    return list(generate(session, tokenizer, list(prompt), Sampler(), max_tokens, report, stop)), report


@pytest.mark.parametrize("text", ["plain words", "naïve 你好 😀 end", "e\u0301 👩\u200d👩\u200d👧 \u202eabc", "\n\t  two  spaces "])
def test_streaming_never_shows_part_of_a_character(tokenizer, text):
    ids = tokenizer.encode(text)
    got, report = pieces(Scripted(ids), tokenizer)
    assert "".join(got) == text and report.ids == ids and report.stopped_by == "end of text"
    shown = ""
    for piece in got:
        shown += piece
        assert text.startswith(shown)  # so no U+FFFD, and nothing is taken back
    if not text.isascii():
        assert "" in got  # some token ended inside a character and was held back


def test_a_character_cut_by_the_limit_is_shown_as_such(tokenizer):
    ids = tokenizer.encode("a😀")
    got, report = pieces(Scripted(ids), tokenizer, max_tokens=len(ids) - 1)
    assert "".join(got) == "a\ufffd" and report.stopped_by == "max tokens"


def test_generation_is_lazy(tokenizer):
    """The first piece is there before the second token is computed."""
    session = Scripted(tokenizer.encode("abc"))
    stream = generate(session, tokenizer, [1], Sampler(), 10, Report())
    assert next(stream) == "a" and session.steps == 1
    assert next(stream) == "b" and session.steps == 2


@pytest.mark.parametrize("chunks, stops, shown", [
    (["abc", "def"], ["cd"], "ab"), (["a", "b", "c"], ["abc"], ""), (["aab"], ["ab"], "a"), (["aaa", "ab"], ["aab"], "aa"),
    (["abab", "ac"], ["abac"], "ab"), (["abc"], ["x"], "abc"), (["abc"], ["cx"], "abc"), (["ab", "cd"], ["d", "bc"], "a"),
    (["xy"], ["", "y"], "x"), (["a\n", "\n", "b"], ["\n\n"], "a"), (["你", "好"], ["好"], "你"), (["abc"], [], "abc"),
])
def test_stop_filter(chunks, stops, shown):
    stop_filter = StopFilter(stops)
    out = [stop_filter.push(chunk) for chunk in chunks] + [stop_filter.flush()]
    text = "".join(chunks)
    assert "".join(out) == shown
    assert stop_filter.stopped == (shown != text)
    # Whatever the chunks: the result is the text before the first stop string.
    first = min((text.find(s) for s in stops if s and s in text), default=len(text))
    assert shown == text[:first]
    single = StopFilter(stops)
    assert "".join([single.push(c) for c in text] + [single.flush()]) == shown


def test_a_stop_string_ends_generation(tokenizer):
    session = Scripted(tokenizer.encode("one\n\ntwo"))
    got, report = pieces(session, tokenizer, stop=["\n\n"])
    assert "".join(got) == "one" and report.stopped_by == "stop string"
    assert session.script  # the rest was not generated
    got, report = pieces(Scripted(tokenizer.encode("ab")), tokenizer, stop=["bc"])
    assert "".join(got) == "ab" and report.stopped_by == "end of text"  # what was held back is shown in the end


def test_context_full_stops_generation(tokenizer):
    got, report = pieces(Scripted(tokenizer.encode("abcdefgh"), max_context=5), tokenizer, prompt=[1, 5, 6])
    # Rows for two more tokens, and the token that the last row predicts.
    assert "".join(got) == "abc" and report.stopped_by == "context full"
    assert (report.prompt_tokens, report.prefill_steps, report.decode_steps) == (3, 1, 2)


def test_a_missing_delegate_call_is_an_error(tokenizer):
    pieces(Scripted(tokenizer.encode("ab")), tokenizer)[1].check_delegate()
    with pytest.raises(RuntimeError, match="0 calls for 1 prefill steps"):
        pieces(Scripted(tokenizer.encode("ab"), missed_calls=1), tokenizer)[1].check_delegate()


# ---- with a real program ----
PROMPT = "Naïve café 😀"


@pytest.fixture(scope="module")
def pte(tiny_pte):
    return tiny_pte("int8", seed=4)


def cli(capsys, pte, tokenizer, *options):
    """(exit status, stdout, stderr, the JSON line or None) of the command, run in this process."""
    status = main([str(pte), "--tokenizer", str(tokenizer.path), *options])
    out, err = capsys.readouterr()
    return status, out, err, json.loads(out.splitlines()[-1]) if status == 0 and "--json" in options else None


def test_greedy_cli_equals_a_plain_loop(capsys, pte, tokenizer):
    session = Session(pte, threads=1)
    ids = [1, *tokenizer.encode(PROMPT)]
    logits = [session.step([i])[0][0] for i in ids][-1]
    want = []
    while len(want) < 12:
        want.append(int(logits.argmax()))
        assert want[-1] != 2  # this model does not end its text so soon
        logits = session.step([want[-1]])[0][0]
    status, out, err, report = cli(capsys, pte, tokenizer, "--prompt", PROMPT, "--max-tokens", "12", "--json")
    assert status == 0 and report["ids"] == want
    assert out.rsplit("\n", 2)[0] == tokenizer.decode(want)
    assert report["prompt_tokens"] == len(ids) and report["stopped_by"] == "max tokens"
    assert report["steps"] == report["delegate_calls"] == 12  # one prefill chunk, 11 decoded tokens
    assert report["backend"] == "BlockFFNBackend" and report["kernels"] in err
    assert 0 < report["decode_experts_read"] <= report["prefill_experts_read"] <= 1
    assert "12 calls for 12 steps" in err
    status, out, _, _ = cli(capsys, pte, tokenizer, "--prompt", PROMPT, "--max-tokens", "12", "--ids")
    assert [int(i) for i in out.split()] == want


def test_seeds_in_the_cli(capsys, pte, tokenizer):
    sampling = ("--prompt", "the", "--max-tokens", "30", "--temperature", "1.5", "--top-k", "50", "--json", "--seed")
    runs = [cli(capsys, pte, tokenizer, *sampling, seed)[3]["ids"] for seed in ("1", "1", "2")]
    assert runs[0] == runs[1] != runs[2]


def test_prompt_file_and_echo(capsys, pte, tokenizer, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT, encoding="utf-8")
    given = cli(capsys, pte, tokenizer, "--prompt", PROMPT, "--max-tokens", "3")[1]
    assert cli(capsys, pte, tokenizer, "--prompt-file", str(file), "--max-tokens", "3", "--echo")[1] == PROMPT + given
    file.write_bytes(b"\xff\xfe")
    status, _, err, _ = cli(capsys, pte, tokenizer, "--prompt-file", str(file))
    assert status == 1 and "not UTF-8" in err


def test_prompt_longer_than_the_context(capsys, pte, tokenizer):
    session = Session(pte)
    assert len(encode_prompt(session, tokenizer, "z" * 159)) == 160
    with pytest.raises(ContextFull, match="161 tokens.*max_context is 160"):
        encode_prompt(session, tokenizer, "z" * 160)
    capsys.readouterr()  # loading logs a line outside the command
    status, out, err, _ = cli(capsys, pte, tokenizer, "--prompt", "z" * 160)
    assert status == 1 and out == "" and err.count("\n") == 1
    assert "161 tokens" in err and "max_context is 160" in err
    status, _, err, report = cli(capsys, pte, tokenizer, "--prompt", "z" * 158, "--json")
    assert status == 0 and report["stopped_by"] == "context full" and report["generated_tokens"] == 2


def test_errors_are_one_sentence_and_status_1(capsys, pte, tokenizer, tmp_path, monkeypatch):
    other = tmp_path / "other.pte"
    other.write_bytes(b"not a program" * 10)
    for arguments, message in (([str(tmp_path / "none.pte")], "No such file"), ([str(other)], "not an ExecuTorch program"),
                               ([str(tmp_path)], "name a .pte file"), ([str(pte), "--tokenizer", str(tmp_path)], "no tokenizer.json"),
                               ([str(pte)], "--tokenizer")):
        assert main([*arguments, "--prompt", "x"]) == 1
        out, err = capsys.readouterr()
        assert out == "" and message in err and err.count("\n") == 1
    monkeypatch.setenv("BLOCKFFN_LIB", str(tmp_path / "lib.so"))
    assert main([str(pte), "--prompt", "x"]) == 1
    assert "make build" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--top-p", "0"], ["--temperature", "-1"], ["--max-tokens", "0"], ["--threads", "0"], ["--nonsense"]],
                         ids=str)
def test_bad_arguments_are_status_2(capsys, pte, options):
    with pytest.raises(SystemExit) as ended:
        main([str(pte), "--prompt", "x", *options])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main([str(pte)])  # no prompt
    assert ended.value.code == 2


def test_as_a_command_in_a_bare_locale(pte, tokenizer):
    """The documented command, with a stdout that is neither a terminal nor UTF-8 by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "runtime_delegates.generate", str(pte), "--tokenizer", str(tokenizer.path), "--prompt", "你好",
         "--echo", "--max-tokens", "4", "--json"], capture_output=True, timeout=300, env={"LC_ALL": "POSIX", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("utf-8").startswith("你好")
    assert json.loads(done.stdout.decode("utf-8").splitlines()[-1])["generated_tokens"] == 4
    assert len(done.stderr.splitlines()) == 4  # the report only, none of ExecuTorch's log


def test_all_experts(capsys, pte, tokenizer):
    arguments = ("--prompt", "The runtime", "--max-tokens", "9", "--json", "--experts")
    active, dense = (cli(capsys, pte, tokenizer, *arguments, which)[3] for which in ("active", "all"))
    assert active["ids"] == dense["ids"] and active["decode_experts_read"] < 1 == dense["decode_experts_read"]
